"""A stretch of a recording -> a WAV clip to listen to and a spectrogram to look at."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import get_window
from scipy.signal import stft as short_time_transform

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.core.files import atomic_file

# Okabe and Ito's sky blue, which stands out from the whole of the map `magma`.
_BOX = "#56B4E9"
_RANGE_DB = 70.0


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording as it is in the file.

    Attributes:
        samples: float32 [samples], the mean of the channels.
        sample_rate_hz: of the file.
        begin_s: where it begins in the recording.
    """

    samples: np.ndarray
    sample_rate_hz: int
    begin_s: float

    @property
    def end_s(self) -> float:
        """Where it ends in the recording."""
        return self.begin_s + len(self.samples) / self.sample_rate_hz


def read_excerpt(path: str | Path, begin_s: float, end_s: float) -> Excerpt:
    """Reads from one second to another, or as much of that as the recording has.

    Only the stretch is decoded, so recordings may be of any length.

    Raises:
        AudioError: if the recording cannot be read there, or has ended before.
    """
    try:
        with soundfile.SoundFile(path) as sound:
            rate_hz = sound.samplerate
            first = max(0, round(begin_s * rate_hz))
            last = min(sound.frames, round(end_s * rate_hz))
            if last <= first:
                raise AudioError(
                    f"The recording {path} must be the one that the events were found in. "
                    f"It has ended at {sound.frames / rate_hz:.3f} s, an event is at {begin_s:.3f}."
                )
            sound.seek(first)
            samples = sound.read(last - first, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"The recording {path} cannot be read: {error}") from None
    if len(samples) < last - first or not np.isfinite(samples).all():
        raise AudioError(f"The recording {path} is damaged near {begin_s:.3f} s. Copy it again.")
    return Excerpt(samples, rate_hz, first / rate_hz)


def write_clip(excerpt: Excerpt, path: str | Path) -> None:
    """Writes a mono WAV of 16 bits at the recording's own sample rate."""
    with atomic_file(path) as temporary:
        samples = np.clip(excerpt.samples, -1.0, 1.0)
        soundfile.write(temporary, samples, excerpt.sample_rate_hz, "PCM_16", format="WAV")


def draw_excerpt(
    excerpt: Excerpt, box_s: tuple[float, float], box_hz: tuple[float, float], title: str
) -> bytes:
    """Draws a spectrogram in decibels with a box, up to twice the box's upper bound.

    Args:
        excerpt: the sound.
        box_s: begin and end of the box, seconds in the recording.
        box_hz: lower and upper bound of the box.
        title: a line above it.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    hz, times_s, level_db = spectrogram_db(excerpt)
    top_hz = min(excerpt.sample_rate_hz / 2, max(2 * box_hz[1], 2000.0))
    shown = hz <= top_hz
    # A little of the background stays visible, so that faint calls can be told from it.
    darkest = max(np.percentile(level_db[shown], 20), level_db[shown].max() - _RANGE_DB)
    figure = Figure(figsize=(7, 3.5))
    # Placed by hand, since an automatic layout takes as long as all the rest.
    axis = figure.add_axes((0.08, 0.14, 0.9, 0.76))
    axis.imshow(
        level_db[shown],
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=darkest,
        vmax=max(level_db[shown].max(), darkest + 1e-3),
        extent=(
            excerpt.begin_s + times_s[0],
            excerpt.begin_s + times_s[-1],
            0.0,
            hz[shown][-1] / 1000,
        ),
    )
    axis.add_patch(
        Rectangle(
            (box_s[0], box_hz[0] / 1000),
            box_s[1] - box_s[0],
            (box_hz[1] - box_hz[0]) / 1000,
            fill=False,
            edgecolor=_BOX,
            linewidth=1.5,
        )
    )
    axis.set_xlim(excerpt.begin_s, excerpt.end_s)
    axis.set_ylim(0, top_hz / 1000)
    # A name may hold a $, which would begin a formula.
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.set_xlabel("seconds in the recording")
    axis.set_ylabel("kHz")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def spectrogram_db(
    excerpt: Excerpt, columns: int = 1500
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A spectrogram to look at.

    Args:
        excerpt: the sound.
        columns: about as many frames at most; the default is more than a picture of the review has.

    Returns:
        Frequencies [bins] in Hz, times [frames] in seconds from the excerpt's begin, and levels
        [bins, frames] in dB.
    """
    # Some 25 ms resolve both the beat of a call and its pitch.
    length = 2 ** round(np.log2(0.025 * excerpt.sample_rate_hz))
    hop = max(length // 8, len(excerpt.samples) // columns)
    hz, times_s, transform = short_time_transform(
        np.pad(excerpt.samples, (0, max(0, length - len(excerpt.samples)))),
        excerpt.sample_rate_hz,
        window=get_window("hann", length),
        nperseg=length,
        noverlap=max(0, length - hop),
    )
    return hz, times_s, 20 * np.log10(np.abs(transform) + 1e-7)
