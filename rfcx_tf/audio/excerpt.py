"""A stretch of a recording as it is in the file, to look at and to listen to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfcx_tf.audio.channels import ChannelMixer
from rfcx_tf.audio.decode import AudioError, open_recording
from rfcx_tf.core.errors import DecodingError


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording.

    Attributes:
        samples: float32 [samples], the mean of the channels, or the louder one where it is silence.
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
    with open_recording(path) as sound:
        rate_hz = sound.rate_hz
        first = max(0, round(begin_s * rate_hz))
        last = min(sound.frames, round(end_s * rate_hz))
        if last <= first:
            raise AudioError(
                f"The recording {path} must be the one that the events were found in. "
                f"It has ended at {sound.frames / rate_hz:.3f} s, an event is at {begin_s:.3f}."
            )
        try:
            sound.seek(first)
            mixer = ChannelMixer(rate_hz, None)
            samples = np.concatenate([mixer.push(sound.read(last - first)), mixer.finish()])
        except DecodingError:
            samples = np.zeros(0, np.float32)
    if len(samples) < last - first or not np.isfinite(samples).all():
        raise AudioError(f"The recording {path} is damaged near {begin_s:.3f} s. Copy it again.")
    return Excerpt(samples, rate_hz, first / rate_hz)
