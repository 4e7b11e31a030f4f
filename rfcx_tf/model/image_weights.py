"""What all loaders of published image weights share."""

from __future__ import annotations

import numpy as np


def adapt_stem(kernel: np.ndarray, channels: int, coordinate: bool) -> np.ndarray:
    """The first convolution's kernel for so many channels of sound.

    Where the published kernel has as many, it is taken as it is. Otherwise the sum over its
    channels, which is the response to a grey image, is shared equally, so that equal channels
    give that response too. A coordinate channel begins at 0.

    Args:
        kernel: [frames, mels, in, out], as published.
        channels: number of channels of our input.
        coordinate: the last of them is a position, not sound (`FrequencyCoordinate`).

    Returns:
        [frames, mels, channels, out].
    """
    sound = channels - int(coordinate)
    if kernel.shape[2] != sound:
        kernel = np.repeat(kernel.sum(axis=2, keepdims=True) / sound, sound, axis=2)
    if coordinate:
        kernel = np.concatenate([kernel, np.zeros_like(kernel[:, :, :1])], axis=2)
    return kernel


def reason(error: Exception) -> str:
    """What an error says, in a part of a line."""
    return " ".join(str(error).split())[:160].rstrip(".")
