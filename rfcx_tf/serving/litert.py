"""A trained run as LiteRT (TensorFlow Lite) models for field devices, front end inside.

exported/NAME.litert/
  float32.tflite    waveform float32 [1, samples] -> scores [1, classes],
                    window_scores [1, windows, classes], window_start_s [windows],
                    window_boxes [1, windows, classes, 4]
  float16.tflite    the same; the network's weights are stored as float16
  int8.tflite       the same; the network's weights are int8, its activations are quantised at
                    run time (dynamic range)
  metadata.json     what a device needs to know; every file also holds it as metadata `rfcx_tf`
  labels.txt        species names, one a line

Only LiteRT's built-in operations are used. In all three files the front end is computed in float32:
it is converted by itself and joined to the network. The converter cannot leave operations out, and
would store the Hann window times 2**31 as float16 (infinity) and quantise spectra, whose range is
far wider than int8's 42 dB, in front of the mel bands. Converted as one, both files gave window
scores that were wrong by up to 1.0 on real recordings.

The number of samples is fixed. `resize_tensor_input` must not be used: it raises no error, but the
outputs then cover only a part of the sound. `rfcx_tf.scoring.litert` scores recordings of any
length piece by piece.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from rfcx_tf.core.documents import sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.tensorflow_import import without_notes
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.scoring.ensemble_weights import member_names
from rfcx_tf.scoring.litert import METADATA_NAME
from rfcx_tf.scoring.load import load_scorer

PRECISIONS = ("float32", "float16", "int8")
_OUTPUTS = ("scores", "window_scores", "window_start_s", "window_boxes")
_SIGNATURE = "serving_default"


def choose_folds(run: RunFolder, folds: list[int] | None) -> list[int]:
    """The folds to export: `folds`, or else the first finished one.

    Size and time grow with every fold, and a field device has little of either.

    Raises:
        UserError: if one of `folds` is not finished, or no fold is.
    """
    finished = run.finished_folds
    wanted = finished[:1] if folds is None else list(dict.fromkeys(folds))
    if not wanted or not set(wanted) <= set(finished):
        raise UserError(
            f"Only finished folds can be exported. Finished in {run.path}: "
            f"{', '.join(map(str, finished)) or 'none'}. Train the others, or change --folds."
        )
    return wanted


def load_convertible(run: RunFolder, folds: list[int], seconds: float) -> DetectorScorer:
    """Loads folds of a run that can become a LiteRT model of this input length.

    The card has the run's calibration, although that was fitted on all folds together.

    Raises:
        UserError: if the FFT length is no power of two, or a window does not fit the input; as
            `load_scorer`.
    """
    config = run.config
    n_fft = config.frontend.n_fft
    if n_fft & (n_fft - 1):
        raise UserError(
            "LiteRT computes FFTs whose length is a power of two only. frontend.n_fft of "
            f"{run.path} is {n_fft}. Train a run with {2 ** n_fft.bit_length()} to export it."
        )
    stride = config.model.backbone.stride[0]
    shifted = stride - 1 if config.prediction.time_shifts > 1 else 0
    shortest_s = ((config.window_cells - 1) * stride + shifted) * config.frontend.frame_s
    if not shortest_s <= seconds < np.inf:
        raise UserError(
            "A LiteRT model's input must be as long as a window at least. --seconds is "
            f"{seconds:g}, a window of {run.path} takes {shortest_s:.4g} s. Give a longer one."
        )
    scorer = load_scorer(run, folds)
    calibration = run.path / "calibration.yaml"
    if calibration.exists():
        chosen = read_calibration(calibration, scorer.card.columns)
        scorer.card = scorer.card.replace(calibration=chosen)
    return scorer


def litert_metadata(scorer: DetectorScorer, folds: list[int], seconds: float) -> dict:
    """What a device needs to know of a model, as JSON values.

    Args:
        scorer: the trained detectors.
        folds: whose detectors these are; their scores are averaged.
        seconds: length of the model's input.

    Returns:
        `card` (`ModelCard.to_json`), and what the card does not say. Window i begins at sample
        i * hop_samples and spans window_hops hops. A class counts as detected from its
        `score_thresholds` on.
    """
    config, card = scorer.config, scorer.card
    hop_samples = config.model.backbone.stride[0] * config.frontend.hop_length
    samples = round(seconds * card.sample_rate_hz)
    return {
        "run": member_names([card.made_by])[0],
        "folds": folds,
        "signature": _SIGNATURE,
        "input": f"waveform: float32 [1, {samples}] in [-1, 1], not to be resized",
        "outputs": {
            "scores": "float32 [1, classes]: the highest of the window scores",
            "window_boxes": "float32 [1, windows, classes, 4]: begin and end of the call in "
            "seconds from the window's start, low and high in Hz",
            "window_scores": "float32 [1, windows, classes] in [0, 1]",
            "window_start_s": "float32 [windows], seconds from the first sample",
        },
        "samples": samples,
        "windows": samples // hop_samples - config.window_cells + 2,
        "window_hops": config.window_cells,
        "hop_samples": hop_samples,
        "running_mean_windows": max(1, scorer.running_mean_cells),
        "score_thresholds": card.score_thresholds.tolist(),
        "card": json.loads(card.to_json()),
    }


def convert_to_litert(
    scorer: DetectorScorer, metadata: dict, precisions: Sequence[str] = PRECISIONS
) -> dict[str, bytes]:
    """The files' contents by precision.

    Args:
        scorer: the trained detectors.
        metadata: of `litert_metadata`; `samples` is the length of the input.
        precisions: of `PRECISIONS`.
    """
    front_end = FrontEnd(scorer.config.frontend, precision="float32")
    waveform = tf.TensorSpec([1, metadata["samples"]], tf.float32, "waveform")
    _, frames, bands = front_end.compute_output_shape(tuple(waveform.shape))
    spectrogram = tf.TensorSpec([1, frames, bands], tf.float32, "spectrogram")

    def network(spectrogram: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = scorer.scores(spectrogram)
        return {name: outputs[name] for name in _OUTPUTS if name in outputs}

    with without_notes():
        (front,) = _convert(
            lambda waveform: {"spectrogram": front_end(waveform)}, waveform, ["float32"]
        )
        networks = _convert(network, spectrogram, precisions)
    return {
        precision: _pack(_join(front, own), metadata)
        for precision, own in zip(precisions, networks, strict=True)
    }


def write_litert(models: dict[str, bytes], metadata: dict, out_dir: str | Path) -> list[Path]:
    """Writes `<precision>.tflite`, metadata.json and labels.txt; returns their paths.

    UserError if the folder cannot be written.
    """
    names = [c["name"] or f"s{c['species_id']}" for c in metadata["card"]["classes"]]
    contents = {f"{precision}.tflite": content for precision, content in models.items()}
    contents["metadata.json"] = (json.dumps(metadata, indent=1) + "\n").encode()
    contents["labels.txt"] = "".join(f"{name}\n" for name in names).encode()
    paths = [Path(out_dir) / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
    return paths


def _convert(
    function: Callable, spec: tf.TensorSpec, precisions: Sequence[str]
) -> list[schema.ModelT]:
    """Converts a function of one tensor to tensors by name: a model for every precision."""
    concrete = tf.function(function, [spec], autograph=False).get_concrete_function()
    names = sorted(concrete.structured_outputs)
    # Keras's variables make the converter stop; as constants they do not.
    frozen = convert_variables_to_constants_v2(concrete)

    module = tf.Module()
    module.serve = tf.function(
        lambda value: dict(zip(names, frozen(value), strict=True)), [spec], autograph=False
    )
    with tempfile.TemporaryDirectory() as folder:
        # The activation of EfficientNets has one, which cannot be saved and is not needed.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, {_SIGNATURE: module.serve}, options)
        contents = []
        for precision in precisions:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            contents.append(converter.convert())
    return [flatbuffer_utils.convert_bytearray_to_object(bytearray(c)) for c in contents]


def _join(front: schema.ModelT, network: schema.ModelT) -> schema.ModelT:
    """One model of two: the only output of the first is the only input of the second.

    The network's buffers, operator codes and tensors are put behind the front end's, so its
    indices grow by how many of those there were.
    """
    front_graph, (graph,) = front.subgraphs[0], network.subgraphs
    buffers, codes = len(front.buffers), len(front.operatorCodes)
    # Of any other type than int32, indices would be written as if they were int32.
    place = np.int32(len(front_graph.tensors) + np.arange(len(graph.tensors)))
    place[graph.inputs[0]] = front_graph.outputs[0]

    def moved(indices: np.ndarray | None) -> np.ndarray | None:
        # -1 stands for an optional input that is not there.
        return None if indices is None else np.where(indices < 0, indices, place[indices])

    for tensor in graph.tensors:
        # Buffer 0 is the empty one of tensors without data.
        tensor.buffer += buffers if tensor.buffer else 0
    for operator in graph.operators:
        operator.opcodeIndex += codes
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
        operator.intermediates = moved(operator.intermediates)
    joined_graph = schema.SubGraphT()
    joined_graph.name = front_graph.name
    joined_graph.inputs, joined_graph.outputs = front_graph.inputs, moved(graph.outputs)
    joined_graph.tensors = front_graph.tensors + graph.tensors
    joined_graph.operators = front_graph.operators + graph.operators

    signature = schema.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.inputs = front.signatureDefs[0].inputs
    signature.outputs = network.signatureDefs[0].outputs
    for output in signature.outputs:
        output.tensorIndex = int(place[output.tensorIndex])

    model = schema.ModelT()
    model.version, model.description = front.version, network.description
    model.operatorCodes = front.operatorCodes + network.operatorCodes
    model.buffers = front.buffers + network.buffers
    # The others are bodies of the smoother's loop.
    model.subgraphs = [joined_graph, *front.subgraphs[1:]]
    model.signatureDefs = [signature]
    model.metadata = []
    return model


def _pack(model: schema.ModelT, metadata: dict) -> bytes:
    """The file's contents, with the metadata inside."""
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    buffer.data = np.frombuffer(sealed_json(metadata).encode(), np.uint8)
    model.metadata, model.buffers = [entry], [*model.buffers, buffer]
    return flatbuffer_utils.convert_object_to_bytearray(model)
