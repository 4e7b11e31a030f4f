"""LiteRT files against the recording model, in TensorFlow's own interpreter."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.lite.tools import flatbuffer_utils

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import Calibration, write_calibration
from rfcx_tf.scoring.detector import load_recording_model
from rfcx_tf.scoring.litert import LiteRtModel
from rfcx_tf.scoring.score_table import read_scores, read_truth
from rfcx_tf.serving.litert import (
    PRECISIONS,
    check_convertible,
    choose_folds,
    convert_to_litert,
    litert_metadata,
    read_metadata,
    write_litert,
)
from rfcx_tf.serving.litert_report import (
    SAVED_MODEL,
    format_report,
    score_differences,
    seconds_a_piece,
    synthetic_pieces,
)
from rfcx_tf.shards.records import read_manifest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = flatbuffer_utils.schema_fb
# Of window scores. Float16 keeps 3 decimal digits of a weight, int8 keeps 2, also of activations.
LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2, "int8": 0.1}
SECONDS = 4.0


def changed(config: Config, **values) -> Config:
    """A recipe with other values of whole sections: frontend={"n_fft": 250}."""
    sections = config.model_dump()
    for section, changes in values.items():
        sections[section] |= changes
    return Config.model_validate(sections)


def random_run(path, config, shards, folds) -> RunFolder:
    """Folds of random weights, as if trained on sounds of usual levels."""
    run = RunFolder.create(path, config, read_manifest(shards), shards)
    random = np.random.default_rng(0)
    mean, variance = (0.5, 0.2) if config.frontend.compression == "pcen" else (15.0, 4.0)
    for fold in folds:
        keras.utils.set_random_seed(fold)
        detector = build_detector(config, run.info.classes, run.info.mean_box_s)
        for weight in detector.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        detector.get_layer("input_bn").moving_mean.assign([mean])
        detector.get_layer("input_bn").moving_variance.assign([variance])
        run.fold(fold).mkdir(parents=True)
        detector.save_weights(run.weights(fold))
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": fold}))
    return run


@pytest.fixture(scope="module")
def pcen_run(tiny_config, tiny_shards, tmp_path_factory):
    """One finished fold of two, number 1."""
    return random_run(tmp_path_factory.mktemp("litert") / "pcen", tiny_config, tiny_shards, [1])


@pytest.fixture(scope="module")
def log_run(tiny_config, tiny_shards, tmp_path_factory):
    """Two folds, log-mel, the other head, a running mean of two windows."""
    config = changed(
        tiny_config, frontend={"compression": "log"}, prediction={"running_mean_s": 0.512}
    )
    config = changed(config, model={"head": {"kind": "per_class", "time_pooling": "mean_max"}})
    return random_run(tmp_path_factory.mktemp("litert") / "log", config, tiny_shards, [0, 1])


@pytest.fixture(scope="module")
def converted(pcen_run, log_run):
    """By compression: the run, its recording model, metadata and the files' contents."""
    found = {}
    for name, run in {"pcen": pcen_run, "log": log_run}.items():
        folds = run.finished_folds
        metadata, saved = litert_metadata(run, folds, SECONDS), load_recording_model(run, folds)
        found[name] = (run, saved, metadata, convert_to_litert(saved, metadata))
    return found


@pytest.fixture(scope="module")
def pieces(tiny_data):
    """Real-like sounds: tones in noise, the first 4 s of two recordings, one of them quiet."""
    files = [tiny_data / "train" / f"tiny0{number}.flac" for number in (3, 8)]
    waves = [soundfile.read(path, dtype="float32")[0][:32000] for path in files]
    return [waves[0], 0.05 * waves[1]]


@pytest.mark.parametrize("name", ["pcen", "log"])
def test_every_precision_gives_the_scores_of_the_recording_model(converted, pieces, name):
    _, saved, _, contents = converted[name]
    models = {precision: LiteRtModel(content) for precision, content in contents.items()}
    assert list(models) == list(PRECISIONS)
    spread = []
    for piece in pieces:
        expected = {key: value.numpy() for key, value in saved.score_waveform(piece[None]).items()}
        spread.append(expected["window_scores"])
        for precision, model in models.items():
            found = model.score_piece(piece)
            for key in ("scores", "window_scores"):
                assert found[key].shape == expected[key][0].shape
                difference = np.abs(found[key] - expected[key][0]).max()
                assert difference < LARGEST_DIFFERENCE[precision]
                # Something was rounded: the files are not three times the same.
                assert precision == "float32" or difference > 1e-6
            np.testing.assert_allclose(found["window_start_s"], expected["window_start_s"])
    assert np.std(spread, axis=(0, 1, 2)).min() > 0.01


@pytest.mark.parametrize("name", ["pcen", "log"])
def test_only_built_in_operations(converted, name):
    _, _, _, contents = converted[name]
    builtin = SCHEMA.BuiltinOperator
    for content in contents.values():
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        codes = {code.builtinCode for code in model.operatorCodes}
        assert {builtin.RFFT2D, builtin.CONV_2D, builtin.LOGISTIC} <= codes
        assert builtin.CUSTOM not in codes
        assert not any(code.customCode for code in model.operatorCodes)


def test_the_network_is_quantised_and_the_front_end_is_not(converted):
    _, _, _, contents = converted["log"]
    types, builtin = SCHEMA.TensorType, SCHEMA.BuiltinOperator
    for precision, kind in {"float16": types.FLOAT16, "int8": types.INT8}.items():
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(contents[precision]))
        graph = model.subgraphs[0]
        codes = [model.operatorCodes[o.opcodeIndex].builtinCode for o in graph.operators]
        # The logarithm is the front end's last operation.
        front = graph.operators[: codes.index(builtin.LOG) + 1]
        assert builtin.RFFT2D in codes[: len(front)] and builtin.CONV_2D not in codes[: len(front)]
        inside = {graph.tensors[i].type for o in front for i in [*o.inputs, *o.outputs] if i >= 0}
        assert inside == {types.FLOAT32, types.COMPLEX64, types.INT32}
        (least,) = {t for t in (types.FLOAT16, types.INT8) if t in {x.type for x in graph.tensors}}
        assert least == kind
        stored = sum(np.prod(t.shape) for t in graph.tensors if t.type == kind)
        large = [
            np.prod(graph.tensors[o.inputs[1]].shape)
            for o, code in zip(graph.operators, codes, strict=True)
            if code == builtin.CONV_2D
        ]
        # The converter leaves weights of less than 1024 numbers as they are.
        assert stored >= sum(size for size in large if size >= 1024) > 0
    sizes = [len(contents[precision]) for precision in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)


def test_metadata_is_inside_and_beside_the_files(converted, tmp_path):
    run, _, metadata, contents = converted["pcen"]
    write_litert(contents, metadata, tmp_path / "m")
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        *("float32.tflite", "float16.tflite", "int8.tflite"),
        *("metadata.json", "labels.txt"),
    }
    beside = json.loads((tmp_path / "m" / "metadata.json").read_text())
    for precision, content in contents.items():
        assert (tmp_path / "m" / f"{precision}.tflite").read_bytes() == content
        assert read_metadata(content) == beside
    assert (tmp_path / "m" / "labels.txt").read_text() == "low\nmiddle\nhigh\n"
    expected = {
        "run": "pcen",
        "folds": [1],
        "columns": ["s2", "s5", "s9"],
        "species_ids": [2, 5, 9],
        "class_names": ["low", "middle", "high"],
        # 4 s at 8 kHz: 251 frames, 16 cells of 16 frames, 13 windows of 4 cells.
        "sample_rate_hz": 8000,
        "samples": 32000,
        "windows": 13,
        "window_s": 1.024,
        "hop_s": 0.256,
        "window_hops": 4,
        "hop_samples": 2048,
        "running_mean_windows": 1,
        "calibrated": False,
        "thresholds": [0.5, 0.5, 0.5],
        "score_thresholds": [0.5, 0.5, 0.5],
    }
    assert {key: beside[key] for key in expected} == expected
    assert beside["mean_box_s"] == [run.info.mean_box_s[i] for i in (2, 5, 9)]
    # Of all TP boxes of a species the band is the same.
    assert beside["low_hz"] == [600, 1400, 2600] and beside["high_hz"] == [800, 1700, 3000]
    signature = tf.lite.Interpreter(model_content=contents["int8"]).get_signature_list()
    assert signature == {
        beside["signature"]: {"inputs": ["waveform"], "outputs": list(beside["outputs"])}
    }


def test_thresholds_of_a_calibrated_run(pcen_run, tmp_path):
    """Logit p = logit of the score - 1, so p = 0.5 is at a score of 1 / (1 + exp(-1))."""
    run = RunFolder(tmp_path, pcen_run.config, pcen_run.info)
    calibration = Calibration(
        columns=["s2", "s5", "s9"],
        score_logits=np.tile(np.float32([-20, 20]), (3, 1)),
        probability_logits=np.tile(np.float32([-21, 19]), (3, 1)),
        thresholds=np.float32([0.5, 0.5, 0.5]),
        rows=[{"method": "platt"}] * 3,
        wanted="F1",
    )
    write_calibration(calibration, tmp_path / "calibration.yaml")
    metadata = json.loads(json.dumps(litert_metadata(run, [1], SECONDS)))
    assert metadata["calibrated"] and metadata["thresholds_chosen_for"] == "F1"
    assert metadata["thresholds"] == [0.5] * 3
    np.testing.assert_allclose(metadata["score_thresholds"], 1 / (1 + np.exp(-1)), rtol=1e-6)
    assert metadata["calibration_score_logits"] == [[-20, 20]] * 3
    assert metadata["calibration_probability_logits"] == [[-21, 19]] * 3


@given(samples=st.integers(1, 40_000))
def test_windows_of_pieces_follow_each_other(samples):
    """A stand-in for the network says where in the recording each of its windows begins."""
    model = LiteRtModel.__new__(LiteRtModel)
    model.metadata = {
        **{"samples": 2300, "windows": 20, "window_hops": 4, "hop_samples": 100},
        **{"hop_s": 0.1, "running_mean_windows": 1},
    }

    def score_piece(piece):
        assert piece.shape == (2300,)
        return {"window_scores": piece[:2000:100, np.newaxis]}

    model.score_piece = score_piece
    found = model.score_recording(np.arange(samples, dtype=np.float32))
    windows = max(1, samples // 100 + 1 - 4 + 1)
    np.testing.assert_array_equal(found["window_scores"][:, 0], 100 * np.arange(windows))
    np.testing.assert_allclose(found["window_start_s"], 0.1 * np.arange(windows), rtol=1e-6)
    assert found["scores"] == [100 * (windows - 1)]


def test_a_recording_in_pieces_is_nearly_what_one_pass_gives(converted, tiny_data):
    _, saved, _, contents = converted["log"]
    model = LiteRtModel(contents["float32"])
    wave = soundfile.read(tiny_data / "train" / "tiny03.flac", dtype="float32")[0]
    expected = saved.score_waveform(wave[None])
    found = model.score_recording(wave)
    assert found["window_scores"].shape == (21, 3)
    np.testing.assert_allclose(found["window_start_s"], expected["window_start_s"], rtol=1e-6)
    difference = np.abs(found["window_scores"] - expected["window_scores"][0]).max(axis=1)
    # Pieces of 13 windows at windows 0 and 8. A cell sees 50 frames, 3 cells, to either side.
    far_from_borders = [4, 5, 6, 7, 8, 13, 14, 15, 16]
    assert difference[far_from_borders].max() < 1e-4
    assert difference.max() < 0.2
    averaged = (found["window_scores"][:-1] + found["window_scores"][1:]) / 2
    last = found["window_scores"][-1:]
    np.testing.assert_allclose(
        found["scores"], np.concatenate([averaged, last]).max(axis=0), rtol=1e-5
    )
    short = model.score_recording(wave[:3000])
    assert short["window_scores"].shape == (1, 3)
    with pytest.raises(ValueError, match="32000 samples"):
        model.score_piece(wave)


def test_what_cannot_be_exported_is_refused(pcen_run, tiny_config, tmp_path):
    front_end = {"n_fft": 250, "win_length": 250, "hop_length": 125}
    odd = RunFolder(tmp_path, changed(tiny_config, frontend=front_end), pcen_run.info)
    with pytest.raises(UserError, match=r"power of two only\. frontend\.n_fft .* 250.* 256"):
        check_convertible(odd, SECONDS)
    check_convertible(pcen_run, SECONDS)
    # A window's 4 cells span 3 * 16 + 1 frames, 48 hops of sound.
    check_convertible(pcen_run, 0.768)
    for seconds in (0.767, float("nan"), float("inf"), -1.0):
        with pytest.raises(UserError, match="as long as a window"):
            check_convertible(pcen_run, seconds)
    assert choose_folds(pcen_run, None) == [1]
    for run, folds in ((pcen_run, [0, 1]), (odd, None)):
        with pytest.raises(UserError, match="Only finished folds"):
            choose_folds(run, folds)


@pytest.mark.parametrize("content", [b"", b"no model", b"TFL3"], ids=str)
def test_a_file_of_others_is_refused(content, converted):
    if content.endswith(b"TFL3"):
        model = flatbuffer_utils.convert_bytearray_to_object(
            bytearray(converted["pcen"][3]["int8"])
        )
        model.metadata = None
        content = flatbuffer_utils.convert_object_to_bytearray(model)
    with pytest.raises(UserError, match="must hold the metadata `rfcx_tf`"):
        read_metadata(content)


def test_report_counts_differences_and_time(converted):
    _, saved, metadata, contents = converted["pcen"]
    models = {name: LiteRtModel(contents[name]) for name in ("float32", "int8")}
    sounds = list(synthetic_pieces(metadata["samples"], 8000))
    assert all(np.isfinite(sound).all() and sound.shape == (32000,) for sound in sounds)
    differences = score_differences(models, saved, sounds[:2])
    by_hand = [
        np.abs(
            models["int8"].score_piece(sound)["window_scores"]
            - saved.score_waveform(sound[None])["window_scores"][0]
        )
        for sound in sounds[:2]
    ]
    assert differences.loc["int8", "largest"] == pytest.approx(np.max(by_hand), rel=1e-2)
    assert differences.loc["int8", "mean"] == pytest.approx(np.mean(by_hand), rel=1e-2)
    seconds = seconds_a_piece(models, saved, sounds[0])
    assert set(seconds.index) == {SAVED_MODEL, "float32", "int8"} and (seconds > 0).all()

    seconds[:] = [0.2, 0.1, 0.05]
    differences.loc["int8"] = [0.01234, 0.0004321]
    lines = format_report({"float32": 5_000_000, "int8": 1_250_000}, differences, seconds)
    assert [line for line in lines.splitlines() if "int8" in line] == [
        "| int8 | 1.25 | 1.2e-02 | 4.3e-04 | 50.0 | 4.00 |"
    ]


def test_script_writes_the_files_and_the_out_of_fold_lwlrap(
    log_run, tiny_data, tmp_path, run_script
):
    truth_path, audio = tiny_data / "train_truth.csv", tiny_data / "train"
    truth, saved = read_truth(truth_path), load_recording_model(log_run, [1])
    held_out = read_manifest(Path(log_run.info.tfrecords)).recordings
    names = sorted(name for name, known in held_out.items() if known["fold"] == 1)
    rows = []
    for name in names:
        wave = soundfile.read(audio / f"{name}.flac", dtype="float32")[0]
        rows.append([name, *saved.score_waveform(wave[None])["scores"][0].numpy()])
    own = log_run.fold(1) / "oof_scores.csv"
    text = "".join(f"{','.join(map(str, row))}\n" for row in rows)
    own.write_text("recording_id,s2,s5,s9\n" + text)
    out = tmp_path / "log.litert"
    arguments = ["--run", log_run.path, "--out", out, "--folds", 1, "--seconds", 6.0]
    arguments += ["--audio", audio, "--truth", truth_path]
    result = run_script("export", "--format", "litert", *arguments)
    assert result.returncode == 0, result.stderr
    printed = result.stdout
    table = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[0] == "|"]
    assert table[0][-1] == "out-of-fold LWLRAP"
    own_rows = truth[truth["recording_id"].isin(names)]
    expected = evaluate_scores(read_scores(own), own_rows).lwlrap
    lwlrap = {row[0]: float(row[-1]) for row in table[2:]}
    assert lwlrap["SavedModel"] == pytest.approx(expected, abs=1e-4)
    # The recordings are as long as the input, so nothing is cut.
    assert lwlrap["float32"] == pytest.approx(expected, abs=1e-4)
    assert set(lwlrap) == {"SavedModel", *PRECISIONS}
    assert "Exported fold(s) 1 of" in printed and "of which 0, 1 are finished" in printed
    metadata = read_metadata((out / "float16.tflite").read_bytes())
    assert metadata["folds"] == [1] and metadata["samples"] == 48000
