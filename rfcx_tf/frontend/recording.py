"""A recording's waveform [samples] -> its spectrogram [frames, bands], whole or where it is wanted.

The front end costs more than decoding, and crops are a small part of most recordings. Log-mel
has no memory, so any frames can be computed alone. PCEN divides by a smoothed level that has
forgotten all but a millionth of what was a few seconds ago, so it is begun that much earlier.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rfcx_tf.core.config import COMPRESSIONS, Config, FrontEndConfig

if TYPE_CHECKING:
    # Imports TensorFlow, which a process that plans shards can do without.
    from rfcx_tf.frontend.frontend import FrontEndStream

# A millionth of the level before a warm-up is left after it. PCEN changes at most in proportion
# to that level: below 1e-4 of its value, a fifth of float16's rounding, where the level had not
# fallen by more than 40 dB meanwhile.
_FORGOTTEN = 1e-6
# Of frames from samples to mel bands; they take about 1 MB inside the front end.
_FRAMES_AT_ONCE = 32


class RecordingTransform:
    """The front end of a recipe, traced once, for any number of recordings and threads.

    Example:
        >>> transform = RecordingTransform(config)
        >>> spectrogram = transform(waveform)
        >>> around_a_call = transform.around(waveform, [(1000, 1470)])[1000:1470]
    """

    def __init__(self, config: Config) -> None:
        from rfcx_tf.frontend.frontend import FrontEnd

        self._config = config.frontend
        self._front_end = FrontEnd(config.frontend, frames_at_once=_FRAMES_AT_ONCE)

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """All frames of a recording: float32 [1 + samples // hop_length, bands]."""
        return self.around(waveform, [(0, 1 + len(waveform) // self._config.hop_length)])

    def stream(self) -> FrontEndStream:
        """The same for one recording piece by piece."""
        from rfcx_tf.frontend.frontend import FrontEndStream

        return FrontEndStream(self._front_end)

    def around(self, waveform: np.ndarray, pieces: list[tuple[int, int]]) -> np.ndarray:
        """Some frames of a recording; the others are zeros, but for some near the wanted ones.

        Values of PCEN are those of the whole recording to 1e-4 (see above), those of log-mel
        are the same.

        Args:
            waveform: float32 [samples]; only those of `samples_around` count.
            pieces: first frame and the one after the last of what is wanted, in any order; all
                at most 1 + samples // hop_length.

        Returns:
            float32 [1 + samples // hop_length, bands].
        """
        frames = 1 + len(waveform) // self._config.hop_length
        spectrogram = np.zeros([frames, self._config.bands], np.float32)
        for start, first, end in spans(pieces, warm_up_frames(self._config)):
            spectrogram[first:end] = self._frames(waveform, start, end)[first - start :]
        return spectrogram

    def samples_around(self, pieces: list[tuple[int, int]], samples: int) -> list[tuple[int, int]]:
        """Those samples that `around` needs to know for pieces.

        Args:
            pieces: as for `around`.
            samples: length of the recording; what reaches beyond is silence.

        Returns:
            First sample and the one after the last; in order, overlapping or apart.
        """
        reaches = [
            self._reach(start, end) for start, _, end in spans(pieces, warm_up_frames(self._config))
        ]
        return [(min(max(begin, 0), samples), min(after, samples)) for begin, after in reaches]

    def _reach(self, start: int, end: int) -> tuple[int, int]:
        """First sample of frames and the one after the last; maybe outside the recording."""
        hop_length, n_fft = self._config.hop_length, self._config.n_fft
        # Frame k is centred on sample k * hop_length, with silence around the recording.
        begin = start * hop_length - n_fft // 2
        return begin, begin + (end - 1 - start) * hop_length + n_fft

    def _frames(self, waveform: np.ndarray, start: int, end: int) -> np.ndarray:
        """Frames from `start` on, with the smoother as at the recording's begin if that is 0."""
        begin, after = self._reach(start, end)
        samples = waveform[max(begin, 0) : after]
        samples = np.pad(samples, (max(-begin, 0), max(after - len(waveform), 0)))
        state = self._front_end.initial_state(1)
        # Negative: as the first frame is.
        state = state if start == 0 else -np.ones_like(state)
        return np.asarray(self._front_end.advance(samples[np.newaxis], state)[0])[0]


def use_one_thread_an_operation() -> None:
    """For a process that transforms recordings side by side, before TensorFlow computes anything.

    The front end's operations are small: to share one among threads costs more than it gives where
    another recording keeps the other core busy (on two cores 42 instead of 57 ms a recording).
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)


def warm_up_frames(config: FrontEndConfig) -> int:
    """After how many frames the level of PCEN has forgotten what was before; 0 for log-mel."""
    from rfcx_tf.frontend.frontend import smoothing_coefficient

    if "pcen" not in COMPRESSIONS[config.compression]:
        return 0
    b = smoothing_coefficient(config.pcen.time_constant_s / config.frame_s)
    return 1 if b == 1 else math.ceil(math.log(_FORGOTTEN) / math.log1p(-b))


def spans(pieces: list[tuple[int, int]], warm_up: int) -> list[tuple[int, int, int]]:
    """What has to be computed for pieces: where to start, first good frame, end; in order.

    A piece whose warm-up would begin inside the span before it prolongs that one.
    """
    merged: list[tuple[int, int, int]] = []
    for first, end in sorted(pieces):
        start = max(first - warm_up, 0)
        if merged and start <= merged[-1][2]:
            before = merged.pop()
            merged.append((before[0], before[1], max(before[2], end)))
        else:
            merged.append((start, first, end))
    return merged
