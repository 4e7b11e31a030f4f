"""Precision by hardware, and two devices against one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from rfcx_tf.core.config import TrainingConfig, load_config, save_config
from rfcx_tf.evaluation.box_fit import FOUND
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


# Both trainings in one process, which costs seconds to start. It is not this one, since the number
# of devices is fixed as TensorFlow begins.
ON_TWO_DEVICES = """
import sys
from pathlib import Path
import tests.short_backbone
from rfcx_tf.core.config import load_config
from rfcx_tf.training.run import train_run

folder, shards = Path(sys.argv[1]), sys.argv[2]
for name, verbose in (("as_one", True), ("in_parts", False)):
    print(name)
    config = load_config(folder / f"{name}.yaml")
    train_run(config, shards, folder / name, [0], verbose=verbose)
"""


@pytest.fixture(scope="module")
def two_devices(tiny_config, recipe_of_single_steps, tiny_shards, tmp_path_factory):
    """A folder with two runs on two logical CPUs, `as_one` and `in_parts`."""
    folder = tmp_path_factory.mktemp("two_devices")
    as_one = load_config(recipe_of_single_steps, ["training.logical_cpus=2"])
    save_config(as_one, folder / "as_one.yaml")
    save_config(tiny_config, folder / "in_parts.yaml")
    values = {
        "training.epochs": 1,
        "training.steps_per_epoch": 2,
        "training.logical_cpus": 2,
        "training.accumulation_steps": 2,
        "training.ema": 0.9,
        "training.gradient_clip_norm": 1,
        "training.precision": "mixed_bfloat16",
        **dict.fromkeys(("augment.fp_flip", "augment.fp_cut_paste", "augment.fp_mixup"), 0),
        "augment.feature_mixup": 0.5,
        "pseudo.mixup": 0,
    }
    overrides = [f"{key}={value}" for key, value in values.items()]
    save_config(load_config(folder / "in_parts.yaml", overrides), folder / "in_parts.yaml")
    result = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES, folder, tiny_shards],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("2 x CPU") == 2
    return folder


def test_two_devices_train_as_one(two_devices, run_on_one_device):
    """MirroredStrategy on two logical CPUs: same batches, same losses, same validation.

    The difference is float32 rounding in the synchronised batch statistics and in the sum of two
    gradients, which Adam's division amplifies: 1e-3 is allowed.
    """
    runs = (run_on_one_device, two_devices / "as_one")
    one, two = (pd.read_csv(run / "fold0" / "history.csv") for run in runs)
    figures = ["loss", "val_tp_log_loss", "val_fp_log_loss", "val_log_loss"]
    difference = (one[figures] / two[figures] - 1).abs()
    print("one device against two, largest relative difference by epoch:")
    print(difference.max(axis=1).map("{:.1e}".format).to_list())
    assert one["loss"].std() > 0.01
    assert difference.to_numpy().max() < 1e-3
    # Out-of-fold tables list the same crops in the same order.
    crops = [pd.read_csv(run / "oof_crops.csv") for run in runs]
    scores = [c for c in crops[0] if c.startswith("s") and c[1:].isdigit()]
    predicted = [*scores, *FOUND]
    assert crops[0].drop(columns=predicted).equals(crops[1].drop(columns=predicted))
    np.testing.assert_allclose(crops[0][scores], crops[1][scores], atol=1e-3)
    # A box may come from another cell that is as sure.
    assert (crops[0]["iou"] - crops[1]["iou"]).abs().median() < 1e-3


def test_two_devices_train_in_parts_with_mixes_and_an_average(two_devices):
    """In bfloat16; synchronised batch normalisation and dropout in every part; one clipped update
    a step."""
    history = pd.read_csv(two_devices / "in_parts" / "fold0" / "history.csv")
    assert len(history) == 1
    assert np.isfinite(history.to_numpy(float)).all()
    done = json.loads((two_devices / "in_parts" / "fold0" / "done.json").read_text())
    assert done["precision"] == "mixed_bfloat16"
