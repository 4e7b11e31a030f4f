"""A stretch of a recording -> a WAV clip to listen to and a spectrogram to look at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from scipy.signal import stft

from rfcx_tf.audio.excerpt import Excerpt
from rfcx_tf.core.files import atomic_file
from rfcx_tf.frontend.picture import draw_spectrogram

# Okabe and Ito's sky blue, which stands out from the whole of the map `magma`.
_BOX = "#56B4E9"
_RANGE_DB = 70.0
# Loudspeakers give no more, and some browsers take no more.
_HIGHEST_RATE_HZ = 48000
# Recorders in quiet places write calls that a phone's loudspeaker would not make audible.
_PEAK = 10 ** (-3 / 20)
_MOST_GAIN = 10 ** (40 / 20)


class Spectrogram(NamedTuple):
    """Levels of a stretch of sound.

    Attributes:
        level_db: float [bands, frames], the lowest band first.
        times_s: of the frames' centres, from the beginning of the excerpt.
        hz: of the bands' centres.
        darkest_db: the level that is drawn black. A little of the background stays visible, so
            that faint calls can be told from it.
    """

    level_db: np.ndarray
    times_s: np.ndarray
    hz: np.ndarray
    darkest_db: float


def raise_peak(samples: np.ndarray) -> np.ndarray:
    """Raises the peak of samples to -3 dB, by at most 40 dB."""
    peak = float(np.abs(samples).max(initial=0))
    return samples * min(_MOST_GAIN, _PEAK / max(peak, 1e-9))


def clip_wav(excerpt: Excerpt) -> bytes:
    """A mono WAV of 16 bits to listen to, its peak raised; at most 48 kHz."""
    samples, rate_hz = excerpt.samples, excerpt.sample_rate_hz
    if rate_hz > _HIGHEST_RATE_HZ:
        samples, rate_hz = soxr.resample(samples, rate_hz, _HIGHEST_RATE_HZ), _HIGHEST_RATE_HZ
    buffer = io.BytesIO()
    soundfile.write(buffer, raise_peak(samples), rate_hz, "PCM_16", format="WAV")
    return buffer.getvalue()


def write_clip(excerpt: Excerpt, path: str | Path) -> None:
    """Writes `clip_wav` to a file."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(clip_wav(excerpt))


def event_band_hz(event, highest_hz: float) -> tuple[float, float]:
    """Lower and upper bound of an event; of an event without a band, all frequencies."""
    low_hz = 0.0 if np.isnan(event.low_hz) else event.low_hz
    high_hz = highest_hz if np.isnan(event.high_hz) else event.high_hz
    return low_hz, high_hz


def view_top_hz(high_hz: float, highest_hz: float) -> float:
    """Up to where a spectrogram of a call is drawn: twice its upper bound, at least 2 kHz."""
    return min(highest_hz, max(2 * high_hz, 2000.0))


def spectrogram(excerpt: Excerpt, top_hz: float, columns: int = 1500) -> Spectrogram:
    """Levels in decibels up to a frequency, in about as many columns at most."""
    # Some 25 ms resolve both the beat of a call and its pitch.
    length = 2 ** round(np.log2(0.025 * excerpt.sample_rate_hz))
    hop = max(length // 8, len(excerpt.samples) // columns)
    hz, times_s, transform = stft(
        np.pad(excerpt.samples, (0, max(0, length - len(excerpt.samples)))),
        excerpt.sample_rate_hz,
        nperseg=length,
        noverlap=max(0, length - hop),
    )
    shown = hz <= top_hz
    level_db = 20 * np.log10(np.abs(transform[shown]) + 1e-7)
    darkest_db = max(np.percentile(level_db, 20), level_db.max() - _RANGE_DB)
    return Spectrogram(level_db, times_s, hz[shown], float(darkest_db))


def spectrogram_png(excerpt: Excerpt, top_hz: float) -> bytes:
    """A PNG of a spectrogram without axes: it reaches from the excerpt's begin to its end."""
    from matplotlib.image import imsave

    shown = spectrogram(excerpt, top_hz)
    buffer = io.BytesIO()
    imsave(buffer, shown.level_db[::-1], vmin=shown.darkest_db, cmap="magma", format="png")
    return buffer.getvalue()


def draw_event(axis, event, excerpt: Excerpt, columns: int = 1500) -> None:
    """Draws a spectrogram in decibels with the event's box, up to twice its upper bound.

    Args:
        axis: matplotlib axes: seconds in the recording by kHz.
        event: a row of a table of events.
        excerpt: the sound around it.
        columns: about as many frames at most; the default is more than a picture of a review has.
    """
    highest_hz = excerpt.sample_rate_hz / 2
    low_hz, high_hz = event_band_hz(event, highest_hz)
    top_hz = view_top_hz(high_hz, highest_hz)
    shown = spectrogram(excerpt, top_hz, columns)
    begin_s = excerpt.begin_s
    # A long event reaches beyond the excerpt, a band of another sample rate beyond the top.
    box_s = np.clip([event.start_s, event.end_s], begin_s, excerpt.end_s)
    box_khz = np.clip([low_hz, high_hz], 0, top_hz) / 1000
    draw_spectrogram(
        axis,
        shown.level_db,
        (begin_s + shown.times_s[0], begin_s + shown.times_s[-1], 0.0, shown.hz[-1] / 1000),
        (*box_s, *box_khz),
        _BOX,
        darkest=shown.darkest_db,
    )
    axis.set(xlim=(begin_s, excerpt.end_s), ylim=(0, top_hz / 1000))
