"""LiteRT files against the recording model, in TensorFlow's own interpreter."""

import contextlib
import io
import json

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from rfcx_tf.cli.main import main
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.litert_interpreter import Interpreter
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import Calibration, write_calibration
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.litert import LiteRtScorer, read_metadata
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.serving.litert import (
    PRECISIONS,
    choose_folds,
    convert_to_litert,
    litert_metadata,
    load_convertible,
)
from rfcx_tf.serving.servable import ServableModel

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


@pytest.fixture(scope="module")
def pcen_run(write_random_run, tiny_config, tmp_path_factory):
    """One finished fold of two, number 1."""
    return write_random_run(tmp_path_factory.mktemp("litert") / "pcen", tiny_config, [1])


@pytest.fixture(scope="module")
def log_run(write_random_run, tiny_config, tmp_path_factory):
    """Two folds, log-mel, the other head, a running mean of two windows."""
    config = changed(
        tiny_config, frontend={"compression": "log"}, prediction={"running_mean_s": 0.512}
    )
    config = changed(config, model={"head": {"kind": "per_class", "time_pooling": "mean_max"}})
    run = write_random_run(tmp_path_factory.mktemp("litert") / "log", config)
    # Logit p = logit of the score - 1, so p = 0.5 is at a score of 1 / (1 + exp(-1)).
    calibration = Calibration(
        columns=["s2", "s5", "s9"],
        score_logits=np.tile(np.float32([-20, 20]), (3, 1)),
        probability_logits=np.tile(np.float32([-21, 19]), (3, 1)),
        thresholds=np.float32([0.5, 0.5, 0.5]),
        rows=[{"method": "platt"}] * 3,
        wanted="F1",
    )
    write_calibration(calibration, run.path / "calibration.yaml")
    return run


@pytest.fixture(scope="module")
def by_script(pcen_run):
    """The folder that `export --format litert` wrote of the first run."""
    out = pcen_run.path.parent / "pcen.litert"
    command = ["export", "--format", "litert", "--run", str(pcen_run.path), "--out", str(out)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*command, "--seconds", str(SECONDS)]) == 0
    assert f"Exported fold(s) 1 of {pcen_run.path}, of which 1 are" in printed.getvalue()
    assert "Input: 32000 samples at 8000 Hz, 13 windows." in printed.getvalue()
    return out


@pytest.fixture(scope="module")
def converted(pcen_run, log_run, by_script):
    """By compression: the run, its detectors and the files' contents."""
    scorer = load_convertible(log_run, [0, 1], SECONDS)
    contents = convert_to_litert(scorer, litert_metadata(scorer, [0, 1], SECONDS))
    written = {name: (by_script / f"{name}.tflite").read_bytes() for name in PRECISIONS}
    return {
        "pcen": (pcen_run, load_convertible(pcen_run, [1], SECONDS), written),
        "log": (log_run, scorer, contents),
    }


@pytest.fixture(scope="module")
def pieces(tiny_data):
    """Real-like sounds: tones in noise, the first 4 s of two recordings, one of them quiet."""
    files = [tiny_data / "train" / f"tiny0{number}.flac" for number in (3, 8)]
    waves = [soundfile.read(path, dtype="float32")[0][:32000] for path in files]
    return [waves[0], 0.05 * waves[1]]


@pytest.mark.parametrize("name", ["pcen", "log"])
def test_every_precision_gives_the_scores_of_the_recording_model(converted, pieces, name):
    _, saved, contents = converted[name]
    models = {precision: LiteRtScorer(content) for precision, content in contents.items()}
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
    _, _, contents = converted[name]
    builtin = SCHEMA.BuiltinOperator
    for content in contents.values():
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        codes = {code.builtinCode for code in model.operatorCodes}
        assert {builtin.RFFT2D, builtin.CONV_2D, builtin.LOGISTIC} <= codes
        assert builtin.CUSTOM not in codes
        assert not any(code.customCode for code in model.operatorCodes)


def test_the_network_is_quantised_and_the_front_end_is_not(converted):
    _, _, contents = converted["log"]
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


def test_metadata_is_inside_and_beside_the_files(by_script):
    names = {path.name for path in by_script.iterdir()}
    assert names == {
        *("float32.tflite", "float16.tflite", "int8.tflite"),
        *("metadata.json", "labels.txt"),
    }
    beside = json.loads((by_script / "metadata.json").read_text())
    for precision in PRECISIONS:
        assert read_metadata((by_script / f"{precision}.tflite").read_bytes()) == beside
    assert (by_script / "labels.txt").read_text() == "low\nmiddle\nhigh\n"
    expected = {
        "run": "pcen",
        "folds": [1],
        # 4 s at 8 kHz: 251 frames, 16 cells of 16 frames, 13 windows of 4 cells.
        "samples": 32000,
        "windows": 13,
        "window_hops": 4,
        "hop_samples": 2048,
        "running_mean_windows": 1,
        "score_thresholds": [0.5, 0.5, 0.5],
    }
    assert {key: beside[key] for key in expected} == expected
    content = (by_script / "int8.tflite").read_bytes()
    signature = Interpreter(model_content=content).get_signature_list()
    assert signature == {
        beside["signature"]: {"inputs": ["waveform"], "outputs": list(beside["outputs"])}
    }


@pytest.mark.parametrize("name", ["pcen", "log"])
def test_every_export_has_the_card_of_the_run(converted, name, tmp_path):
    """Of a shared and of a per_class head, whose windows have other centres."""
    run, _, contents = converted[name]
    scorer = load_scorer(run)
    card = scorer.card.to_json()
    about = ServableModel(scorer, tmp_path).describe(tf.constant(1))["card"]
    assert about.numpy().decode() == card
    assert (tmp_path / "card.json").read_text() == f"{card}\n"
    for content in contents.values():
        assert LiteRtScorer(content).card.to_json() == card
    known = ModelCard.from_json(card)
    assert known.to_json() == card
    assert known.made_by == str(run.path)
    assert (known.calibration is None) == (name == "pcen")


def test_thresholds_of_a_calibrated_run(converted):
    metadata = read_metadata(converted["log"][2]["float32"])
    np.testing.assert_allclose(metadata["score_thresholds"], 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_a_recording_in_pieces_is_nearly_what_one_pass_gives(converted, tiny_data):
    _, saved, contents = converted["log"]
    model = LiteRtScorer(contents["float32"])
    wave = soundfile.read(tiny_data / "train" / "tiny03.flac", dtype="float32")[0]
    expected = saved.score_waveform(wave[None])
    found = score_blocks(model, [{8000: wave}])
    assert found.window_scores.shape == (21, 3)
    difference = np.abs(found.window_scores - expected["window_scores"][0]).max(axis=1)
    # Pieces of 13 windows at windows 0 and 8. A cell sees 50 frames, 3 cells, to either side.
    far_from_borders = [4, 5, 6, 7, 8, 13, 14, 15, 16]
    assert difference[far_from_borders].max() < 1e-4
    assert difference.max() < 0.2
    averaged = (found.window_scores[:-1] + found.window_scores[1:]) / 2
    last = found.window_scores[-1:]
    np.testing.assert_allclose(
        found.scores, np.concatenate([averaged, last]).max(axis=0), rtol=1e-5
    )
    assert score_blocks(model, [{8000: wave[:3000]}]).window_scores.shape == (1, 3)
    with pytest.raises(ValueError, match="32000 samples"):
        model.score_piece(wave)


def test_what_cannot_be_exported_is_refused(pcen_run, tiny_config, tmp_path):
    front_end = {"n_fft": 250, "win_length": 250, "hop_length": 125}
    odd = RunFolder(tmp_path, changed(tiny_config, frontend=front_end), pcen_run.info)
    with pytest.raises(UserError, match=r"power of two only\. frontend\.n_fft .* 250.* 256"):
        load_convertible(odd, [1], SECONDS)
    # A window's 4 cells span 3 * 16 + 1 frames, 48 hops of sound.
    load_convertible(pcen_run, [1], 0.768)
    for seconds in (0.767, float("nan"), float("inf"), -1.0):
        with pytest.raises(UserError, match="as long as a window"):
            load_convertible(pcen_run, [1], seconds)
    assert choose_folds(pcen_run, None) == [1]
    for run, folds in ((pcen_run, [0, 1]), (odd, None)):
        with pytest.raises(UserError, match="Only finished folds"):
            choose_folds(run, folds)


@pytest.mark.parametrize("content", [b"", b"no model", b"TFL3"], ids=str)
def test_a_file_of_others_is_refused(content, converted):
    if content.endswith(b"TFL3"):
        model = flatbuffer_utils.convert_bytearray_to_object(
            bytearray(converted["pcen"][2]["int8"])
        )
        model.metadata = None
        content = flatbuffer_utils.convert_object_to_bytearray(model)
    with pytest.raises(UserError, match="must hold the metadata `rfcx_tf`"):
        read_metadata(content)
