"""Waveform to mel and PCEN frames."""
