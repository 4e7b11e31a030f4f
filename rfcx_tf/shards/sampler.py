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
_PSEUDO_PARTNER_STREAM, _INTO_ROW_STREAM, _WEIGHTED_STREAM = 5, 6, 7
# Stands apart the passes through rows of different kinds.
_FP, _TP, _PSEUDO = 0, 1, 2


def split_draw(number: int, share: float) -> tuple[bool, int]:
    """Puts a draw on one of two sides.

    Of the first n draws exactly floor(n * share) are on the first side, spread evenly.

    Args:
        number: number of the draw, from 0.
        share: share of the first side.

    Returns:
        Whether the draw is on the first side, and its number among the draws of its side.
    """
    before = math.floor(number * share)
    is_first = math.floor((number + 1) * share) > before
    return is_first, before if is_first else number - before


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
            seed: decides the order in all passes.
        """
        if len(tp_rows) + len(fp_rows) == 0:
            raise ValueError("A sampler needs at least one row. Received: none.")
        if len(fp_rows) == 0:
            tp_fraction = 1.0
        if len(tp_rows) == 0:
            tp_fraction = 0.0
        self._tp_fraction = tp_fraction
        self._seed = seed
        self._passes = {}
        for kind, rows, classes in ((_TP, tp_rows, tp_classes), (_FP, fp_rows, fp_classes)):
            drawn_as = classes if balance_classes else np.zeros_like(classes)
            self._passes[kind] = _Passes(rows, drawn_as, kind, seed)
        self._fp_of_class = {c: fp_rows[fp_classes == c] for c in np.unique(fp_classes)}
        self._fp_class = dict(zip(fp_rows.tolist(), fp_classes.tolist(), strict=True))

    def draw(self, number: int) -> tuple[int, int]:
        """The row of a draw, and of the crop to mix it with.

        Args:
            number: number of the draw, from 0.

        Returns:
            Two rows of the index. The partner of an FP row is another one of the same class,
            if there is one, so that a mix of both keeps the one label that is known; that of a
            TP row is any TP row.
        """
        is_tp, count = split_draw(number, self._tp_fraction)
        passes = self._passes[_TP if is_tp else _FP]
        row = passes.row(count)
        chance = np.random.default_rng([self._seed, _PARTNER_STREAM, number])
        if is_tp:
            partners = passes.groups[chance.integers(len(passes.groups))]
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


def is_mixed_with_window(number: int, probability: float, seed: int) -> bool:
    """Whether a pseudo-labelled crop is mixed into the crop of this draw.

    By chance, not evenly as `split_draw`: evenly, one draw in four and every fourth TP or FP draw
    could be the same ones.
    """
    chance = np.random.default_rng([seed, _INTO_ROW_STREAM, number, 0])
    return bool(chance.random() < probability)


class PseudoSampler:
    """Draws pseudo-labelled rows, every group of them equally often."""

    def __init__(self, rows: np.ndarray, groups: np.ndarray, *, seed: int):
        """Prepares the draws.

        Args:
            rows: int [n], at least one row of the index.
            groups: int [n], the group of each, such as its most probable species.
            seed: decides the order in all passes.
        """
        self._rows = rows
        self._passes = _Passes(rows, groups, _PSEUDO, seed)
        self._seed = seed

    def draw(self, number: int) -> tuple[int, int]:
        """The row of a draw, and of the crop to mix it with.

        Args:
            number: number of the draw, from 0.

        Returns:
            Two rows of the index. The partner is of any group, each equally likely, and not the
            row itself unless it is the only one.
        """
        row = self._passes.row(number)
        chance = np.random.default_rng([self._seed, _PSEUDO_PARTNER_STREAM, number])
        groups = self._passes.groups
        partners = groups[chance.integers(len(groups))]
        if np.array_equal(partners, [row]):
            partners = self._rows
        partners = partners[partners != row]
        if len(partners) == 0:
            return row, row
        return row, int(partners[chance.integers(len(partners))])

    def draw_into_row(self, number: int) -> int:
        """A row to be mixed into a crop of people, of any group, each equally likely."""
        chance = np.random.default_rng([self._seed, _INTO_ROW_STREAM, number, 1])
        rows = self._passes.groups[chance.integers(len(self._passes.groups))]
        return int(rows[chance.integers(len(rows))])


class WeightedSampler:
    """Draws pseudo-labelled rows, each in proportion to its weight."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray, *, seed: int):
        """Prepares the draws.

        Args:
            rows: int [n], rows of the index.
            weights: float [n], at least 0, not all 0.
            seed: decides the order.
        """
        # What weighs nothing is never drawn, whatever is rounded.
        self._rows = rows[weights > 0]
        self._ends = np.cumsum(weights[weights > 0], dtype=np.float64)
        self._seed = seed

    def draw(self, number: int) -> tuple[int, int]:
        """The row of a draw, and of the crop to mix it with, which may be the same.

        Args:
            number: number of the draw, from 0.
        """
        return self._row(_WEIGHTED_STREAM, number, 0), self._row(_WEIGHTED_STREAM, number, 1)

    def draw_into_row(self, number: int) -> int:
        """A row to be mixed into a crop of people."""
        return self._row(_INTO_ROW_STREAM, number, 1)

    def _row(self, *key: int) -> int:
        place = np.random.default_rng([self._seed, *key]).random() * self._ends[-1]
        found = np.searchsorted(self._ends, place, side="right")
        # The place can be rounded up to the last end.
        return int(self._rows[min(found, len(self._rows) - 1)])


class _Passes:
    """Rows in groups: every group is drawn equally often, and within it every row.

    Attributes:
        groups: the rows of every group.
    """

    def __init__(self, rows: np.ndarray, group_of_row: np.ndarray, kind: int, seed: int):
        self.groups = [rows[group_of_row == group] for group in np.unique(group_of_row)]
        self._kind, self._seed = kind, seed

    def row(self, number: int) -> int:
        """The row of a draw among those of this kind."""
        turn, place = divmod(number, len(self.groups))
        key = (self._seed, _CLASS_STREAM, self._kind, 0, turn)
        group = _shuffled(len(self.groups), key)[place]
        rows = self.groups[group]
        turn, place = divmod(turn, len(rows))
        key = (self._seed, _ROW_STREAM, self._kind, group, turn)
        return int(rows[_shuffled(len(rows), key)[place]])


@functools.lru_cache(maxsize=4096)
def _shuffled(size: int, key: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([int(part) for part in key]).permutation(size)
