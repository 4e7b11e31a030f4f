"""Tasks of benchmarks without processes of their own, and a tiny recipe to measure with."""

import keras
import pytest

from benchmarks.timing import timed
from rfcx_tf.core.config import save_config


class WorkerHere:
    """A `Worker` in this process: a child would cost seconds for importing TensorFlow."""

    def __init__(self, set_up, *arguments, cores):
        self.tasks = {
            name: lambda task=task: self._run(task) for name, task in set_up(*arguments).items()
        }

    def _run(self, task):
        timing = timed(task)
        return timing.value if hasattr(timing.value, "cpu_seconds") else timing

    def peak_memory_bytes(self):
        return 2**30

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def run_once(tasks, repeats):
    """In place of `alternate`."""
    return {name: [task()] for name, task in tasks.items()}


@pytest.fixture
def run_tasks_here(monkeypatch):
    """A function that has a stage run its tasks once and in this process: run_tasks_here(stage)."""
    policy = keras.mixed_precision.global_policy()

    def patch(stage):
        monkeypatch.setattr(stage, "Worker", WorkerHere)
        monkeypatch.setattr(stage, "alternate", run_once)

    yield patch
    keras.mixed_precision.set_global_policy(policy)


@pytest.fixture(scope="session")
def tiny_recipe(tiny_config, tmp_path_factory):
    """The file of `tiny_config`."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    save_config(tiny_config, path)
    return path
