"""Tasks in processes of their own, run in turn -> seconds by task and round."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rfcx_tf.core.errors import UserError

Tasks = dict[str, Callable[[], Any]]
# Libraries read these when they are loaded, so they must be set before a process starts.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# The tasks of a worker process.
_tasks: Tasks = {}


@dataclass(frozen=True)
class Timing:
    """One run of a task.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: CPU time of all threads of the process. Less than `seconds` times the cores
            that the task had: the task waited, or something else ran on these cores.
        value: what the task returned.
    """

    seconds: float
    cpu_seconds: float
    value: Any = None


def timed(function: Callable[[], Any]) -> Timing:
    """Runs a function once."""
    cpu_began, began = time.process_time(), time.perf_counter()
    value = function()
    return Timing(time.perf_counter() - began, time.process_time() - cpu_began, value)


def alternate(tasks: Mapping[str, Callable[[], Timing]], repeats: int) -> dict[str, list[Timing]]:
    """Runs tasks in turn, A, B, A, B, ..., so that what slows the machine slows all of them.

    One round before the others does not count: in it things are traced, compiled and read.

    Returns:
        `repeats` timings of every task; entry i of all tasks comes from the same round.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in tasks}
    for number in range(repeats + 1):
        for name, task in tasks.items():
            timings[name].append(task())
        print(f"  round {number} of {repeats}" if number else "  warm-up", flush=True)
    return {name: counted for name, (_, *counted) in timings.items()}


class Worker:
    """A child process on the first cores of this one; it sets tasks up once and runs them often.

    Libraries keep their thread pools and settings for the life of a process. So tasks that
    differ in cores, precision or library need a worker each, and the workers take turns.

    Attributes:
        tasks: by name; each runs once in the child when it is called.

    Example:
        with Worker(my_tasks, config, cores=1) as worker:
            timings = alternate(worker.tasks, repeats=5)
    """

    def __init__(self, set_up: Callable[..., Tasks], *arguments: Any, cores: int):
        """Starts the process and waits until its tasks are set up.

        Args:
            set_up: a function of a module. The child calls it with the arguments; it returns
                tasks by name. A task may return a `Timing` of the part of its work that counts.
            arguments: must be picklable.
            cores: to run on; every library gets as many threads.

        Raises:
            UserError: if there are fewer cores, or from `set_up`.
        """
        own_cores = sorted(os.sched_getaffinity(0))
        if not 1 <= cores <= len(own_cores):
            raise UserError(
                f"A benchmark needs cores that this process has. Asked for {cores}, found "
                f"{len(own_cores)}. Change --cores."
            )
        # A forked copy of a process with threads may hang.
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_start, initargs=(own_cores[:cores],)
        )
        # The child inherits them. This process only waits, so they do it no harm.
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(cores)))
        names = self._call(_set_up, set_up, arguments)
        self.tasks = {name: lambda name=name: self._call(_run, name) for name in names}

    def peak_memory_bytes(self) -> int:
        """The most physical memory that the process has had so far."""
        return self._call(_peak_memory_bytes)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception) -> None:
        self._pool.shutdown()

    def _call(self, function: Callable, *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BaseException:
            self._pool.shutdown(wait=False)
            raise


def _start(cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)
    # Ctrl-C ends the child without a traceback; the parent reports it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _set_up(set_up: Callable[..., Tasks], arguments: tuple) -> list[str]:
    _tasks.update(set_up(*arguments))
    return list(_tasks)


def _run(name: str) -> Timing:
    timing = timed(_tasks[name])
    return timing.value if isinstance(timing.value, Timing) else timing


def _peak_memory_bytes() -> int:
    # getrusage would begin with the parent's figure.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024
