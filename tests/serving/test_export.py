"""The SavedModel, used as a stranger would: TensorFlow alone, in another process."""

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
import yaml
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from rfcx_tf.core.config import load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import Calibration, read_calibration, write_calibration
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.load import load_scorer, load_together
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.serving.export import export_saved_model
from rfcx_tf.serving.servable import ServableModel
from rfcx_tf.shards.records import read_manifest

COLUMNS = ["s2", "s5", "s9"]
INIT = "__saved_model_init_op"

# Runs in a folder from where rfcx_tf cannot be imported, as if Keras were not installed. Every
# array of the file is called SIGNATURE.INPUT.NAME; results are called SIGNATURE.NAME.OUTPUT.
STRANGER = """
import sys
sys.modules["keras"] = sys.modules["rfcx_tf"] = None
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
for name, signature in model.signatures.items():
    print(name, signature.structured_input_signature[1], sorted(signature.structured_outputs))
outputs = {}
for key, value in np.load(sys.argv[2], allow_pickle=True).items():
    signature, name, case = key.split(".")
    results = model.signatures[signature](**{name: tf.constant(value.tolist(), name=name)
                                             if value.dtype == object else tf.constant(value)})
    outputs |= {f"{signature}.{case}.{k}": v.numpy() for k, v in results.items()}
np.savez(sys.argv[3], **outputs)
"""

# The operations that an exported model may use: all of them in every TensorFlow, none that calls
# Python, none of another package, none that ties it to a kind of device.
# fmt: off
STOCK_OPERATIONS = {
    "Abs", "AddV2", "All", "Any", "Assert", "AssignVariableOp", "AvgPool", "BatchMatMulV2",
    "BiasAdd", "BroadcastTo", "Cast", "ConcatV2", "Const",
    "Conv2D", "DecodeRaw", "DisableCopyOnRead", "Equal",
    "Exp", "ExpandDims", "Expm1", "Fill", "FloorDiv", "FloorMod", "FusedBatchNormV3", "GatherV2",
    "Greater", "GreaterEqual", "Identity", "If", "Imag", "Less", "LessEqual", "Log", "Log1p",
    "LogicalAnd", "LogicalNot", "LogicalOr", "MatMul", "Max", "MaxPool", "Maximum", "Mean",
    "MergeV2Checkpoints", "Min", "Minimum", "Mul", "Neg", "NoOp", "Pack", "Pad", "PartitionedCall",
    "Placeholder", "Pow", "Prod", "RFFT", "RaggedTensorFromVariant", "RaggedTensorToTensor",
    "RaggedTensorToVariant", "Range", "ReadVariableOp", "Real", "RealDiv", "Relu", "Reshape",
    "RestoreV2", "SaveV2", "Select", "SelectV2", "Shape", "ShardedFilename", "Sigmoid", "Size",
    "SplitV", "Sqrt", "Square", "Squeeze", "StatefulPartitionedCall", "StatelessIf",
    "StatelessWhile", "StaticRegexFullMatch", "StopGradient", "StridedSlice",
    "StringJoin", "StringLength", "Sub",
    "Substr", "Sum", "TensorListFromTensor", "TensorListGetItem", "TensorListReserve",
    "TensorListSetItem", "TensorListStack", "Transpose", "VarHandleOp", "VarIsInitializedOp",
    "While",
}
# fmt: on


@pytest.fixture(scope="module")
def run(write_random_run, tiny_config, tmp_path_factory):
    return write_random_run(tmp_path_factory.mktemp("export") / "run", tiny_config)


@pytest.fixture(scope="module")
def one_fold(run):
    """The scorer of the run's first fold."""
    return load_scorer(run, [0])


@pytest.fixture(scope="module")
def make_other(write_random_run, tiny_config, tmp_path_factory):
    """Makes a run of one fold with other values of the front end."""

    def make(**front_end) -> RunFolder:
        front = tiny_config.frontend.model_copy(update=front_end)
        config = tiny_config.model_copy(update={"frontend": front})
        path = tmp_path_factory.mktemp("export") / "other"
        return write_random_run(path, config, [0], seed=7)

    return make


@pytest.fixture(scope="module")
def calibration():
    """Three maps that are no straight lines, over scores as random weights give them."""
    return Calibration(
        columns=COLUMNS,
        score_logits=np.float32([[-20, -3, -1.9, 20], [-4, -2, 0, 1], [-20, 0, 1, 20]]),
        probability_logits=np.float32([[-9, -4, 2, 3], [-1, 0, 0, 5], [-19, 0, 3, 4]]),
        thresholds=np.float32([0.5, 0.7, 0.9]),
        rows=[{"name": name, "method": "isotonic"} for name in ("low", "middle", "high")],
        wanted="a test",
    )


@pytest.fixture(scope="module")
def exported(run, calibration, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "m"
    scorer = load_scorer(run)
    bands_hz = ((600.0, 800.0), (float("nan"),) * 2, (2600.0, 3000.0))
    scorer.card = scorer.card.replace(box_hz=bands_hz, calibration=calibration)
    return export_saved_model(scorer, out, warmup_s=[3])


@pytest.fixture(scope="module")
def served(exported):
    model = tf.saved_model.load(str(exported))
    yield model.signatures
    # Signatures alone do not keep the variables.
    del model


def wav_bytes(samples, rate_hz=8000, coding="PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate_hz, coding, format="WAV")
    return stream.getvalue()


def test_a_stranger_gets_the_scores_of_predict(run, exported, calibration, tiny_data, tmp_path):
    files = [tiny_data / "train" / f"tiny0{number}.flac" for number in (3, 8)]
    waves = np.stack([soundfile.read(path, dtype="float32")[0] for path in files])
    model = load_scorer(run)
    spectrogram = model.spectrogram(waves[:, :30000]).numpy()
    # One window is 49 frames or 48 hops of 128 samples. The shortest has less.
    lengths = (5000, 6144, 6145, 8192, 20001, 48000)
    calls = {f"serving_default.waveform.{n}": waves[1:, :n] for n in lengths}
    calls |= {f"batch.waveform.{n}": waves[1:, :n] for n in lengths}
    for n in lengths:
        alone = np.empty([], object)
        alone[()] = wav_bytes(waves[1, :n], coding="FLOAT")
        calls[f"wav.wav.{n}"] = alone
    both = np.empty([2], object)
    both[:] = [wav_bytes(wave, coding="PCM_24") for wave in waves]
    calls |= {"wav.wav.both": both, "serving_default.waveform.both": waves}
    calls["spectrogram.spectrogram.both"] = spectrogram
    np.savez(tmp_path / "calls.npz", **calls)
    (tmp_path / "stranger.py").write_text(STRANGER)
    result = subprocess.run(
        [sys.executable, "stranger.py", exported, "calls.npz", "outputs.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr
    assert "TensorSpec(shape=(None, None), dtype=tf.float32, name='waveform')" in result.stdout
    assert "TensorSpec(shape=(None, None, 32), dtype=tf.float32" in result.stdout
    assert "TensorSpec(shape=<unknown>, dtype=tf.string, name='wav')" in result.stdout
    names = (
        "['probabilities', 'scores', 'window_boxes', 'window_probabilities', 'window_scores', "
        "'window_start_s']"
    )
    assert result.stdout.count(names) == 2
    assert result.stdout.count(names.replace("[", "['class_names', ")) == 1

    outputs = np.load(tmp_path / "outputs.npz", allow_pickle=True)
    # What answers to WAV files say by themselves.
    assert outputs["wav.both.class_names"].tolist() == [b"low", b"middle", b"high"]
    recordings = {}
    for n in lengths:
        recordings[str(n)] = tmp_path / f"{n}.wav"
        soundfile.write(recordings[str(n)], waves[1, :n], 8000, "FLOAT")
    recordings["first"] = files[0]
    predicted = predict_recordings(model, recordings, progress=False).scores
    predicted = predicted.set_index("recording_id")[COLUMNS]
    assert predicted.std().min() > 1e-3
    cases = {str(n): [str(n)] for n in lengths} | {"both": ["first", "48000"]}
    differences = {"serving_default": [], "batch": [], "wav": []}
    for case, rows in cases.items():
        for signature, found in differences.items():
            if f"{signature}.{case}.scores" not in outputs:
                continue
            own = outputs[f"{signature}.{case}.scores"]
            assert own.shape == (len(rows), 3)
            found.append(np.abs(own - predicted.loc[rows].to_numpy()).max())
            for kind in ("", "window_"):
                scores = outputs[f"{signature}.{case}.{kind}scores"]
                probability = outputs[f"{signature}.{case}.{kind}probabilities"]
                expected = calibration.probabilities(scores)
                np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert [len(found) for found in differences.values()] == [7, 6, 7]
    for signature, found in differences.items():
        print(f"{signature} against predict: largest difference {max(found):.1e}")
        assert max(found) < 1e-5
    # 6 s at 8 kHz: 376 frames, 24 cells, 21 windows of 4; one begins every 0.256 s.
    windows = [1, 1, 1, 2, 7, 21]
    for n, expected in zip(lengths, windows, strict=True):
        assert outputs[f"serving_default.{n}.window_scores"].shape == (1, expected, 3)
    start_s = outputs["serving_default.both.window_start_s"]
    np.testing.assert_allclose(start_s, 0.256 * np.arange(21), rtol=1e-6)
    expected = model.scores(spectrogram)
    for key in ("scores", "window_scores"):
        np.testing.assert_allclose(outputs[f"spectrogram.both.{key}"], expected[key], atol=1e-5)


def test_about_tells_a_client_all_it_needs(run, served, calibration):
    about = {key: value.numpy() for key, value in served["about"](samples=48000).items()}
    card = ModelCard.from_json(about["card"].decode())
    assert card.made_by == str(run.path)
    np.testing.assert_array_equal(card.thresholds, calibration.thresholds)
    assert about["class_names"].tolist() == [b"low", b"middle", b"high"]
    assert about["species_ids"].tolist() == [2, 5, 9]
    assert (about["sample_rate_hz"], about["calibrated"]) == (8000, True)
    np.testing.assert_allclose([about["window_s"], about["hop_s"]], [1.024, 0.256])
    np.testing.assert_array_equal(about["thresholds"], np.float32([0.5, 0.7, 0.9]))
    np.testing.assert_array_equal(about["score_thresholds"], calibration.score_thresholds())
    np.testing.assert_array_equal(about["calibration_score_logits"], calibration.score_logits)
    knots = about["calibration_probability_logits"]
    np.testing.assert_array_equal(knots, calibration.probability_logits)
    np.testing.assert_allclose(about["mean_box_s"], [run.info.mean_box_s[i] for i in (2, 5, 9)])
    np.testing.assert_array_equal(about["low_hz"], [600, np.nan, 2600])
    np.testing.assert_array_equal(about["high_hz"], [800, np.nan, 3000])
    for samples in (1, 6144, 8191, 8192, 8193, 20001, 48000):
        outputs = served["batch"](waveform=tf.zeros([1, samples]))
        assert served["about"](samples=samples)["windows"] == outputs["window_scores"].shape[1]


def test_embeddings_are_pooled_features_of_the_backbone(run, served, tiny_data):
    """What the head of the first fold's detector makes its window scores of."""
    wave = soundfile.read(tiny_data / "train" / "tiny03.flac", dtype="float32")[0][None]
    outputs = served["embedding"](waveform=tf.constant(wave))
    detector = build_detector(run.config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(0))
    windows = outputs["window_embeddings"].numpy()
    kernel, bias = (weight.numpy() for weight in detector.get_layer("logits").weights)
    assert windows.shape == (1, 21, len(kernel))
    scores = 1 / (1 + np.exp(-(windows @ kernel + bias)))
    first = load_scorer(run, [0]).score_waveform(wave)
    np.testing.assert_allclose(scores, first["window_scores"], atol=1e-5)
    np.testing.assert_allclose(outputs["embeddings"], windows.mean(axis=1), rtol=1e-4, atol=1e-6)


def test_what_cannot_be_scored_is_refused(served):
    def refused(signature, **inputs) -> str:
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            served[signature](**inputs)
        return str(caught.value)

    wave = np.zeros([1, 9000], np.float32)
    for value in (np.nan, np.inf, 3000.0):
        wave[0, 7] = value
        for signature in ("serving_default", "batch", "embedding"):
            message = refused(signature, waveform=tf.constant(wave))
            assert (
                "Samples must be finite and scaled to +-1. Found others, so many:] [1]" in message
            )
    message = refused("serving_default", waveform=tf.zeros([1, 0]))
    assert "A waveform must have at least one sample. Found shape:] [1 0]" in message
    message = refused("wav", wav=tf.constant(wav_bytes(np.zeros(9000), 16000)))
    assert "A recording must be sampled at 8000 Hz. Resample it. Found Hz:] [16000]" in message
    # Filled up to windows, these would take gigabytes.
    message = refused("batch", waveform=tf.zeros([100_000, 1]))
    assert "A request may hold 64 recordings. Found:] [100000]" in message
    message = refused("spectrogram", spectrogram=tf.zeros([65, 1, 32]))
    assert "A request may hold 64 recordings. Found:] [65]" in message


def test_a_session_answers_warmup_requests_and_gets_the_scores(exported, served, tiny_data):
    """TensorFlow Serving, C++ and saved_model_cli load a model so, and restore variables by other
    means than `tf.saved_model.load`."""
    wave = soundfile.read(tiny_data / "train" / "tiny03.flac", dtype="float32")[0]
    waves = np.stack([wave, wave[::-1]])
    expected = served["serving_default"](waveform=tf.constant(waves))
    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    assert path.stat().st_size < 2000
    logs = [PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    requests = [log.predict_log.request for log in logs]
    shapes = []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        for request in requests:
            assert request.model_spec.name == "m"
            signature = meta.signature_def[request.model_spec.signature_name]
            assert request.inputs.keys() == signature.inputs.keys()
            (output,) = request.output_filter
            assert len(signature.outputs) > 1
            feed = {
                signature.inputs[key].name: tf.make_ndarray(value)
                for key, value in request.inputs.items()
            }
            value = session.run(signature.outputs[output].name, feed)
            shapes.append((request.model_spec.signature_name, np.shape(value)))
            largest = max(np.size(array) for array in feed.values())
        signature = meta.signature_def["wav"]
        found = session.run(
            {key: tensor.name for key, tensor in signature.outputs.items()},
            {signature.inputs["wav"].name: [wav_bytes(wave) for wave in waves]},
        )
    assert sorted(name for name, _ in shapes[:-1]) == sorted(meta.signature_def.keys() - {INIT})
    assert all(shape[:1] in ((), (1,)) for _, shape in shapes)
    assert shapes[-1] == ("serving_default", (1, 3))
    assert largest == 3 * 8000
    assert found.pop("class_names").tolist() == [b"low", b"middle", b"high"]
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=1e-4)


def test_every_operation_is_on_the_list(exported):
    saved = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (meta,) = saved.meta_graphs
    library = meta.graph_def.library.function
    nodes = [*meta.graph_def.node, *(node for function in library for node in function.node_def)]
    used = {node.op for node in nodes} - {function.signature.name for function in library}
    assert len(nodes) > 100
    assert {"Conv2D", "RFFT", "Sigmoid", "DecodeRaw"} <= used
    assert used <= STOCK_OPERATIONS, used - STOCK_OPERATIONS
    assert all(hasattr(tf.raw_ops, name) for name in STOCK_OPERATIONS)


@pytest.mark.parametrize("samples", [6144, 20001])
def test_xla_compiles_it(served, tiny_data, samples):
    wave = soundfile.read(tiny_data / "train" / "tiny03.flac", dtype="float32")[0][None, :samples]
    compiled = tf.function(
        lambda waveform: served["serving_default"](waveform=waveform),
        [tf.TensorSpec(wave.shape, tf.float32)],
        jit_compile=True,
    )(wave)
    for key, value in served["serving_default"](waveform=tf.constant(wave)).items():
        # Boxes are in Hz too.
        np.testing.assert_allclose(compiled[key], value, rtol=1e-4, atol=1e-4)


def test_assets_explain_the_columns(run, exported, calibration):
    with (exported / "assets" / "classes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["column", "species_id", "name"],
        ["s2", "2", "low"],
        ["s5", "5", "middle"],
        ["s9", "9", "high"],
    ]
    assert load_config(exported / "assets" / "config.yaml") == run.config
    kept = read_calibration(exported / "assets" / "calibration.yaml")
    np.testing.assert_array_equal(kept.score_logits, calibration.score_logits)


def test_script_exports_an_ensemble_that_gives_the_scores_of_predict(
    make_other, tiny_data, tmp_path, run_script
):
    """Of two front ends, so there is no signature for spectrograms."""
    run, other = make_other(), make_other(n_mels=40, compression="log")
    result = run_script(
        *("export", "--run", run.path, other.path, "--out", tmp_path / "m"),
        *("--weights", "7", "3"),
    )
    assert result.returncode == 0, result.stderr
    assert f"Exported fold(s) 0 of {run.path}." in result.stdout
    assert f"Exported fold(s) 0 of {other.path}." in result.stdout
    version = tmp_path / "m" / "1"
    served = tf.saved_model.load(str(version)).signatures
    assert set(served) == {"serving_default", "batch", "wav", "embedding", "about"}
    about = served["about"](samples=1)
    assert not about["calibrated"]
    for key in ("thresholds", "score_thresholds"):
        np.testing.assert_array_equal(about[key], [0.5, 0.5, 0.5])
    assert about["calibration_score_logits"].shape == (3, 0)
    files = {f"tiny0{n}": tiny_data / "train" / f"tiny0{n}.flac" for n in (3, 8)}
    waves = np.stack([soundfile.read(path, dtype="float32")[0] for path in files.values()])
    outputs = served["serving_default"](waveform=tf.constant(waves))
    ensemble = load_together([run, other], [0.7, 0.3])
    predicted = predict_recordings(ensemble, files, progress=False).scores
    difference = np.abs(outputs["scores"] - predicted[COLUMNS].to_numpy()).max()
    print(f"export of an ensemble against predict: largest difference {difference:.1e}")
    assert difference < 1e-6
    one, two = (member.score_waveform(waves) for member in ensemble.members)
    for key in ("scores", "window_scores"):
        np.testing.assert_allclose(outputs[key], 0.7 * one[key] + 0.3 * two[key], atol=1e-5)
    np.testing.assert_array_equal(outputs["window_start_s"], one["window_start_s"])
    assert np.abs(one["scores"] - two["scores"]).max() > 0.01

    names = {path.name for path in (version / "assets").iterdir()}
    assert names == {*("card.json", "classes.csv", "ensemble.yaml", "config0.yaml", "config1.yaml")}
    assert load_config(version / "assets" / "config1.yaml") == other.config
    assert yaml.safe_load((version / "assets" / "ensemble.yaml").read_text()) == {
        "rule": "mean",
        "members": [
            {"run": run.path.name, "weight": 0.7, "config": "config0.yaml"},
            {"run": other.path.name, "weight": 0.3, "config": "config1.yaml"},
        ],
    }


def test_an_ensemble_of_windows_has_the_scores_of_predict(run, make_other, tiny_data, tmp_path):
    """Of one front end, so there is a signature for spectrograms."""
    ensemble = load_together([run, make_other()], [0.75, 0.25], "window")
    servable = ServableModel(ensemble, tmp_path)
    assert "spectrogram" in servable.signatures
    path = tiny_data / "train" / "tiny03.flac"
    wave = soundfile.read(path, dtype="float32")[0][None]
    predicted = predict_recordings(ensemble, {"tiny03": path}, progress=False).scores[COLUMNS]
    outputs = servable.score_waveform(wave)
    np.testing.assert_allclose(outputs["scores"], predicted, atol=1e-6)
    one, two = (member.score_waveform(wave)["window_scores"] for member in ensemble.members)
    np.testing.assert_allclose(outputs["window_scores"], 0.75 * one + 0.25 * two, atol=1e-5)
    again = servable.score_spectrogram(ensemble.members[0].spectrogram(wave))
    np.testing.assert_allclose(again["window_scores"], outputs["window_scores"], atol=1e-5)


def test_an_ensemble_of_other_windows_is_refused(run, make_other, tmp_path):
    other = make_other(hop_length=64)
    with pytest.raises(UserError, match="one sample rate and the same windows") as caught:
        export_saved_model(load_together([run, other]), tmp_path / "m")
    assert f"{run.path}: 8000 Hz, 1.024 s, one every 0.256 s; " in str(caught.value)
    assert f"{other.path}: 8000 Hz, 1.024 s, one every 0.128 s." in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_versions_are_numbered(one_fold, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "save", lambda servable, path, _: Path(path).mkdir())
    assert export_saved_model(one_fold, tmp_path / "m") == tmp_path / "m" / "1"
    (tmp_path / "m" / "7").mkdir()
    (tmp_path / "m" / "notes").mkdir()
    assert export_saved_model(one_fold, tmp_path / "m") == tmp_path / "m" / "8"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "7", "8", "notes"]


def test_a_failure_leaves_nothing_behind(one_fold, tmp_path, monkeypatch):
    def fail(servable, path, signatures):
        Path(path).mkdir()
        (Path(path) / "saved_model.pb").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        export_saved_model(one_fold, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_lengths_and_places_that_make_no_sense_are_refused(one_fold, tmp_path):
    with pytest.raises(UserError, match=r"longer than 0 s. Received: 3 -1"):
        export_saved_model(one_fold, tmp_path / "m", warmup_s=[3, -1])
    assert not (tmp_path / "m").exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "m"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            export_saved_model(one_fold, out)
        assert str(out) in str(caught.value)


def test_script_refuses_an_unfinished_run(tiny_config, tiny_shards, tmp_path, run_script):
    RunFolder.create(tmp_path / "run", tiny_config, read_manifest(tiny_shards), tiny_shards)
    result = run_script("export", "--run", tmp_path / "run", "--out", tmp_path / "m")
    assert result.returncode == 2
    assert result.stderr.startswith("error: A run needs at least one finished fold.")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "litert", "--run", "a", "b"], "LiteRT files are of one run."),
        (["--run", "a", "--seconds", "5"], "--seconds is for litert. Add --format litert"),
        (["--format", "litert", "--run", "a", "--calibration", "c"], "--calibration is for saved"),
    ],
)
def test_script_refuses_options_of_another_format(options, words, run_script):
    result = run_script("export", "--out", "m", *options)
    assert result.returncode == 2
    assert words in result.stderr


def test_script_takes_the_calibration_of_the_run(
    write_random_run, tiny_config, tmp_path, calibration, monkeypatch, run_script
):
    """And refuses one of other classes."""
    run = write_random_run(tmp_path / "run", tiny_config, [0])
    write_calibration(calibration, run.path / "calibration.yaml")
    write_calibration(replace(calibration, columns=["s2", "s9", "s5"]), tmp_path / "other.yaml")
    taken = []

    def export(scorer, out_dir, **options):
        taken.append((scorer.card, options))
        return out_dir / "1"

    monkeypatch.setattr("rfcx_tf.serving.export.export_saved_model", export)
    command = ["export", "--run", run.path, "--out", tmp_path / "m"]
    result = run_script(*command, "--warmup-seconds", "2", "5")
    assert result.returncode == 0, result.stderr
    card, options = taken[0]
    assert card.calibration.wanted == "a test"
    assert options["warmup_s"] == [2.0, 5.0]
    assert f"Probabilities are by {run.path / 'calibration.yaml'}." in result.stdout
    result = run_script(*command, "--calibration", tmp_path / "other.yaml")
    assert result.returncode == 2
    assert "has them in another order" in result.stderr
