"""A child process on chosen cores. Setup functions stand here, since they are pickled by name."""

import os

import pytest

from benchmarks.measure import Timing
from benchmarks.worker import Worker
from rfcx_tf.core.errors import UserError


def echo_tasks(word):
    return {
        "echo": lambda: word,
        "own": lambda: Timing(7.0, 3.0, word),
        "cores": lambda: len(os.sched_getaffinity(0)),
        "threads": lambda: os.environ["TF_NUM_INTRAOP_THREADS"],
        "process": os.getpid,
        "memory": lambda: len(bytearray(200 * 2**20)),
    }


def failing_tasks():
    raise UserError("The rule. What was found.")


def dying_tasks():
    os._exit(3)


def test_a_worker_runs_tasks_in_a_process_of_its_own_on_its_cores():
    before = dict(os.environ)
    with Worker(echo_tasks, "hello", cores=1) as worker:
        assert list(worker.tasks)[:2] == ["echo", "own"]
        timing = worker.tasks["echo"]()
        assert timing.value == "hello"
        assert 0 < timing.seconds < 5
        assert worker.tasks["own"]() == Timing(7.0, 3.0, "hello")
        assert worker.tasks["cores"]().value == 1
        assert worker.tasks["threads"]().value == "1"
        assert worker.tasks["process"]().value != os.getpid()
        small = worker.peak_memory_bytes()
        worker.tasks["memory"]()
        assert worker.peak_memory_bytes() - small > 150 * 2**20
    assert dict(os.environ) == before


def test_bad_input_in_a_worker_reaches_its_owner():
    with pytest.raises(UserError, match="The rule"):
        Worker(failing_tasks, cores=1)


def test_a_worker_that_dies_says_its_status():
    with pytest.raises(RuntimeError, match="status 3"):
        Worker(dying_tasks, cores=1)


def test_a_worker_cannot_have_more_cores_than_there_are():
    with pytest.raises(UserError, match="Received: 100000"):
        Worker(echo_tasks, "", cores=100_000)
