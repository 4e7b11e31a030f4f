"""Two workers against one process, and what TF_CONFIG may say."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.core.config import TrainingConfig, load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.shards.dataset import training_dataset
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.devices import open_strategy
from rfcx_tf.training.multi_worker import Worker, read_worker

ROOT = Path(__file__).resolve().parents[2]


def tf_config(kind, index, **cluster) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (tf_config("worker", 1, worker=["a:1", "b:1", "c:1"]), Worker(1, 3)),
        (tf_config("chief", 0, chief=["a:1"], worker=["b:1"]), Worker(0, 2)),
        (tf_config("worker", 0, chief=["a:1"], worker=["b:1"]), Worker(1, 2)),
    ],
)
def test_the_chief_is_worker_0(monkeypatch, text, expected):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_worker() == expected
    assert read_worker().is_chief == (expected.number == 0)


def test_without_tf_config_there_is_one(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_worker() == Worker(0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker 0",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        tf_config("worker", 2, worker=["a:1", "b:1"]),
        tf_config("ps", 0, ps=["a:1"], worker=["b:1"]),
    ],
)
def test_another_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG must name all workers"):
        read_worker()


def test_workers_have_their_own_devices(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config("worker", 0, worker=["a:1", "b:1"]))
    with pytest.raises(UserError, match="logical_cpus is for one machine"):
        open_strategy(TrainingConfig(logical_cpus=2))


def test_shares_are_the_batch(recipe_of_single_steps, tiny_shards):
    reader, config = ShardReader(tiny_shards), load_config(recipe_of_single_steps)
    whole = training_dataset(reader, config, [1], first_draw=6).take(2)
    parts = [training_dataset(reader, config, [1], 6, share=(part, 2)).take(2) for part in (0, 1)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for name, values in batch.items():
            together = np.concatenate([share[name] for share in shares])
            np.testing.assert_array_equal(values, together)


# A worker that another one waits for long, as on a busy machine, is not lost.
TRAIN = """
import functools
import sys
import tests.short_backbone
from tensorflow.python.eager.context import Context
from rfcx_tf.cli.main import main

Context.configure_coordination_service = functools.partialmethod(
    Context.configure_coordination_service, heartbeat_timeout_in_ms=600_000
)
sys.exit(main(["train", *sys.argv[1:]]))
"""


def free_ports(count) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_workers_train_as_one(recipe_of_single_steps, run_on_one_device, tiny_shards, tmp_path):
    """Two processes on this machine: same batches, same losses, same validation.

    As with two devices of one process, float32 rounding is allowed 1e-3. The second worker is
    told another run folder, which it must leave alone.
    """
    addresses = [f"localhost:{port}" for port in free_ports(2)]

    def start(run, number):
        return subprocess.Popen(
            [
                *(sys.executable, "-c", TRAIN),
                *("--config", recipe_of_single_steps, "--tfrecords", tiny_shards),
                *("--run", tmp_path / run),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TF_CONFIG": tf_config("worker", number, worker=addresses)},
        )

    processes = [start("two", 0), start("nothing", 1)]
    try:
        ends = [process.communicate(timeout=3600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, ends, strict=True):
        assert process.returncode == 0, errors[-3000:]
    assert "2 x CPU, 2 workers" in ends[0][0]
    assert "Worker 1 of 2 did its part" in ends[1][0]
    assert not (tmp_path / "nothing").exists()
    runs = (run_on_one_device, tmp_path / "two")
    one, two = (pd.read_csv(run / "fold0" / "history.csv") for run in runs)
    figures = ["loss", "val_tp_log_loss", "val_fp_log_loss", "val_log_loss"]
    difference = (one[figures] / two[figures] - 1).abs()
    assert one["loss"].std() > 0.01
    assert difference.to_numpy().max() < 1e-3, difference
    scores = [pd.read_csv(run / "oof_scores.csv") for run in runs]
    assert scores[0]["recording_id"].equals(scores[1]["recording_id"])
    np.testing.assert_allclose(scores[0].iloc[:, 1:], scores[1].iloc[:, 1:], atol=1e-3)
