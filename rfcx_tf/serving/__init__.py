"""Trained models for other programs: SavedModel, LiteRT files, a server."""
