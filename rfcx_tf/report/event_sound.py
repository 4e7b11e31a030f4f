"""A stretch of a recording -> sound that every browser plays, small enough for a page."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

from rfcx_tf.review.clips import Excerpt

# What MP3 knows; other rates become the next higher, or the highest.
_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Recorders in quiet places write calls that a phone's loudspeaker would not make audible.
_PEAK = 10 ** (-3 / 20)
_MOST_GAIN = 10 ** (40 / 20)


def encode_mp3(excerpt: Excerpt) -> bytes:
    """Encodes an excerpt as MP3 of variable bit rate, mono, its peak raised to -3 dB.

    It is raised by 40 dB at most, and lowered where it is louder. MP3, since it is what all
    browsers play, the iPhone's too; 5 s at 24 kHz are some 30 kB, as FLAC about four times that.
    """
    rate_hz = next((r for r in _RATES_HZ if r >= excerpt.sample_rate_hz), _RATES_HZ[-1])
    samples = excerpt.samples
    if rate_hz != excerpt.sample_rate_hz:
        samples = soxr.resample(samples, excerpt.sample_rate_hz, rate_hz)
    peak = float(np.abs(samples).max(initial=0))
    samples = samples * min(_MOST_GAIN, _PEAK / max(peak, 1e-9))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, "MPEG_LAYER_III", format="MP3")
    return buffer.getvalue()
