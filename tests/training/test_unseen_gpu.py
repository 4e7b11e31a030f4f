"""Reasons why a GPU is not seen, on file systems and environments made for it."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from rfcx_tf.training import unseen_gpu
from rfcx_tf.training.unseen_gpu import why_unseen

ROOT = Path(__file__).resolve().parents[2]
BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Jan 1 00:00:00 UTC 2026\nGCC 12\n"


@pytest.fixture
def machine(tmp_path):
    """A file system with one GPU, its device and a driver of 2023."""
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   71\n")
    (tmp_path / "proc/driver/nvidia/version").write_text(DRIVER.format("535.104.05"))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("build", "environment", "words"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' hides it"),
        ({}, {"CUDA_VISIBLE_DEVICES": "-1"}, "hides it"),
        ({"is_cuda_build": False}, {}, "built without CUDA"),
        # A version that no machine has.
        (
            {"cuda_version": "99.1"},
            {"CUDA_VISIBLE_DEVICES": "0"},
            "libcudart.so.99 is not installed",
        ),
    ],
)
def test_reasons(machine, build, environment, words):
    said = why_unseen({**BUILD, **build}, environment, machine)
    assert said.startswith("This machine has 1 x NVIDIA H100 80GB HBM3, which TensorFlow does not")
    assert words in said


def test_installation_names_this_tensorflow(machine):
    said = why_unseen({**BUILD, "cuda_version": "99"}, {}, machine)
    assert f"pip install 'tensorflow[and-cuda]=={tf.__version__}'" in said


def test_a_device_that_is_not_in_the_container(machine):
    (machine / "dev/nvidia0").unlink()
    assert "--gpus all" in why_unseen(BUILD, {}, machine)


def test_an_old_driver(machine):
    (machine / "proc/driver/nvidia/version").write_text(DRIVER.format("470.223.02"))
    assert "the driver 470.223.2 is older than CUDA 12.5.1 wants" in why_unseen(BUILD, {}, machine)


def test_no_gpu_or_no_reason(machine, tmp_path, monkeypatch):
    assert why_unseen(BUILD, {}, tmp_path / "elsewhere") is None
    monkeypatch.setattr(unseen_gpu, "_missing_library", lambda build: None)
    assert "TensorFlow says it" in why_unseen(BUILD, {}, machine)


def test_devices_on_one_screen_and_imports_are_quiet():
    code = (
        "import rfcx_tf, rfcx_tf.training.run, rfcx_tf.serving.export; "
        "from rfcx_tf.cli.main import main; main(['devices'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines()[:6])
    assert list(lines) == ["packages", "devices", "precision", "XLA", "memory", "input threads"]
    assert tf.__version__ in lines["packages"]
    assert done.stderr == ""
