"""The network, its loss and the front end on JAX, without TensorFlow, against TensorFlow."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomize

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.detector import build_detector
from rfcx_tf.training.classifier import CropClassifier

_PATHS = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
CONFIG = Config.model_validate(
    {
        "frontend": {
            "sample_rate_hz": 8000,
            "n_fft": 256,
            "win_length": 250,
            "hop_length": 120,
            "n_mels": 32,
            "compression": "pcen_log",
        },
        "crops": {"crop_s": 0.96},
        "model": {
            "backbone": {"name": "resnet10", "width": 4},
            "head": {
                "kind": "per_class",
                "frequency_pooling": "mean_max",
                "time_pooling": "mean_max",
                "dropout": 0.0,
            },
        },
        "loss": {"unknown_negative_weight": 0.3},
    }
)
CLASSES = [SpeciesClass(number, "") for number in range(3)]


@pytest.fixture(scope="module")
def jax_python():
    """An interpreter with JAX: this one, or one that the environment names."""
    if importlib.util.find_spec("jax") is not None:
        return sys.executable
    if python := os.environ.get("RFCX_JAX_PYTHON"):
        return python
    pytest.skip("JAX is not installed here, and RFCX_JAX_PYTHON names no Python with JAX and Keras")


@pytest.fixture(scope="module")
def given():
    random = np.random.default_rng(0)
    detector = build_detector(CONFIG, CLASSES, {0: 0.4})
    randomize(detector)
    time_s = np.arange(8000) / 8000
    return {
        "spectrogram": random.normal(1.0, 2.0, (6, CONFIG.crop_frames, 64)).astype(np.float32),
        "target": np.float32([[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]),
        "known": np.float32([[1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 0]]),
        "partly": np.float32([[0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]),
        "pseudo": np.float32([0, 0, 0, 0, 0, 1]),
        "boxes": np.float32([[[n % 4 - 1, 9, 30, 5, 20], [1, -8, 20, 30, 50]] for n in range(6)]),
        "inside": random.integers(0, 2, (6, math.ceil(CONFIG.crop_frames / 16), 3)).astype("f4"),
        "waveform": (0.1 * random.normal(size=(2, 8000)) * (1.1 + np.sin(9 * time_s))).astype("f4"),
        **{f"weight{n}": value for n, value in enumerate(detector.get_weights())},
    }


@pytest.fixture(scope="module")
def on_jax(jax_python, given, tmp_path_factory):
    """What `step_on_jax.py` finds, on two devices."""
    folder = tmp_path_factory.mktemp("jax")
    np.savez(folder / "given.npz", config=json.dumps(CONFIG.model_dump(mode="json")), **given)
    environment = os.environ | {
        "PYTHONPATH": _PATHS,
        "KERAS_BACKEND": "jax",
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        # Compiled in half the time, as programs may be that run once.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 "
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    script = Path(__file__).with_name("step_on_jax.py")
    command = [jax_python, script, folder / "given.npz", folder / "found.npz"]
    subprocess.run(command, env=environment, check=True)
    with np.load(folder / "found.npz") as arrays:
        return dict(arrays)


def test_loss_gradients_and_statistics_of_a_step_are_those_of_tensorflow(given, on_jax):
    detector = build_detector(CONFIG, CLASSES, {0: 0.4})
    detector.set_weights([given[f"weight{n}"] for n in range(len(detector.weights))])
    classifier = CropClassifier(detector, CONFIG)
    names = ("target", "known", "partly", "pseudo", "boxes", "inside")
    labels = {name: tf.constant(given[name]) for name in names}
    with tf.GradientTape() as tape:
        logits = classifier(given["spectrogram"], training=True)
        loss = classifier.compute_loss(None, labels, logits)
    gradients = tape.gradient(loss, [v.value for v in classifier.trainable_variables])
    found = {k.removeprefix("one_"): v for k, v in on_jax.items() if k.startswith("one_")}
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    for number, (expected, variable) in enumerate(
        zip(gradients, classifier.trainable_variables, strict=True)
    ):
        largest = np.abs(expected).max()
        assert largest > 0, variable.path
        error = np.abs(found[f"gradient{number}"] - expected).max()
        assert error <= 1e-4 * largest, variable.path
    for number, variable in enumerate(classifier.non_trainable_variables):
        np.testing.assert_allclose(
            found[f"changed{number}"], variable, rtol=1e-4, atol=1e-5, err_msg=variable.path
        )


def test_statistics_are_those_of_the_whole_batch_on_two_devices(on_jax):
    assert on_jax["devices"] == 2
    names = [name.removeprefix("one_") for name in on_jax if name.startswith("one_")]
    assert len(names) > 40
    for name in names:
        one, several = on_jax[f"one_{name}"], on_jax[f"several_{name}"]
        tolerance = 1e-4 * np.abs(one).max()
        np.testing.assert_allclose(several, one, rtol=0, atol=tolerance, err_msg=name)


def test_keras_trains_it(on_jax):
    losses = on_jax["losses"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_the_front_end_is_that_of_tensorflow(given, on_jax):
    expected = FrontEnd(CONFIG.frontend)(given["waveform"])
    np.testing.assert_allclose(on_jax["float64"], expected, rtol=1e-6)
    # PCEN and log-mel, of noise in every band.
    np.testing.assert_allclose(on_jax["float32"], expected, rtol=2e-5, atol=2e-5)


def test_networks_are_imported_without_tensorflow(jax_python):
    """All of `rfcx_tf.model` but what runs LiteRT files, or translates them to TensorFlow."""
    script = (
        "import importlib, pkgutil, sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import rfcx_tf.model, rfcx_tf.frontend.frontend, rfcx_tf.training.classifier\n"
        "for found in pkgutil.iter_modules(rfcx_tf.model.__path__):\n"
        "    if found.name not in ('litert_interpreter', 'tflite_graph'):\n"
        "        importlib.import_module('rfcx_tf.model.' + found.name)\n"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": _PATHS}
    subprocess.run([jax_python, "-c", script], env=environment, check=True)
