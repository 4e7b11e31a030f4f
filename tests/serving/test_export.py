"""The SavedModel, used as a stranger would: TensorFlow alone, in another process."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
import yaml
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from rfcx_tf.config import load_config
from rfcx_tf.data.records import read_manifest
from rfcx_tf.errors import InputError
from rfcx_tf.inference.predict import open_runs, predict_recordings
from rfcx_tf.inference.recording_model import EnsembleModel, load_recording_model
from rfcx_tf.model.detector import build_detector
from rfcx_tf.run_folder import RunFolder
from rfcx_tf.serving.export import export_saved_model

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["s2", "s5", "s9"]

# Runs in a folder from where rfcx_tf cannot be imported, as if Keras were not installed.
STRANGER = """
import sys
sys.modules["keras"] = sys.modules["rfcx_tf"] = None
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
for name, signature in model.signatures.items():
    print(name, signature.structured_input_signature[1], sorted(signature.structured_outputs))
score = model.signatures["serving_default"]
outputs = {}
for name, waveform in np.load(sys.argv[2]).items():
    for key, value in score(waveform=tf.constant(waveform)).items():
        outputs[f"{name}.{key}"] = value.numpy()
spectrogram = np.load(sys.argv[3])
for key, value in model.signatures["spectrogram"](spectrogram=tf.constant(spectrogram)).items():
    outputs[f"spectrogram.{key}"] = value.numpy()
np.savez(sys.argv[4], **outputs)
"""


def random_run(path, config, shards, folds=(0, 1), seed=0) -> RunFolder:
    """Folds of random weights, as if trained."""
    run = RunFolder.create(path, config, read_manifest(shards), shards)
    random = np.random.default_rng(seed)
    for fold in folds:
        keras.utils.set_random_seed(seed + fold)
        detector = build_detector(config, run.info.classes, run.info.mean_box_s)
        for weight in detector.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        run.fold(fold).mkdir(parents=True)
        detector.save_weights(run.detector_weights(fold))
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": fold}))
    return run


@pytest.fixture(scope="module")
def run(tiny_config, tiny_shards, tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("export") / "run", tiny_config, tiny_shards)


@pytest.fixture(scope="module")
def make_other(tiny_config, tiny_shards, tmp_path_factory):
    """Makes a run of one fold with other values of the front end."""

    def make(**front_end) -> RunFolder:
        front = tiny_config.frontend.model_copy(update=front_end)
        config = tiny_config.model_copy(update={"frontend": front})
        path = tmp_path_factory.mktemp("export") / "other"
        return random_run(path, config, tiny_shards, [0], seed=7)

    return make


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return export_saved_model(load_recording_model(run), tmp_path_factory.mktemp("exported") / "m")


def test_a_stranger_gets_the_scores_of_predict(run, exported, tiny_data, tmp_path):
    files = [tiny_data / "train" / f"tiny0{number}.flac" for number in (3, 8)]
    waves = np.stack([soundfile.read(path, dtype="float32")[0] for path in files])
    np.savez(tmp_path / "waves.npz", both=waves, one=waves[:1], short=waves[1:, :20001])
    model = load_recording_model(run)
    spectrogram = model.spectrogram(waves[:, :30000]).numpy()
    np.save(tmp_path / "spectrogram.npy", spectrogram)
    (tmp_path / "stranger.py").write_text(STRANGER)
    result = subprocess.run(
        [
            *(sys.executable, "stranger.py", exported),
            *("waves.npz", "spectrogram.npy", "outputs.npz"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert "TensorSpec(shape=(None, None), dtype=tf.float32, name='waveform')" in result.stdout
    assert "TensorSpec(shape=(None, None, 32), dtype=tf.float32" in result.stdout
    assert result.stdout.count("['scores', 'window_scores', 'window_start_s']") == 2

    outputs = np.load(tmp_path / "outputs.npz")
    for number, name in ((0, "short"), (1, "full")):
        soundfile.write(tmp_path / f"{name}.wav", waves[1, : (20001, None)[number]], 8000, "FLOAT")
    predicted = predict_recordings(
        open_runs([run.path]),
        {"tiny03": files[0], "tiny08": files[1], "short": tmp_path / "short.wav"},
        progress=False,
    ).scores.set_index("recording_id")
    largest = 0.0
    for name, rows in {"both": ["tiny03", "tiny08"], "one": ["tiny03"], "short": ["short"]}.items():
        own = outputs[f"{name}.scores"]
        assert own.shape == (len(rows), 3)
        largest = max(largest, np.abs(own - predicted.loc[rows, COLUMNS].to_numpy()).max())
    print(f"export against predict: largest difference {largest:.1e}")
    assert largest < 1e-5
    assert predicted[COLUMNS].std().min() > 1e-3
    # 6 s at 8 kHz: 376 frames, 24 cells, 21 windows of 4; one begins every 0.256 s.
    assert outputs["both.window_scores"].shape == (2, 21, 3)
    np.testing.assert_allclose(outputs["both.window_start_s"], 0.256 * np.arange(21), rtol=1e-6)
    np.testing.assert_allclose(
        outputs["both.window_scores"].max(axis=1), outputs["both.scores"], atol=0.2
    )
    expected = model.scores(spectrogram)
    for key in ("scores", "window_scores"):
        np.testing.assert_allclose(outputs[f"spectrogram.{key}"], expected[key], atol=1e-5)


def test_every_operation_is_one_of_tensorflow(exported):
    """`tf.raw_ops` lists the operations of the library; those that call Python are refused."""
    saved = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (meta,) = saved.meta_graphs
    library = meta.graph_def.library.function
    nodes = [*meta.graph_def.node, *(node for function in library for node in function.node_def)]
    functions = {function.signature.name for function in library}
    used = {node.op for node in nodes} - functions
    assert len(nodes) > 100
    assert {"Conv2D", "RFFT", "Sigmoid"} <= used
    assert not [op for op in used if not hasattr(tf.raw_ops, op)]
    assert not [op for op in used if "PyFunc" in op]


def test_assets_explain_the_columns(run, exported):
    with (exported / "assets" / "classes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["column", "species_id", "name"],
        ["s2", "2", "low"],
        ["s5", "5", "middle"],
        ["s9", "9", "high"],
    ]
    assert load_config(exported / "assets" / "config.yaml") == run.config


def test_an_ensemble_gives_the_scores_of_predict(run, make_other, tiny_data, tmp_path):
    other = make_other(n_mels=40, compression="log")
    models, weights = open_runs([run.path, other.path]), [0.7, 0.3]
    model = EnsembleModel(models, ["run", "other"], weights)
    version = export_saved_model(model, tmp_path / "m")
    served = tf.saved_model.load(str(version)).signatures
    assert list(served) == ["serving_default"]
    files = {f"tiny0{n}": tiny_data / "train" / f"tiny0{n}.flac" for n in (3, 8)}
    waves = np.stack([soundfile.read(path, dtype="float32")[0] for path in files.values()])
    outputs = served["serving_default"](waveform=tf.constant(waves))
    predicted = predict_recordings(models, files, weights=weights, progress=False).scores
    difference = np.abs(outputs["scores"] - predicted[COLUMNS].to_numpy()).max()
    print(f"export of an ensemble against predict: largest difference {difference:.1e}")
    assert difference < 1e-6
    one, two = (member.score_waveform(waves) for member in models)
    for key in ("scores", "window_scores"):
        np.testing.assert_allclose(outputs[key], 0.7 * one[key] + 0.3 * two[key], atol=1e-5)
    np.testing.assert_array_equal(outputs["window_start_s"], one["window_start_s"])
    assert np.abs(one["scores"] - two["scores"]).max() > 0.01

    names = {path.name for path in (version / "assets").iterdir()}
    assert names == {"classes.csv", "ensemble.yaml", "config0.yaml", "config1.yaml"}
    assert load_config(version / "assets" / "config1.yaml") == other.config
    assert yaml.safe_load((version / "assets" / "ensemble.yaml").read_text()) == {
        "rule": "mean",
        "members": [
            {"run": "run", "weight": 0.7, "config": "config0.yaml"},
            {"run": "other", "weight": 0.3, "config": "config1.yaml"},
        ],
    }


def test_script_exports_an_ensemble_of_ranks(run, make_other, tiny_data, tmp_path):
    """One front end, so there is a signature for spectrograms; windows keep probabilities."""
    other = make_other()
    result = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts" / "export.py", "--run", run.path, other.path),
            *("--combine", "rank", "--weights", "3", "1", "--out", tmp_path / "m"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert f"Exported fold(s) 0, 1 of {run.path}." in result.stdout
    assert f"Exported fold(s) 0 of {other.path}." in result.stdout
    served = tf.saved_model.load(str(tmp_path / "m" / "1")).signatures
    path = tiny_data / "train" / "tiny03.flac"
    wave = soundfile.read(path, dtype="float32")[0][None]
    models, weights = open_runs([run.path, other.path]), [0.75, 0.25]
    predicted = predict_recordings(
        models, {"tiny03": path}, weights=weights, rule="rank", progress=False
    ).scores[COLUMNS]
    outputs = served["serving_default"](waveform=tf.constant(wave))
    np.testing.assert_allclose(outputs["scores"], predicted, atol=1e-6)
    one, two = (member.score_waveform(wave)["window_scores"] for member in models)
    np.testing.assert_allclose(outputs["window_scores"], 0.75 * one + 0.25 * two, atol=1e-5)
    again = served["spectrogram"](spectrogram=models[0].spectrogram(wave))
    np.testing.assert_allclose(again["window_scores"], outputs["window_scores"], atol=1e-5)


def test_an_ensemble_of_other_windows_is_refused(run, make_other):
    other = make_other(hop_length=64)
    with pytest.raises(InputError, match="must have the same windows") as caught:
        EnsembleModel(open_runs([run.path, other.path]), ["run", "other"], [0.5, 0.5])
    assert "run: 1.024 s, one every 0.256 s; other: 1.024 s, one every 0.128 s" in str(caught.value)


def test_versions_are_numbered(exported, run):
    assert exported.name == "1"
    out = exported.parent
    (out / "7").mkdir()
    (out / "notes").mkdir()
    (out / "7" / "saved_model.pb").write_text("")
    version = export_saved_model(load_recording_model(run, [0]), out)
    assert version == out / "8"
    assert sorted(path.name for path in out.iterdir()) == ["1", "7", "8", "notes"]


def test_a_failure_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def fail(servable, path, signatures):
        Path(path).mkdir()
        (Path(path) / "saved_model.pb").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        export_saved_model(load_recording_model(run, [0]), tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "m"):
        with pytest.raises(InputError, match="cannot be written") as caught:
            export_saved_model(load_recording_model(run, [0]), out)
        assert str(out) in str(caught.value)


def test_script_refuses_an_unfinished_run_in_one_line(run, tiny_config, tiny_shards, tmp_path):
    RunFolder.create(tmp_path / "run", tiny_config, read_manifest(tiny_shards), tiny_shards)
    result = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts" / "export.py"),
            *("--run", tmp_path / "run", "--out", tmp_path / "m"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: A run needs at least one finished fold.")
    assert not (tmp_path / "m").exists()
