"""Prediction over archives that are too large for one machine."""
