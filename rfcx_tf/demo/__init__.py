"""A synthetic rainforest to try everything on."""
