"""One pass over a recording against crop by crop; FLAC to scores per core; other engines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
import tensorflow as tf

from benchmarks.options import Options
from benchmarks.recordings import open_recordings
from benchmarks.report import Report
from benchmarks.stages.train import CLASSES
from benchmarks.timing import Tasks, Worker, alternate
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.litert_interpreter import Interpreter
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.detector import DetectorScorer, detector_card
from rfcx_tf.scoring.scorer import score_recordings

# BirdNET's published order of magnitude: 100 s of sound a second and core, in windows of 3 s
# that do not overlap.
_BIRDNET_WINDOWS_PER_S = 100 / 3


def measure(options: Options) -> Report:
    """Seconds of sound and windows a second on one core, by way of scoring."""
    run = RunFolder.open(options.run) if options.run else None
    if run and not run.finished_folds:
        raise UserError(f"--run must have a finished fold. {options.run} has none.")
    config = run.config if run else options.config
    with open_recordings(options, 1) as recordings, ExitStack() as stack:
        path = next(iter(recordings.paths.values()))
        sound_s = soundfile.info(path).duration

        def start(set_up: Callable[..., Tasks], *arguments: Any) -> Tasks:
            return stack.enter_context(Worker(set_up, *arguments, cores=1)).tasks

        common = (config, options.run, path, options.batch_size)
        tasks = start(predict_tasks, *common, "float32")
        bfloat16 = start(predict_tasks, *common, "mixed_bfloat16")
        slim = start(predict_tasks, options.slim, None, path, 1, "float32")
        tasks["bfloat16"], tasks["slim"] = bfloat16["one pass"], slim["FLAC to scores"]
        for name, int8 in (("TFLite", False), ("TFLite, int8", True)):
            tasks[name] = start(tflite_tasks, config, options.run, path, int8)["one pass"]
        timings = alternate(tasks, options.repeats)
    name, slim_name = config.model.backbone.name, options.slim.model.backbone.name
    report = Report(f"Predicting: {sound_s:g} s, {name}, one core")
    speed = (timings, sound_s, "s of sound / s")
    report.add_speed(*speed, "decoding")
    report.add_speed(*speed, "front end")
    report.add_speed(*speed, "one pass", "network, one pass", against="crops")
    what = f"network, crop by crop at the same step, {options.batch_size} at a time"
    report.add_speed(*speed, "crops", what)
    report.add_speed(*speed, "FLAC to scores", f"FLAC to scores, {name}")
    what = f"FLAC to scores, slim: {slim_name}"
    report.add_speed(*speed, "slim", what, against="FLAC to scores")
    for task in ("bfloat16", "XLA", "TFLite", "TFLite, int8"):
        report.add_speed(*speed, task, f"network, one pass, {task}", against="one pass")
    for task, what in (("FLAC to scores", name), ("slim", f"slim, {slim_name}")):
        windows = len(timings[task][0].value)
        seconds = float(np.median([timing.seconds for timing in timings[task]]))
        rate = windows / seconds
        report.add_figure(f"{task}, windows", f"{what}, FLAC to scores", rate, "windows / s")
        report.notes.append(
            f"{what}: {sound_s / seconds:.0f} times real time, {windows} windows in {sound_s:g} s; "
            f"by the window {rate / _BIRDNET_WINDOWS_PER_S:.2g} times BirdNET's published order "
            "of magnitude (100 times real time a core, windows of 3 s without overlap)."
        )
    expected = timings["one pass"][0].value
    for task in ("crops", "bfloat16", "XLA", "TFLite", "TFLite, int8"):
        difference = np.abs(timings[task][0].value - expected)
        report.notes.append(
            f"{task}: window scores differ from those of one pass in float32 by "
            f"{np.median(difference):.1e} in the median, {difference.max():.1e} at most."
        )
    report.notes.append("A crop ends in zeros where one pass goes on hearing.")
    if not options.run:
        report.notes.append("Random weights: how scores differ means little without --run RUN.")
    return report


def open_scorer(config: Config, run_path: Path | None, precision: str) -> DetectorScorer:
    """A scorer with one network: that of a run's first fold, or random weights."""
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(config.seed)
    run = RunFolder.open(run_path) if run_path else None
    classes, mean_box_s = (run.info.classes, run.info.mean_box_s) if run else (CLASSES, {})
    detector = build_detector(config, classes, mean_box_s)
    if run:
        detector.load_weights(run.whole_weights(run.finished_folds[0]))
    return DetectorScorer(config, detector_card(config, classes, mean_box_s, {}), [detector])


def cut_windows(spectrogram: np.ndarray, crop_frames: int, stride: int, windows: int) -> np.ndarray:
    """The crop of every window [windows, crop_frames, bands]; zeros behind the end."""
    missing = max(0, (windows - 1) * stride + crop_frames - len(spectrogram))
    padded = np.pad(spectrogram, ((0, missing), (0, 0)))
    return np.stack([padded[i * stride : i * stride + crop_frames] for i in range(windows)])


def predict_tasks(
    config: Config, run_path: Path | None, path: Path, batch_size: int, precision: str
) -> Tasks:
    """Tasks over one recording: decoding, front end, one pass, crops, XLA, FLAC to scores.

    Those that score return the window scores [windows, classes]. `crops` is given the spectrogram
    of the whole recording; programs that transform crop by crop take longer.
    """
    scorer = open_scorer(config, run_path, precision)
    stride, rate_hz = config.model.backbone.stride[0], config.frontend.sample_rate_hz
    waveform = read_audio(path, rate_hz)
    hear = tf.function(scorer.spectrogram, [tf.TensorSpec([1, None], tf.float32)])
    any_spectrograms = tf.TensorSpec([None, None, config.frontend.bands], tf.float32)
    score = tf.function(scorer.scores, [any_spectrograms])
    compiled = tf.function(scorer.scores, jit_compile=True)
    spectrogram = hear(waveform[None])

    def one_pass() -> np.ndarray:
        return score(spectrogram)["window_scores"][0].numpy()

    cut = cut_windows(spectrogram[0].numpy(), config.crop_frames, stride, len(one_pass()))

    def crops() -> np.ndarray:
        parts = (cut[first : first + batch_size] for first in range(0, len(cut), batch_size))
        return np.concatenate([score(part)["window_scores"][:, 0].numpy() for part in parts])

    def flac_to_scores() -> np.ndarray:
        ((_, result),) = score_recordings(scorer, {path.stem: path}, progress=False)
        return result.window_scores

    # A task's value travels between processes, so sound and spectrograms are no values.
    return {
        "decoding": lambda: bool(len(read_audio(path, rate_hz))),
        "front end": lambda: bool(len(hear(waveform[None]).numpy())),
        "one pass": one_pass,
        "crops": crops,
        "XLA": lambda: compiled(spectrogram)["window_scores"][0].numpy(),
        "FLAC to scores": flac_to_scores,
    }


def tflite_tasks(config: Config, run_path: Path | None, path: Path, int8: bool) -> Tasks:
    """The task `one pass` with TensorFlow Lite, weights and features in int8 or in float32.

    Int8 is calibrated on the same recording.
    """
    scorer = open_scorer(config, run_path, "float32")
    waveform = read_audio(path, config.frontend.sample_rate_hz)
    spectrogram = scorer.spectrogram(waveform[None]).numpy()
    function = tf.function(
        lambda spectrogram: scorer.scores(spectrogram)["window_scores"],
        input_signature=[tf.TensorSpec(spectrogram.shape, tf.float32)],
    )
    # The converter finds only variables of TensorFlow's own.
    module = tf.Module()
    module.weights, module.function = scorer.exported_state, function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter([[spectrogram]])
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def one_pass() -> np.ndarray:
        interpreter.set_tensor(given["index"], spectrogram)
        interpreter.invoke()
        return interpreter.get_tensor(asked["index"])[0]

    return {"one pass": one_pass}
