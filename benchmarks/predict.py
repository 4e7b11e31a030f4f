"""One pass over a recording against crop by crop; FLAC to scores per core; other engines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.material import open_material
from benchmarks.measure import Spread, Timing, alternate
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.train import CLASSES
from benchmarks.worker import Worker
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config
from rfcx_tf.runs.run import RunFolder

# BirdNET's published order of magnitude: 100 s of sound a second and core, in windows of 3 s
# that do not overlap.
_BIRDNET_WINDOWS_PER_S = 100 / 3
_WINDOWS_WITH_CONTEXT = 5


def measure_predict(options: Options) -> Report:
    """Seconds of sound per second on one core, and windows per second, by way of scoring."""
    run = RunFolder.open(options.run) if options.run else None
    config = run.config if run else options.config
    with (
        open_material(
            options.data, 1, options.duration_s, config.frontend.sample_rate_hz
        ) as material,
        ExitStack() as stack,
    ):
        path = next(iter(material.recordings.values()))
        sound_s = soundfile.info(path).duration
        common = (config, options.run, path, options.batch_size)
        workers = {
            "float32": Worker(predict_tasks, *common, "float32", options.skip, cores=1),
            "bfloat16": Worker(predict_tasks, *common, "mixed_bfloat16", ("crops",), cores=1),
            "slim": Worker(
                predict_tasks, options.slim, None, path, 1, "float32", ("crops",), cores=1
            ),
        }
        for worker in workers.values():
            stack.enter_context(worker)
        own = workers["float32"].tasks
        tasks: dict[str, Callable[[], Timing]] = {
            name: task for name, task in own.items() if name != "differences"
        }
        tasks["bfloat16"] = workers["bfloat16"].tasks["one_pass"]
        tasks["slim"] = workers["slim"].tasks["flac_to_scores"]
        for name in ("tflite", "tflite_int8"):
            if name not in options.skip:
                arguments = (config, options.run, path, name == "tflite_int8")
                worker = stack.enter_context(Worker(tflite_tasks, *arguments, cores=1))
                tasks[name] = worker.tasks["one_pass"]
        timings = alternate(tasks, options.repeats)
        differences = own["differences"]().value
    scores = {
        name: timing[-1].value for name, timing in timings.items() if timing[-1].value is not None
    }
    title = f"Predicting: {sound_s:g} s, {config.model.backbone.name}, one core"
    report = Report(title)

    def add(key: str, what: str, against: str = "", name: str = "") -> None:
        if key not in timings:
            return
        report.add(
            f"{key}_sound_s_per_s",
            what,
            timings[key],
            "s of sound / s",
            lambda seconds: sound_s / seconds,
            against=timings.get(against),
            name=name,
        )

    add("decoding", "decoding")
    add("front_end", "front end")
    add("one_pass", "network, one pass", "crops", "crop by crop")
    add("crops", f"network, crop by crop at the same step, {options.batch_size} at a time")
    add("flac_to_scores", f"FLAC to scores, {config.model.backbone.name}")
    add("slim", f"FLAC to scores, slim: {options.slim.model.backbone.name}", "flac_to_scores", "it")
    add("bfloat16", "network, one pass, bfloat16", "one_pass", "float32")
    add("xla", "network, one pass, XLA", "one_pass", "without")
    add("tflite", "network, one pass, TFLite, float32", "one_pass", "TensorFlow")
    add("tflite_int8", "network, one pass, TFLite, int8", "one_pass", "TensorFlow, float32")
    windows = len(scores["one_pass"])
    for key, name, count in (
        ("flac_to_scores", config.model.backbone.name, windows),
        ("slim", "slim", len(scores["slim"])),
    ):
        seconds = Spread.of([timing.seconds for timing in timings[key]]).median
        rate = count / seconds
        report.add_figure(f"{key}_windows_per_s", f"{name}, FLAC to scores", rate, "windows / s")
        report.notes.append(
            f"{name}: {sound_s / seconds:.0f} times real time, {count} windows in {sound_s:g} s; "
            f"by the window {rate / _BIRDNET_WINDOWS_PER_S:.2g} times BirdNET's published order "
            "of magnitude (100 times real time a core, windows of 3 s without overlap)."
        )
    report.notes += _difference_notes(differences, scores)
    if not options.run:
        report.notes.append("Random weights: how scores differ means little without --run RUN.")
    return report


def _difference_notes(differences: dict, scores: dict[str, np.ndarray]) -> list[str]:
    notes = []
    if "crops" in differences:
        notes.append(
            "A crop alone ends in zeros where one pass goes on hearing, so its scores differ: by "
            f"{differences['crops'][0]:.1e} in the median, {differences['crops'][1]:.1e} at most. "
            f"Given the sound that one pass sees around it: {differences['context']:.1e} at most."
        )
    for name in ("bfloat16", "xla", "tflite", "tflite_int8"):
        if name in scores:
            difference = np.abs(scores[name] - scores["one_pass"])
            notes.append(
                f"{name}: window scores differ from float32's by {np.median(difference):.1e} in "
                f"the median, {difference.max():.1e} at most."
            )
    return notes


def open_model(config: Config, run_path: Path | None, precision: str):
    """A recording model with one network: a run's first fold, or random weights."""
    import keras

    from rfcx_tf.model.detector import build_detector
    from rfcx_tf.scoring.detector import RecordingModel

    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(config.seed)
    if run_path is None:
        return RecordingModel(config, CLASSES, [build_detector(config, CLASSES, {})])
    run = RunFolder.open(run_path)
    detector = build_detector(config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(run.finished_folds[0]))
    return RecordingModel(config, run.info.classes, [detector])


def cut_windows(spectrogram: np.ndarray, crop_frames: int, stride: int, windows: int) -> np.ndarray:
    """The crop of every window [windows, crop_frames, bands]; zeros behind the end."""
    missing = max(0, (windows - 1) * stride + crop_frames - len(spectrogram))
    padded = np.pad(spectrogram, ((0, missing), (0, 0)))
    return np.stack([padded[i * stride : i * stride + crop_frames] for i in range(windows)])


def predict_tasks(
    config: Config,
    run_path: Path | None,
    path: Path,
    batch_size: int,
    precision: str,
    skip: tuple[str, ...],
) -> dict[str, Callable[[], Any]]:
    """Tasks over one recording: decoding, front_end, one_pass, crops, xla, flac_to_scores, and
    differences.

    Those that score return the window scores [windows, classes]. `crops` is given the
    spectrogram of the whole recording: crop-wise programs that transform crop by crop take
    longer. `differences` compares crops, and crops with their surroundings, to one pass.
    """
    import tensorflow as tf

    model = open_model(config, run_path, precision)
    sample_rate_hz, stride = config.frontend.sample_rate_hz, config.model.backbone.stride[0]
    waveform = read_audio(path, sample_rate_hz)
    hear = tf.function(model.spectrogram, [tf.TensorSpec([1, None], tf.float32)])
    bands = config.frontend.bands
    score = tf.function(model.scores, [tf.TensorSpec([None, None, bands], tf.float32)])
    whole = tf.function(model.score_waveform, [tf.TensorSpec([1, None], tf.float32)])
    spectrogram = hear(waveform[None])

    def one_pass() -> np.ndarray:
        return score(spectrogram)["window_scores"][0].numpy()

    windows = len(one_pass())

    def crops() -> np.ndarray:
        cut = cut_windows(spectrogram[0].numpy(), config.crop_frames, stride, windows)
        parts = [
            score(cut[first : first + batch_size])["window_scores"][:, 0].numpy()
            for first in range(0, windows, batch_size)
        ]
        return np.concatenate(parts)

    def flac_to_scores() -> np.ndarray:
        return whole(read_audio(path, sample_rate_hz)[None])["window_scores"][0].numpy()

    def differences() -> dict[str, Any]:
        if "crops" in skip:
            return {}
        together = one_pass()
        apart = np.abs(crops() - together)
        places = np.linspace(0, windows - 1, min(_WINDOWS_WITH_CONTEXT, windows)).astype(int)
        context = model.context_cells
        largest = 0.0
        for place in places:
            first = max(0, place - context)
            end = (place + config.window_cells + context) * stride
            around = score(spectrogram[:, first * stride : end])["window_scores"][0].numpy()
            largest = max(largest, np.abs(around[place - first] - together[place]).max())
        return {"crops": (float(np.median(apart)), float(apart.max())), "context": float(largest)}

    tasks = {
        "decoding": lambda: _nothing(read_audio(path, sample_rate_hz)),
        "front_end": lambda: _nothing(hear(waveform[None]).numpy()),
        "one_pass": one_pass,
        "crops": crops,
        "flac_to_scores": flac_to_scores,
        "differences": differences,
    }
    if "xla" not in skip:
        compiled = tf.function(model.scores, jit_compile=True)
        tasks["xla"] = lambda: compiled(spectrogram)["window_scores"][0].numpy()
    return {name: task for name, task in tasks.items() if name not in skip}


def _nothing(value: Any) -> None:
    """Leaves a task's value out, for it would have to travel between processes."""


def tflite_tasks(
    config: Config, run_path: Path | None, path: Path, int8: bool
) -> dict[str, Callable[[], Any]]:
    """The task `one_pass` with TensorFlow Lite, weights and features in int8 or in float32.

    Int8 is calibrated on crops of the same recording.
    """
    import tensorflow as tf

    model = open_model(config, run_path, "float32")
    waveform = read_audio(path, config.frontend.sample_rate_hz)
    spectrogram = model.spectrogram(waveform[None]).numpy()
    function = tf.function(
        lambda spectrogram: model.scores(spectrogram)["window_scores"],
        input_signature=[tf.TensorSpec(spectrogram.shape, tf.float32)],
    )
    # The converter finds only variables of TensorFlow's own.
    module = tf.Module()
    module.weights, module.function = model.tensorflow_variables, function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter([[spectrogram]])
    interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def one_pass() -> np.ndarray:
        interpreter.set_tensor(given["index"], spectrogram)
        interpreter.invoke()
        return interpreter.get_tensor(asked["index"])[0]

    return {"one_pass": one_pass}
