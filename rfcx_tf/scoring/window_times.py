"""Scores of one grid of windows at the times of another."""

from __future__ import annotations

import numpy as np


def at_centres(
    start_s: np.ndarray, length_s: float, probability: np.ndarray, centres_s: np.ndarray
) -> np.ndarray:
    """Window probabilities at other windows' centres, linear in between.

    Members of an ensemble, and teachers and the network that they teach, may have windows of
    different length and distance.

    Args:
        start_s: begin of the given windows [given], ascending.
        length_s: length of each.
        probability: [given, classes].
        centres_s: of the windows that are asked for [windows].

    Returns:
        float32 [windows, classes]; beyond the first and last window their values.
    """
    own = start_s + length_s / 2
    columns = [np.interp(centres_s, own, column) for column in probability.T]
    return np.stack(columns, axis=1).astype(np.float32)
