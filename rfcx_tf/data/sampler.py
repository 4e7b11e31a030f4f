"""Which crop is drawn when: draw number -> row of the shard index, a pure function.

Draws go through the classes, and through the rows of a class, in shuffled passes: every class
is drawn equally often, and within a class no row again before all others had their turn.
Nothing is stored between draws, so training resumes at any draw with the very examples that it
would have seen.
"""

from __future__ import annotations

import functools
import math

import numpy as np

# Stands apart the random streams of one seed.
_ROW_STREAM, _CLASS_STREAM, _PARTNER_STREAM, _BACKGROUND_STREAM = 1, 2, 3, 4


class BalancedSampler:
    """Draws TP and FP rows in a fixed ratio, and classes or rows evenly within each kind."""

    def __init__(
        self,
        tp_rows: np.ndarray,
        tp_classes: np.ndarray,
        fp_rows: np.ndarray,
        fp_classes: np.ndarray,
        *,
        tp_fraction: float,
        balance_classes: bool,
        seed: int,
    ):
        """Prepares the draws.

        Args:
            tp_rows, fp_rows: int [n], rows of the index by kind. If one of them is empty, all
                draws come from the other.
            tp_classes, fp_classes: int [n], the class that each was cut for.
            tp_fraction: share of TP draws.
            balance_classes: False draws the rows of a kind evenly, whatever their class.
            seed: of all passes.
        """
        if len(tp_rows) + len(fp_rows) == 0:
            raise ValueError("A sampler needs at least one row. Received: none.")
        if len(fp_rows) == 0:
            tp_fraction = 1.0
        if len(tp_rows) == 0:
            tp_fraction = 0.0
        self._tp_fraction = tp_fraction
        self._seed = seed
        self._groups = {}
        for kind, rows, classes in (("tp", tp_rows, tp_classes), ("fp", fp_rows, fp_classes)):
            drawn_as = classes if balance_classes else np.zeros_like(classes)
            self._groups[kind] = [rows[drawn_as == c] for c in np.unique(drawn_as)]
        self._fp_of_class = {c: fp_rows[fp_classes == c] for c in np.unique(fp_classes)}
        self._fp_class = dict(zip(fp_rows.tolist(), fp_classes.tolist(), strict=True))

    def draw(self, number: int) -> tuple[int, int]:
        """The row of a draw, and of the crop to mix it with.

        Args:
            number: of the draw, from 0.

        Returns:
            Two rows of the index. The partner of an FP row is another one of the same class,
            if there is one, so that a mix of both keeps the one label that is known; that of a
            TP row is any TP row.
        """
        # Of the first n draws exactly floor(n * tp_fraction) are TP, spread evenly.
        tp_before = math.floor(number * self._tp_fraction)
        is_tp = math.floor((number + 1) * self._tp_fraction) > tp_before
        kind, count = ("tp", tp_before) if is_tp else ("fp", number - tp_before)
        groups = self._groups[kind]
        turn, place = divmod(count, len(groups))
        group = _shuffled(len(groups), (self._seed, _CLASS_STREAM, is_tp, 0, turn))[place]
        rows = groups[group]
        turn, place = divmod(turn, len(rows))
        row = int(rows[_shuffled(len(rows), (self._seed, _ROW_STREAM, is_tp, group, turn))[place]])
        chance = np.random.default_rng([self._seed, _PARTNER_STREAM, number])
        if is_tp:
            partners = groups[chance.integers(len(groups))]
        else:
            of_class = self._fp_of_class[self._fp_class[row]]
            partners = of_class[of_class != row]
            if len(partners) == 0:
                return row, row
        return row, int(partners[chance.integers(len(partners))])

    def draw_background(self, number: int, rows: np.ndarray) -> int:
        """One of `rows` for the draw of this number; each equally likely."""
        chance = np.random.default_rng([self._seed, _BACKGROUND_STREAM, number])
        return int(rows[chance.integers(len(rows))])


@functools.lru_cache(maxsize=4096)
def _shuffled(size: int, key: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([int(part) for part in key]).permutation(size)
