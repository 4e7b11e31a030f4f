"""Boxes and frames to TFRecord crops; crops to batches."""
