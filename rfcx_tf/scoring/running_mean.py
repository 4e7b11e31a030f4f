"""The running mean over window scores, of a whole recording or block by block."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def running_mean(window_scores, windows: int):
    """The mean of so many neighbouring windows, [batch, windows, classes] as it comes.

    An even number reaches further ahead. At the ends it is over the windows that are there.
    """
    return tf.nn.avg_pool1d(window_scores, windows, 1, "SAME") if windows > 1 else window_scores


class RunningMaximum:
    """The highest running mean of window scores that come block by block.

    Attributes:
        highest: [classes], so far.
    """

    def __init__(self, windows: int):
        """Takes the number of windows that the mean is over."""
        self._windows = windows
        self._before = max(0, windows - 1) // 2
        self._after = windows // 2 if windows > 1 else 0
        # Windows that means to come reach over; of the first ones the mean is taken already.
        self._waiting: np.ndarray | None = None
        self._done = 0
        self.highest: np.ndarray | float = -np.inf

    def push(self, window_scores, last: bool) -> None:
        """Takes [1, windows, classes], which may be none in the last block."""
        values = np.asarray(window_scores)
        if self._waiting is not None:
            values = np.concatenate([self._waiting, values], axis=1)
        end = values.shape[1] if last else max(self._done, values.shape[1] - self._after)
        if end > self._done:
            means = np.asarray(running_mean(values, self._windows))[0, self._done : end]
            self.highest = np.maximum(self.highest, means.max(axis=0))
        kept_from = max(0, end - self._before)
        self._waiting, self._done = values[:, kept_from:], end - kept_from
