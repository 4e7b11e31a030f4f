"""Channels of a recording -> the one that is listened to.

The mean of the channels is the usual choice. Where one plug is wired the wrong way round, it is
silence. Then the louder channel is taken, from the first second on in which that shows.
"""

from __future__ import annotations

import numpy as np

MEAN, LOUDEST = "mean", "loudest"
# The mean of channels that have nothing in common is 3 dB below them, for two of them.
CANCELLED = 10 ** (-20 / 10)
# Below it lies the noise of a converter alone: three steps of 16 bits.
SILENT = 1e-8
# Power needs no more than every eighth sample, whatever their frequencies.
EVERY = 8


class ChannelMixer:
    """Takes a recording's channels block by block, and gives one.

    Seconds are judged as a whole, so that it does not matter how the recording is cut into blocks.

    Attributes:
        taken: the channel that is taken instead of the mean; None: the mean is not silence.
        taken_from_s: from which second on.
    """

    def __init__(self, rate_hz: int, channel: int | None):
        """Begins a recording.

        Args:
            rate_hz: samples in a second.
            channel: the one to take; None: their mean.
        """
        self.taken: int | None = None
        self.taken_from_s = 0
        self._rate_hz = rate_hz
        self._channel = channel
        self._held: list[np.ndarray] = []
        self._seconds = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """Takes samples [samples, channels], and gives float32 [samples] of whole seconds."""
        if self._channel is not None or block.shape[1] == 1:
            return np.ascontiguousarray(block[:, self._channel or 0])
        if self._held:
            block = np.concatenate([*self._held, block])
        whole = len(block) // self._rate_hz * self._rate_hz
        self._held = [block[whole:]]
        return self._mix(block[:whole])

    def finish(self) -> np.ndarray:
        """The rest of a last second."""
        held, self._held = self._held, []
        return self._mix(held[0]) if held else np.zeros(0, np.float32)

    def _mix(self, block: np.ndarray) -> np.ndarray:
        # As block.mean(axis=1), in a fraction of its time.
        mixed = block[:, 0].copy()
        for channel in range(1, block.shape[1]):
            mixed += block[:, channel]
        mixed /= block.shape[1]
        first = 0
        while self.taken is None and first < len(block):
            last = min(len(block), first + self._rate_hz)
            loudest = None
            # A few samples may cancel each other by chance.
            if last - first > self._rate_hz // 10:
                loudest = _cancelling_channel(block[first:last], mixed[first:last])
            if loudest is None:
                first, self._seconds = last, self._seconds + 1
            else:
                self.taken, self.taken_from_s = loudest, self._seconds
        if self.taken is not None:
            mixed[first:] = block[first:, self.taken]
        return mixed


def _cancelling_channel(block: np.ndarray, mean: np.ndarray) -> int | None:
    """The loudest channel of samples [samples, channels] whose mean is silence; None: it is not."""
    power = channel_power(block)
    # The first of those that are as loud.
    loudest = int(np.argmax(power > 0.99 * power.max()))
    of_mean = float(np.mean(np.square(mean[::EVERY], dtype=np.float64)))
    cancels = power[loudest] > SILENT and of_mean < CANCELLED * power[loudest]
    return loudest if cancels else None


def channel_power(block: np.ndarray) -> np.ndarray:
    """Mean power of every channel of samples [samples, channels], about; 0 where not finite."""
    if not len(block):
        return np.zeros(block.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.mean(np.square(block[::EVERY], dtype=np.float64), axis=0)
    return np.where(np.isfinite(power), power, 0.0)
