"""Precision by hardware, and two devices against one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from rfcx_tf.config import TrainingConfig, save_config
from rfcx_tf.training import devices
from rfcx_tf.training.devices import choose_precision

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("capabilities", "amx", "expected"),
    [
        ([(9, 0)], False, "mixed_bfloat16"),
        ([(8, 0), (8, 6)], False, "mixed_bfloat16"),
        ([(7, 5)], True, "mixed_float16"),
        ([(9, 0), (7, 0)], False, "float32"),
        ([None], False, "mixed_float16"),
        ([], True, "mixed_bfloat16"),
        ([], False, "float32"),
    ],
)
def test_automatic_precision_goes_by_the_hardware(monkeypatch, capabilities, amx, expected):
    """An A100 is 8.0, a T4 7.5; a GPU may keep its capability to itself."""
    details = [{} if c is None else {"compute_capability": c} for c in capabilities]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(details))))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    flags = "flags : fpu amx_bf16 amx_tile" if amx else "flags : fpu avx512_bf16"
    monkeypatch.setattr(devices.Path, "read_text", lambda self, **_: flags)
    assert choose_precision(TrainingConfig()) == expected
    assert choose_precision(TrainingConfig(precision="float32")) == "float32"


def test_a_system_without_cpuinfo_is_float32(monkeypatch):
    def missing(self, **_):
        raise FileNotFoundError

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(devices.Path, "read_text", missing)
    assert choose_precision(TrainingConfig()) == "float32"


def test_two_devices_train_as_one(tiny_data, tiny_config, tiny_shards, tmp_path):
    """MirroredStrategy on two logical CPUs: same batches, same losses, same validation.

    Epochs of one step, so every figure is that of one step. Dropout is off, since each device
    draws its own masks. The difference is float32 rounding in the synchronised batch statistics
    and in the sum of two gradients, which Adam's division amplifies: 1e-3 is allowed.
    """
    save_config(tiny_config, tmp_path / "tiny.yaml")
    options = {
        "model.head.dropout": 0,
        "training.epochs": 4,
        "training.steps_per_epoch": 1,
        "training.warmup_epochs": 0,
        "training.batch_size": 6,
        "training.learning_rate": 1e-3,
    }
    processes = {}
    for count in (1, 2):
        arguments = [f"--set={key}={value}" for key, value in options.items()]
        processes[count] = subprocess.Popen(
            [
                *(sys.executable, ROOT / "scripts" / "train.py"),
                *("--config", tmp_path / "tiny.yaml", "--tfrecords", tiny_shards),
                *("--run", tmp_path / f"run{count}", *arguments),
                f"--set=training.logical_cpus={count}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    for count, process in processes.items():
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert f"{count} x CPU" in output
    one, two = (pd.read_csv(tmp_path / f"run{count}" / "fold0" / "history.csv") for count in (1, 2))
    figures = ["loss", "val_tp_log_loss", "val_fp_log_loss", "val_log_loss"]
    difference = (one[figures] / two[figures] - 1).abs()
    print("one device against two, largest relative difference by epoch:")
    print(difference.max(axis=1).map("{:.1e}".format).to_list())
    assert one["loss"].std() > 0.01
    assert difference.to_numpy().max() < 1e-3
    # Out-of-fold tables list the same crops in the same order.
    crops = [pd.read_csv(tmp_path / f"run{count}" / "oof_crops.csv") for count in (1, 2)]
    scores = [c for c in crops[0] if c.startswith("s") and c[1:].isdigit()]
    assert crops[0].drop(columns=scores).equals(crops[1].drop(columns=scores))
    np.testing.assert_allclose(crops[0][scores], crops[1][scores], atol=1e-3)


def test_two_devices_train_in_parts_with_mixes_and_an_average(
    tiny_data, tiny_config, tiny_shards, tmp_path
):
    """Synchronised batch normalisation and dropout in every part; one clipped update a step."""
    save_config(tiny_config, tmp_path / "tiny.yaml")
    options = {
        "training.epochs": 1,
        "training.logical_cpus": 2,
        "training.accumulation_steps": 2,
        "training.ema": 0.9,
        "training.gradient_clip_norm": 1,
        "training.precision": "mixed_bfloat16",
        "augment.feature_mixup": 0.5,
    }
    result = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts" / "train.py"),
            *("--config", tmp_path / "tiny.yaml", "--tfrecords", tiny_shards),
            *("--run", tmp_path / "run"),
            *(f"--set={key}={value}" for key, value in options.items()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "2 x CPU" in result.stdout
    history = pd.read_csv(tmp_path / "run" / "fold0" / "history.csv")
    assert len(history) == 1
    assert np.isfinite(history.to_numpy(float)).all()
