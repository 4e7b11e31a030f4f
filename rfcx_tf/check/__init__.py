"""Boxes and sound before training: what is there, what is doubtful, which recipe fits."""
