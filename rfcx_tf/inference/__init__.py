"""Recordings and trained models in, scores and their evaluation out."""
