"""Probabilities of one class -> the threshold that a wanted precision, recall or F1 asks for.

Precision and recall are expected values under the probabilities. Above a threshold, with q_i the
probabilities there and Q the sum of all,

    precision = sum of q_i / count,   recall = sum of q_i / Q,   F1 = 2 sum of q_i / (count + Q)

A class has few labels. A threshold that is chosen by counting them takes the luckiest: on other
folds it misses the wanted precision by more, and finds less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rfcx_tf.core.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What a threshold is chosen for.

    Attributes:
        figure: precision, recall or F1.
        value: of precision and recall, in (0, 1); NaN for F1, which is to be the highest.
    """

    figure: str
    value: float = float("nan")

    def __str__(self) -> str:
        return self.figure if self.figure == "F1" else f"{self.figure} {self.value:g}"


def parse_wanted(text: str) -> Wanted:
    """Reads `precision=0.9`, `recall=0.8` or `f1`.

    Raises:
        UserError: if it is none of them.
    """
    figure, _, number = text.partition("=")
    if text.lower() == "f1":
        return Wanted("F1")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if figure not in ("precision", "recall") or not 0 < value < 1:
        raise UserError(
            f"--wanted takes precision=P or recall=R, between 0 and 1, or f1. Received: {text!r}."
        )
    return Wanted(figure, value)


def choose_threshold(probability: ArrayLike, wanted: Wanted) -> tuple[float, bool]:
    """The threshold of one class.

    For a precision the lowest threshold that keeps it, so that recall is highest. For a recall
    the highest that keeps it. Between two probabilities the threshold lies half-way.

    Args:
        probability: [rows] of at least one, calibrated, whatever their labels.
        wanted: what for.

    Returns:
        The threshold (a float32 number), and whether what is wanted can be had. Where no row is
        as probable as the wanted precision, the threshold is the wanted precision itself: then
        nothing below it is detected, and of these rows nothing at all.
    """
    values, counts = np.unique(np.asarray(probability, np.float32), return_counts=True)
    values, counts = values[::-1], counts[::-1]
    above = np.cumsum(values * counts, dtype=np.float64)
    count = np.cumsum(counts)
    if wanted.figure == "precision":
        kept = int((above / count >= wanted.value).sum())
        if kept == 0:
            threshold = np.float32(wanted.value)
            # In float64: NumPy 2 would compare in float32.
            if float(threshold) < wanted.value:
                # Not rounded down to a probability just below.
                threshold = np.nextafter(threshold, np.float32(1))
            return float(threshold), False
        last = kept - 1
    elif wanted.figure == "recall":
        last = int(np.argmax(above >= wanted.value * above[-1]))
    else:
        last = int(np.argmax(2 * above / (count + above[-1])))
    lowest = values[last]
    if last + 1 < len(values):
        # Rounding can bring the middle down to the value that is to stay below.
        middle = np.float32((float(lowest) + float(values[last + 1])) / 2)
        lowest = middle if middle > values[last + 1] else lowest
    return float(lowest), True
