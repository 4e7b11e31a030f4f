"""Recordings of a review -> stretches of sound and spectrograms, as the page asks for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rfcx_tf.audio.decode import open_recording
from rfcx_tf.audio.excerpt import Excerpt, read_excerpt
from rfcx_tf.core.errors import UserError
from rfcx_tf.review.clips import clip_wav, spectrogram_png

# A longer stretch would take long to decode and say little in a picture.
LONGEST_S = 120.0


class Sounds:
    """Opens recordings by their ids; nobody who asks names a path."""

    def __init__(self, files: Mapping[str, Path]):
        self._files = dict(files)
        self._extents: dict[Path, tuple[float, float]] = {}

    def file(self, recording_id: str, named: str) -> Path:
        """The recording's file: where it was found, or else the one that the table names.

        Raises:
            UserError: if it is not there.
        """
        path = self._files.get(recording_id) or Path(named)
        if not named or not path.is_file():
            raise UserError(
                f"The recording {recording_id} must be there. Not found: "
                f"{named or 'no file is named'}. Start the review with --audio FOLDER."
            )
        return path

    def extent(self, path: Path) -> tuple[float, float]:
        """Length in seconds and highest frequency in Hz; AudioError if it cannot be read."""
        if path not in self._extents:
            with open_recording(path) as sound:
                self._extents[path] = sound.frames / sound.rate_hz, sound.rate_hz / 2
        return self._extents[path]

    def wav(self, path: Path, begin_s: float, end_s: float) -> bytes:
        """A WAV file of a stretch."""
        return clip_wav(self._excerpt(path, begin_s, end_s))

    def png(self, path: Path, begin_s: float, end_s: float, top_hz: float) -> bytes:
        """A spectrogram of a stretch, from 0 Hz up."""
        if not 0 < top_hz < math.inf:
            raise UserError(f"A picture reaches to more than 0 Hz. Received: {top_hz:g}.")
        return spectrogram_png(self._excerpt(path, begin_s, end_s), top_hz)

    def _excerpt(self, path: Path, begin_s: float, end_s: float) -> Excerpt:
        if not 0 <= begin_s < end_s <= begin_s + LONGEST_S:
            raise UserError(
                f"A stretch ends after it begins and has at most {LONGEST_S:g} s. "
                f"Received: {begin_s:g} to {end_s:g} s."
            )
        return read_excerpt(path, begin_s, end_s)
