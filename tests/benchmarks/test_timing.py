"""Timing in turn, and tasks in a child process. Set-up functions stand here: they are pickled."""

import os
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from benchmarks.timing import Timing, Worker, alternate, timed
from rfcx_tf.core.errors import UserError


def echo_tasks(word):
    return {
        "own": lambda: Timing(7.0, 3.0, word),
        "cores": lambda: (
            os.getpid(),
            len(os.sched_getaffinity(0)),
            os.environ["OMP_NUM_THREADS"],
        ),
        "memory": lambda: len(bytearray(200 * 2**20)),
        "refuse": refuse,
        "die": lambda: os._exit(3),
    }


def refuse():
    raise UserError("The rule. What was found.")


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """Workers set these for their children."""
    for name in list(os.environ):
        monkeypatch.setenv(name, os.environ[name])


def test_tasks_run_in_turn_and_the_first_round_does_not_count():
    order = []

    def task(name):
        def run():
            order.append(name)
            return Timing(float(len(order)), 0.0)

        return run

    timings = alternate({"a": task("a"), "b": task("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [t.seconds for t in timings["a"]] == [3.0, 5.0]
    assert [t.seconds for t in timings["b"]] == [4.0, 6.0]


def test_wall_time_and_cpu_time_are_those_between(monkeypatch):
    wall_s, cpu_s = iter([10.0, 12.5]), iter([3.0, 3.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(wall_s))
    monkeypatch.setattr(time, "process_time", lambda: next(cpu_s))
    assert timed(lambda: "slept") == Timing(2.5, 0.25, "slept")


def test_a_worker_runs_tasks_in_a_process_of_its_own_on_its_cores():
    with Worker(echo_tasks, "hello", cores=1) as worker:
        assert worker.tasks["own"]() == Timing(7.0, 3.0, "hello")
        process, cores, threads = worker.tasks["cores"]().value
        assert process != os.getpid()
        assert (cores, threads) == (1, "1")
        small = worker.peak_memory_bytes()
        worker.tasks["memory"]()
        assert worker.peak_memory_bytes() - small > 150 * 2**20
        with pytest.raises(UserError, match="The rule"):
            worker.tasks["refuse"]()
    with Worker(echo_tasks, "", cores=1) as worker, pytest.raises(BrokenProcessPool):
        worker.tasks["die"]()


def test_a_worker_cannot_have_more_cores_than_there_are():
    with pytest.raises(UserError, match="Asked for 100000"):
        Worker(echo_tasks, "", cores=100_000)
