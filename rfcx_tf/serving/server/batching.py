"""Requests of one signature and shape, joined into one call of the model and taken apart again.

Only equal shapes are joined, since padding would change scores. A SavedModel does not say which of
its outputs have a row for each request (`scores`) and which belong to all (`window_start_s`), so
this is learned: the first request of each shape runs alone. An output whose length is not the
number of rows is common to all, and must come out of a joined call as it was; every other must have
grown with the rows. Where that does not hold, these requests run one by one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np

from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.status import ServingError

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
# Recordings come in any length; the shapes learned last are kept.
_MAX_SHAPES = 256
# A common output that is larger is not worth keeping: such requests are not joined.
_MAX_COMMON_BYTES = 2**20
# In text and files, the header says what the bytes decode to: of a WAV file, rate and length.
_HEADER_BYTES = 44


@dataclass(frozen=True)
class Alone:
    """What the first request of a shape showed, which ran alone.

    Attributes:
        rows: its number of rows.
        common: the outputs of another length, which therefore have no row for each of its rows.
    """

    rows: int
    common: Arrays


@dataclass(eq=False)
class Job:
    """A request that waits for its outputs.

    Attributes:
        key, rows: of `join_key`.
    """

    model: ServedModel
    signature: str
    inputs: Arrays
    key: tuple | None
    rows: int
    outputs: asyncio.Future


class Batcher:
    """A queue of requests, and a few threads that run the model for them."""

    def __init__(
        self, metrics: Metrics, max_batch: int, wait_s: float, max_pending: int, workers: int
    ):
        """
        Args:
            metrics: where lengths and times are counted.
            max_batch: rows of one call; 1 joins nothing.
            wait_s: how long a request waits for others that are on their way.
            max_pending: requests that may be in the server at once.
            workers: calls of the model that run at once.
        """
        self._metrics = metrics
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._max_pending = max_pending
        self._pool = ThreadPoolExecutor(workers, "model")
        self._queue: deque[Job] = deque()
        self._arrived = asyncio.Condition()
        # Requests that are in the server, and those of them that are not in the queue yet.
        self._admitted: set[object] = set()
        self._coming: set[object] = set()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    @contextmanager
    def admit(self) -> Iterator[object]:
        """Takes a place for one request and gives a ticket for `submit`; ServingError if none is
        free."""
        if len(self._admitted) >= self._max_pending:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full: "
                f"{len(self._admitted)} requests are in progress. Try again later.",
            )
        ticket = object()
        self._admitted.add(ticket)
        self._coming.add(ticket)
        self._metrics.admitted.set(len(self._admitted))
        try:
            yield ticket
        finally:
            self._admitted.discard(ticket)
            self._coming.discard(ticket)
            self._metrics.admitted.set(len(self._admitted))

    async def submit(
        self, ticket: object, model: ServedModel, signature: str, inputs: Arrays
    ) -> Arrays:
        """The outputs of the model for checked inputs; raises what the model raises."""
        self._coming.discard(ticket)
        outputs = asyncio.get_running_loop().create_future()
        key, rows = join_key(model, signature, inputs) if self._max_batch > 1 else (None, 1)
        async with self._arrived:
            self._queue.append(Job(model, signature, inputs, key, rows, outputs))
            self._arrived.notify()
        self._metrics.queue.set(len(self._queue))
        return await outputs

    async def close(self) -> None:
        """Ends the workers; nothing must wait any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._arrived:
                await self._arrived.wait_for(lambda: self._queue)
                jobs = [self._queue.popleft()]
            # Whoever is alone in the server need not wait for others.
            if jobs[0].key is not None and self._coming and self._wait_s:
                await asyncio.sleep(self._wait_s)
            self._join_to(jobs)
            self._metrics.queue.set(len(self._queue))
            # A client that gave up has cancelled its future.
            jobs = [job for job in jobs if not job.outputs.done()]
            if not jobs:
                continue
            self._metrics.batch_requests.observe(len(jobs))
            begin_s = time.perf_counter()
            try:
                results = await loop.run_in_executor(self._pool, run_batch, jobs)
            except Exception as error:
                log.exception("A batch failed.")
                results = [error] * len(jobs)
            self._metrics.model_seconds.observe(time.perf_counter() - begin_s)
            for job, result in zip(jobs, results, strict=True):
                if isinstance(result, Exception) and not job.outputs.done():
                    job.outputs.set_exception(result)
                elif not job.outputs.done():
                    job.outputs.set_result(result)
            # Else the last requests' arrays and model would stay until the next one comes.
            del jobs, results, job, result

    def _join_to(self, jobs: list[Job]) -> None:
        """Moves the queue's jobs that can be joined to the first one to it."""
        first = jobs[0]
        if first.model.alone.get(first.key) is None:
            return
        rows = first.rows
        for job in list(self._queue):
            if job.key == first.key and rows + job.rows <= self._max_batch:
                self._queue.remove(job)
                jobs.append(job)
                rows += job.rows


def join_key(model: ServedModel, signature: str, inputs: Arrays) -> tuple[tuple | None, int]:
    """A key that is equal for requests that may be joined, and the rows of this one.

    The key is None for a request that may not: an input has no rows, takes a fixed number of them,
    or has another number than the others.
    """
    specs = model.inputs[signature]
    rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    fixed = any(spec.shape and spec.shape[0] is not None for spec in specs.values())
    if fixed or len(rows) != 1 or 0 in rows:
        return None, 1
    shapes = []
    for name, array in sorted(inputs.items()):
        kinds = None
        if array.dtype == object:
            kinds = tuple(sorted({(len(value), value[:_HEADER_BYTES]) for value in array.ravel()}))
        shapes.append((name, array.shape[1:], kinds))
    return (id(model), signature, tuple(shapes)), rows.pop()


def run_batch(jobs: list[Job]) -> list[Arrays | Exception]:
    """The outputs, or the error, of each job; all have one key, which is learned if several."""
    outputs = _run_joined(jobs) if len(jobs) > 1 else None
    return outputs or [_run_alone(job) for job in jobs]


def _run_joined(jobs: list[Job]) -> list[Arrays] | None:
    """The outputs of each job by one call of the model, or None where that is not possible."""
    model, key, rows = jobs[0].model, jobs[0].key, [job.rows for job in jobs]
    alone = model.alone.get(key)
    if alone is None or sum(rows) == alone.rows:
        return None
    joined = {n: np.concatenate([job.inputs[n] for job in jobs]) for n in jobs[0].inputs}
    try:
        outputs = take_apart(model.run(jobs[0].signature, joined), rows, alone)
    except Exception as error:
        # One request can spoil it for the others, such as a WAV file that is none.
        log.info("A joined call failed (%s); its requests run one by one.", type(error))
        return None
    if outputs is None:
        _learn(model, key, None)
    return outputs


def _run_alone(job: Job) -> Arrays | Exception:
    try:
        outputs = job.model.run(job.signature, job.inputs)
    except Exception as error:
        return error
    if job.key is not None and job.key not in job.model.alone:
        common = {name: a for name, a in outputs.items() if not a.ndim or len(a) != job.rows}
        small = sum(array.nbytes for array in common.values()) <= _MAX_COMMON_BYTES
        _learn(job.model, job.key, Alone(job.rows, common) if small else None)
    return outputs


def take_apart(outputs: Arrays, rows: list[int], alone: Alone) -> list[Arrays] | None:
    """The outputs of each request in a joined call, or None where they cannot be told apart.

    Args:
        outputs: of the joined call.
        rows: how many rows each request has; their sum is not `alone.rows`.
        alone: what one such request gave alone.
    """
    ends = np.cumsum(rows)
    parts: list[Arrays] = [{} for _ in rows]
    for name, array in outputs.items():
        if name in alone.common:
            if not np.array_equal(array, alone.common[name]):
                return None
            pieces = [array] * len(rows)
        elif array.ndim and len(array) == ends[-1]:
            pieces = np.split(array, ends[:-1])
        else:
            return None
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece
    return parts


def _learn(model: ServedModel, key: tuple, alone: Alone | None) -> None:
    """Keeps what is known of a shape; None: its requests cannot be joined."""
    model.alone[key] = alone
    while len(model.alone) > _MAX_SHAPES:
        model.alone.popitem(last=False)
