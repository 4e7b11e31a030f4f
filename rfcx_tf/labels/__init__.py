"""Boxes on recordings, from tables of several programs; folds."""
