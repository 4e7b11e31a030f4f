"""Trained models out into the world: SavedModel."""
