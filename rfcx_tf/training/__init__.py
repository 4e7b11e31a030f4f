"""Shards and a recipe in, a run folder out."""
