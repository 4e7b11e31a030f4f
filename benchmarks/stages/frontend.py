"""Waveform to spectrogram on one core, against librosa; decoding, against libsndfile alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.options import Options
from benchmarks.recordings import open_recordings
from benchmarks.report import Report
from benchmarks.stages.librosa_crops import librosa_spectrogram
from benchmarks.timing import Tasks, Worker, alternate
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config


def measure(options: Options) -> Report:
    """Hours of sound a second of decoding and of the front end."""
    with open_recordings(options, options.recordings) as recordings:
        paths = list(recordings.paths.values())
        with Worker(frontend_tasks, options.config, paths, cores=1) as worker:
            median, largest = worker.tasks.pop("difference")().value
            timings = alternate(worker.tasks, options.repeats)
        speed = (timings, recordings.hours, "h of sound / s")
    report = Report(f"Front end: {recordings.description}, one core")
    kind = options.config.frontend.compression
    report.add_speed(*speed, "libsndfile", "decoding by libsndfile alone")
    what = "decoding, checks and resampling (`read_audio`)"
    report.add_speed(*speed, "read_audio", what, against="libsndfile")
    report.add_speed(*speed, "librosa", f"mel and {kind} by librosa, float32")
    what = f"mel and {kind} by our layer, float64 inside"
    report.add_speed(*speed, "our layer", what, against="librosa")
    report.notes.append(
        f"Our spectrogram differs from librosa's float32 one by {median:.1e} in the median and "
        f"{largest:.1e} at most, relative to the mean of all values."
    )
    return report


def frontend_tasks(config: Config, paths: list[Path]) -> Tasks:
    """Tasks over all recordings: libsndfile, read_audio, librosa, our layer; and difference.

    `difference` returns the median and the largest absolute difference between the two
    spectrograms of the first recording, divided by the mean absolute value.
    """
    from rfcx_tf.frontend.recording import RecordingTransform

    frontend = config.frontend
    transform = RecordingTransform(config)
    waveforms = [read_audio(path, frontend.sample_rate_hz) for path in paths]

    def for_each(items: Iterable, function: Callable[[Any], Any]) -> Callable[[], None]:
        def run() -> None:
            for item in items:
                function(item)

        return run

    def difference() -> tuple[float, float]:
        own, other = transform(waveforms[0]), librosa_spectrogram(waveforms[0], frontend)
        relative = np.abs(own - other) / np.abs(other).mean()
        return float(np.median(relative)), float(relative.max())

    return {
        "libsndfile": for_each(paths, lambda path: soundfile.read(path, dtype="float32")),
        "read_audio": for_each(paths, lambda path: read_audio(path, frontend.sample_rate_hz)),
        "librosa": for_each(waveforms, lambda wave: librosa_spectrogram(wave, frontend)),
        "our layer": for_each(waveforms, transform),
        "difference": difference,
    }
