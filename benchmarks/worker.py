"""A process of its own on so many cores, in which tasks are set up once and timed often."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.measure import Timing, timed
from rfcx_tf.core.errors import UserError

Tasks = dict[str, Callable[[], Any]]
# All of them are read when a library is loaded, so before the process begins.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# For a process that has nothing to do any more to end.
_PATIENCE_S = 10


class Worker:
    """Runs tasks in a child process that is bound to the first cores of this one.

    Libraries keep their thread pools and settings for as long as a process lives. So what
    differs in cores, precision or library gets a worker of its own, and workers take turns.

    Example:
        with Worker(tasks_of_mine, config, cores=1) as worker:
            timings = alternate(worker.tasks, repeats=5)
    """

    def __init__(self, setup: Callable[..., Tasks], *arguments: Any, cores: int):
        """Starts the process and waits until its tasks are set up.

        Args:
            setup: a function of a module; called with the arguments in the child, it returns
                tasks by name. A task may return a `Timing` of its own, of the part of its work
                that counts.
            arguments: what can be pickled.
            cores: to run on, and threads for every library.

        Raises:
            UserError: if there are fewer cores, or as the setup does.
        """
        own_cores = sorted(os.sched_getaffinity(0))
        if not 1 <= cores <= len(own_cores):
            raise UserError(
                f"A benchmark runs on cores that are there: {len(own_cores)}. Received: {cores}."
            )
        # A fork of a process with threads may hang.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with _environment(cores):
            self._process = context.Process(
                target=_serve, args=(theirs, own_cores[:cores], setup, arguments), daemon=True
            )
            self._process.start()
        theirs.close()
        try:
            names = self._reply()
        except BaseException:
            self.close()
            raise
        self._names = names

    @property
    def tasks(self) -> dict[str, Callable[[], Timing]]:
        """The tasks by name; each runs once when called."""
        return {name: self._task(name) for name in self._names}

    def peak_memory_bytes(self) -> int:
        """The most physical memory that the process has had so far."""
        self._pipe.send(None)
        return self._reply()

    def close(self) -> None:
        """Ends the process: it stops by itself where it waits for a task."""
        self._pipe.close()
        self._process.join(timeout=_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _task(self, name: str) -> Callable[[], Timing]:
        def run() -> Timing:
            self._pipe.send(name)
            return self._reply()

        return run

    def _reply(self) -> Any:
        try:
            reply = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"A benchmark's process ended with status {self._process.exitcode}; -9 is often "
                "a lack of memory."
            ) from None
        if isinstance(reply, BaseException):
            raise reply
        return reply


def _serve(pipe: Connection, cores: list[int], setup: Callable[..., Tasks], arguments: tuple):
    """Answers until the other side goes away: a task's name, or None for the peak memory."""
    os.sched_setaffinity(0, cores)
    try:
        tasks = setup(*arguments)
        pipe.send(list(tasks))
        while True:
            name = pipe.recv()
            if name is None:
                pipe.send(_peak_memory_bytes())
                continue
            timing = timed(tasks[name])
            own = timing.value
            pipe.send(own if isinstance(own, Timing) else timing)
    except EOFError:
        return
    except UserError as error:
        pipe.send(error)


def _peak_memory_bytes() -> int:
    # Not getrusage: a child begins with its parent's figure there.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024


@contextmanager
def _environment(cores: int) -> Iterator[None]:
    """Thread counts, and no start-up messages of TensorFlow, for a child that begins inside."""
    wanted = {name: str(cores) for name in _THREAD_VARIABLES} | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
