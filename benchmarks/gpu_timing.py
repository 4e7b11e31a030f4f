"""Repeated work on a device -> seconds of one repetition, the median of rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

ROUNDS = 5


def median_seconds(repeat: Callable[[int], object], round_s: float) -> tuple[float, object]:
    """Seconds of one repetition, and what the last round returned.

    Two repetitions warm up and three tell how many make a round.

    Args:
        repeat: does the work so many times and waits until the device has done it.
        round_s: about how long a round is to take.
    """
    repeat(2)
    began = time.perf_counter()
    repeat(3)
    once = (time.perf_counter() - began) / 3
    count = max(1, round(round_s / once))
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        result = repeat(count)
        rounds.append((time.perf_counter() - began) / count)
    return statistics.median(rounds), result
