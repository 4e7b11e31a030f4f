"""A listener as a SavedModel, used by a stranger in another process, against NumPy."""

import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from made_cards import CALIBRATION, CARD

from rfcx_tf.core.config import ListenerConfig
from rfcx_tf.model.embedding import EmbeddingModel
from rfcx_tf.model.regressions import MaskedRegressions
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.exported import ExportedScorer
from rfcx_tf.scoring.listener import ListenerScorer
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.serving.export import export_saved_model

RATE_HZ, WINDOW, HOP, SIZE = 100, 50, 20, 6
RANDOM = np.random.default_rng(5)
KERNEL = RANDOM.normal(0, 0.3, (WINDOW, SIZE)).astype(np.float32)
BIAS = RANDOM.normal(0, 0.3, SIZE).astype(np.float32)
HEADS = [
    MaskedRegressions(
        mean=RANDOM.normal(0, 1, SIZE),
        scale=RANDOM.uniform(0.5, 2, SIZE),
        coefficients=RANDOM.normal(0, 1, (SIZE, 3)),
        intercepts=RANDOM.normal(0, 1, 3),
        fitted=np.array([True, False, True]),
    )
    for _ in range(2)
]
# As if neither Keras nor this package were installed.
STRANGER = """
import sys
sys.modules["keras"] = sys.modules["rfcx_tf"] = None
import numpy as np
import tensorflow as tf

outputs = {}
for folder in sys.argv[3:]:
    model = tf.saved_model.load(folder)
    for name, waveform in np.load(sys.argv[1]).items():
        found = model.signatures["serving_default"](waveform=tf.constant(waveform))
        outputs |= {f"{folder}.{name}.{key}": value.numpy() for key, value in found.items()}
np.savez(sys.argv[2], **outputs)
"""


def save_network(path):
    """relu(sound W + b) of windows of 50 samples."""
    module = tf.Module()
    module.kernel = tf.Variable(KERNEL)

    @tf.function(input_signature=[tf.TensorSpec([None, WINDOW], tf.float32, name="sound")])
    def hear(sound):
        return {"embedding": tf.nn.relu(tf.matmul(sound, module.kernel) + BIAS)}

    tf.saved_model.save(module, str(path), {"serving_default": hear})


def convert_network(path):
    """The same as a TFLite file."""

    def hear(sound):
        return tf.nn.relu(tf.matmul(sound, KERNEL) + BIAS)

    traced = tf.function(hear, [tf.TensorSpec([None, WINDOW], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    path.write_bytes(converter.convert())


def listener(path, output, **values) -> ListenerScorer:
    config = ListenerConfig(
        sample_rate_hz=RATE_HZ, window_s=0.5, hop_s=0.2, output=output, num_threads=1, **values
    )
    card = ModelCard(
        classes=CARD.classes,
        sample_rate_hz=RATE_HZ,
        window_s=0.5,
        hop_s=0.2,
        window_centre_s=(0.25,) * 3,
        mean_box_s=(math.nan,) * 3,
        box_hz=((math.nan, math.nan),) * 3,
        ends_inside=False,
        calibration=CALIBRATION,
        frontend="made up",
        made_by="a test",
    )
    return ListenerScorer(card, EmbeddingModel.open(path, config), HEADS)


def by_hand(waveform, peak=None) -> tuple[np.ndarray, np.ndarray]:
    """Scores [classes] and window scores [windows, classes] of float samples."""
    starts = range(0, 1 + max(0, math.ceil((len(waveform) - WINDOW) / HOP)) * HOP, HOP)
    padded = np.pad(waveform.astype(float), (0, WINDOW))
    windows = np.stack([padded[s : s + WINDOW] for s in starts])
    if peak is not None:
        windows -= windows.mean(axis=1, keepdims=True)
        windows *= peak / np.abs(windows).max(axis=1, keepdims=True)
    embeddings = np.maximum(windows @ KERNEL + BIAS, 0)
    folds = []
    for head in HEADS:
        standardised = (embeddings - head.mean) / head.scale
        logits = standardised @ head.coefficients + head.intercepts
        folds.append(head.fitted / (1 + np.exp(-logits)))
    return np.mean([f.max(axis=0) for f in folds], axis=0), np.mean(folds, axis=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Versions of two listeners: a SavedModel's and a TFLite file's."""
    folder = tmp_path_factory.mktemp("listeners")
    save_network(folder / "saved")
    convert_network(folder / "network.tflite")
    listeners = {
        "saved": listener(folder / "saved", "embedding", window_peak=0.25),
        "tflite": listener(folder / "network.tflite", "output"),
    }
    return {
        name: export_saved_model(scorer, folder / "exported" / name, warmup_s=[2])
        for name, scorer in listeners.items()
    }


def test_a_stranger_gets_the_scores_of_the_listener(exported, tmp_path):
    waves = {f"of{n}": RANDOM.normal(0, 0.3, (1, n)) for n in (7, 50, 51, 430)}
    waves["batch"] = RANDOM.normal(0, 0.3, (20, 91))
    waves = {name: wave.astype(np.float32) for name, wave in waves.items()}
    np.savez(tmp_path / "waves.npz", **waves)
    (tmp_path / "stranger.py").write_text(STRANGER)
    result = subprocess.run(
        [sys.executable, "stranger.py", "waves.npz", "outputs.npz", *exported.values()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    for kind, folder in exported.items():
        for name, batch in waves.items():
            found = {
                key: outputs[f"{folder}.{name}.{key}"]
                for key in ("scores", "window_scores", "window_start_s", "probabilities")
            }
            for row, wave in enumerate(batch):
                scores, windows = by_hand(wave, 0.25 if kind == "saved" else None)
                np.testing.assert_allclose(found["scores"][row], scores, atol=1e-5)
                np.testing.assert_allclose(found["window_scores"][row], windows, atol=1e-5)
            np.testing.assert_allclose(found["window_start_s"], 0.2 * np.arange(len(windows)))
            # The calibration's probability has half the logit of the score.
            odds = found["scores"][:, ::2] / (1 - found["scores"][:, ::2])
            expected = np.sqrt(odds) / (1 + np.sqrt(odds))
            np.testing.assert_allclose(found["probabilities"][:, ::2], expected, atol=1e-4)


def test_it_is_a_model_as_any_other(exported):
    model = tf.saved_model.load(str(exported["saved"]))
    assert sorted(model.signatures) == ["about", "batch", "embedding", "serving_default", "wav"]
    wave = RANDOM.normal(0, 0.3, 430).astype(np.float32)
    scores, windows = by_hand(wave, 0.25)
    about = model.signatures["about"](samples=430)
    assert about["windows"] == len(windows) == 20
    assert model.signatures["about"](samples=3)["windows"] == 1
    assert ModelCard.from_json(about["card"].numpy().decode()).calibration is not None
    embedded = model.signatures["embedding"](waveform=wave[np.newaxis])
    assert embedded["window_embeddings"].shape == (1, 20, SIZE)
    np.testing.assert_allclose(
        embedded["embeddings"], embedded["window_embeddings"].numpy().mean(axis=1), atol=1e-6
    )
    # Two exports as an ensemble.
    ensemble = EnsembleScorer([ExportedScorer(path) for path in exported.values()], rule="window")
    found = score_blocks(ensemble, [{RATE_HZ: wave}])
    np.testing.assert_allclose(found.window_scores, (windows + by_hand(wave)[1]) / 2, atol=1e-5)
    np.testing.assert_allclose(found.scores, found.window_scores.max(axis=0))
    # What TensorFlow's C++ runtime is: a session.
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signature = v1.saved_model.load(session, ["serve"], str(exported["saved"])).signature_def[
            "serving_default"
        ]
        output, own = signature.outputs["scores"].name, signature.inputs["waveform"].name
        in_session = session.run(output, {own: wave[np.newaxis]})
    np.testing.assert_allclose(in_session[0], scores, atol=1e-5)
