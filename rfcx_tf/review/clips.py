"""A stretch of a recording -> a WAV clip to listen to and a spectrogram to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import stft

from rfcx_tf.audio.excerpt import Excerpt
from rfcx_tf.core.files import atomic_file
from rfcx_tf.frontend.picture import draw_spectrogram, figure_png

# Okabe and Ito's sky blue, which stands out from the whole of the map `magma`.
_BOX = "#56B4E9"
_RANGE_DB = 70.0


def write_clip(excerpt: Excerpt, path: str | Path) -> None:
    """Writes a mono WAV of 16 bits at the recording's own sample rate."""
    with atomic_file(path) as temporary:
        samples = np.clip(excerpt.samples, -1.0, 1.0)
        soundfile.write(temporary, samples, excerpt.sample_rate_hz, "PCM_16", format="WAV")


def event_band_hz(event, excerpt: Excerpt) -> tuple[float, float]:
    """Lower and upper bound of an event; of an event without a band, all frequencies."""
    low_hz = 0.0 if np.isnan(event.low_hz) else event.low_hz
    high_hz = excerpt.sample_rate_hz / 2 if np.isnan(event.high_hz) else event.high_hz
    return low_hz, high_hz


def draw_event(axis, event, excerpt: Excerpt, columns: int = 1500) -> None:
    """Draws a spectrogram in decibels with the event's box, up to twice its upper bound.

    Args:
        axis: matplotlib axes: seconds in the recording by kHz.
        event: a row of a table of events.
        excerpt: the sound around it.
        columns: about as many frames at most; the default is more than a picture of a review has.
    """
    # Some 25 ms resolve both the beat of a call and its pitch.
    length = 2 ** round(np.log2(0.025 * excerpt.sample_rate_hz))
    hop = max(length // 8, len(excerpt.samples) // columns)
    hz, times_s, transform = stft(
        np.pad(excerpt.samples, (0, max(0, length - len(excerpt.samples)))),
        excerpt.sample_rate_hz,
        nperseg=length,
        noverlap=max(0, length - hop),
    )
    low_hz, high_hz = event_band_hz(event, excerpt)
    top_hz = min(excerpt.sample_rate_hz / 2, max(2 * high_hz, 2000.0))
    shown = hz <= top_hz
    level_db = 20 * np.log10(np.abs(transform[shown]) + 1e-7)
    begin_s = excerpt.begin_s
    # A long event reaches beyond the excerpt, a band of another sample rate beyond the top.
    box_s = np.clip([event.start_s, event.end_s], begin_s, excerpt.end_s)
    box_khz = np.clip([low_hz, high_hz], 0, top_hz) / 1000
    draw_spectrogram(
        axis,
        level_db,
        (begin_s + times_s[0], begin_s + times_s[-1], 0.0, hz[shown][-1] / 1000),
        (*box_s, *box_khz),
        _BOX,
        # A little of the background stays visible, so that faint calls can be told from it.
        darkest=max(np.percentile(level_db, 20), level_db.max() - _RANGE_DB),
    )
    axis.set(xlim=(begin_s, excerpt.end_s), ylim=(0, top_hz / 1000))


def event_png(event, excerpt: Excerpt, title: str) -> bytes:
    """A PNG of `draw_event` with axes and a title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5))
    # Placed by hand, since an automatic layout takes as long as all the rest.
    axis = figure.add_axes((0.08, 0.14, 0.9, 0.76))
    draw_event(axis, event, excerpt)
    # A name may hold a $, which would begin a formula.
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.set(xlabel="seconds in the recording", ylabel="kHz")
    return figure_png(figure, dpi=90)
