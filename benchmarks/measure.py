"""Tasks in, seconds out: repeated in turn, with median, quartiles and ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Timing:
    """One run of a task.

    Attributes:
        seconds: of the clock on the wall.
        cpu_seconds: of all threads of the process together. Fewer than `seconds` times the
            cores that the task had: something else ran there, or the task waited.
        value: what the task returned.
    """

    seconds: float
    cpu_seconds: float
    value: Any = None


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of `n` values."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; quartiles are interpolated linearly."""
        low, median, high = np.quantile(np.asarray(values, np.float64), [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high), len(values))


def timed(function: Callable[[], Any]) -> Timing:
    """Runs a function once, with the clocks of the wall and of this process."""
    cpu_began, began = time.process_time(), time.perf_counter()
    value = function()
    return Timing(time.perf_counter() - began, time.process_time() - cpu_began, value)


def alternate(
    tasks: Mapping[str, Callable[[], Timing]],
    repeats: int,
    *,
    warmups: int = 1,
    progress: Callable[[str], None] = print,
) -> dict[str, list[Timing]]:
    """Runs tasks in turn, A, B, A, B, ..., so that what slows the machine slows all of them.

    Args:
        tasks: by name.
        repeats: rounds that count.
        warmups: rounds before them, in which things are traced, compiled and read.
        progress: is told of every finished round.

    Returns:
        `repeats` timings of every task; entry i of all tasks are of one round.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in tasks}
    for turn in range(warmups + repeats):
        for name, task in tasks.items():
            timing = task()
            if turn >= warmups:
                timings[name].append(timing)
        kind = "warm-up" if turn < warmups else "round"
        number = turn + 1 if turn < warmups else turn + 1 - warmups
        progress(f"  {kind} {number} of {warmups if turn < warmups else repeats}")
    return timings


def speed_ratio(own_s: Sequence[float], other_s: Sequence[float]) -> Spread:
    """How many times as fast as another task one is.

    Args:
        own_s, other_s: seconds of both by round.

    Returns:
        The ratio of the medians, and the quartiles of the ratios round by round, in which what
        slowed the machine cancels.
    """
    by_round = Spread.of([other / own for own, other in zip(own_s, other_s, strict=True)])
    return Spread(
        float(np.median(other_s) / np.median(own_s)), by_round.low, by_round.high, by_round.n
    )
