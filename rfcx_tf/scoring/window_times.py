"""Scores of one model's windows at the times of another's."""

from __future__ import annotations

import numpy as np


def at_times(own_s: np.ndarray, values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Values of windows at other times, linear in between.

    Members of an ensemble, and teachers and the network that they teach, may have windows of
    different length and distance.

    Args:
        own_s: centres of the given windows [given, classes], ascending.
        values: [given, classes].
        times_s: [times, classes], or [times] for all classes.

    Returns:
        float32 [times, classes]; beyond the first and last window their values.
    """
    times_s = np.broadcast_to(
        np.asarray(times_s).reshape(len(times_s), -1), (len(times_s), values.shape[1])
    )
    columns = [np.interp(t, x, y) for t, x, y in zip(times_s.T, own_s.T, values.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.float32)
