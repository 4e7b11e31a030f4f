"""Waveform to spectrogram to window logits."""
