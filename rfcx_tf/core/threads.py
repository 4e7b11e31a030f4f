"""A function applied to items by threads: results in order, few of them in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """`map` with worker threads that stay at most twice their number ahead of the reader.

    Decoding, resampling and TensorFlow release Python's lock, so threads are enough.
    """
    todo = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(function, item) for item in itertools.islice(todo, 2 * workers))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(todo, 1))
                yield result
        finally:
            # After Ctrl-C, or when the reader stops, what has not begun need not.
            for future in waiting:
                future.cancel()
