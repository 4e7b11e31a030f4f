"""Pretrained embedding models that learn the species of a run: regressions on embeddings."""
