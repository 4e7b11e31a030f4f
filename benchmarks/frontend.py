"""Waveform to spectrogram on one core, against librosa; and decoding, against libsndfile alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.material import open_material
from benchmarks.measure import alternate
from benchmarks.options import Options
from benchmarks.peers import librosa_spectrogram
from benchmarks.report import Report
from benchmarks.worker import Worker
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config


def measure_frontend(options: Options) -> Report:
    """Hours of sound per second and core of decoding and of the front end."""
    frontend = options.config.frontend
    with open_material(
        options.data, options.recordings, options.duration_s, frontend.sample_rate_hz
    ) as material:
        paths = list(material.recordings.values())
        hours = sum(soundfile.info(path).duration for path in paths) / 3600
        with Worker(frontend_tasks, options.config, paths, cores=1) as worker:
            difference = worker.tasks["difference"]().value
            tasks = {k: task for k, task in worker.tasks.items() if k != "difference"}
            timings = alternate(tasks, options.repeats)
    report = Report(f"Front end: {material.description}, one core")
    for key, what, against, name in (
        ("soundfile", "decoding by libsndfile alone", None, ""),
        ("decoding", "decoding, checks and resampling (`read_audio`)", "soundfile", "libsndfile"),
        ("librosa", f"mel and {frontend.compression} by librosa, float32", None, ""),
        (
            "frontend",
            f"mel and {frontend.compression} by our layer, float64 inside",
            "librosa",
            "librosa",
        ),
    ):
        report.add(
            f"{key}_hours_per_s",
            what,
            timings[key],
            "h of sound / s",
            lambda seconds: hours / seconds,
            against=timings[against] if against else None,
            name=name,
        )
    report.notes.append(
        "Our spectrogram differs from librosa's float32 one by "
        f"{difference[0]:.1e} in the median and {difference[1]:.1e} at most, relative to the "
        "mean of all values."
    )
    return report


def frontend_tasks(config: Config, paths: list[Path]) -> dict[str, Callable[[], Any]]:
    """Tasks over all recordings once: soundfile, decoding, librosa, frontend; and difference.

    `difference` gives the median and the largest absolute difference of the two spectrograms
    of the first recording, divided by the mean absolute value.
    """
    from rfcx_tf.frontend.recording import RecordingTransform

    frontend = config.frontend
    transform = RecordingTransform(config)
    waveforms = [read_audio(path, frontend.sample_rate_hz) for path in paths]

    def for_each(function: Callable[[Any], Any], items: list) -> Callable[[], None]:
        def run() -> None:
            for item in items:
                function(item)

        return run

    def difference() -> tuple[float, float]:
        own, other = transform(waveforms[0]), librosa_spectrogram(waveforms[0], frontend)
        relative = np.abs(own - other) / np.abs(other).mean()
        return float(np.median(relative)), float(relative.max())

    return {
        "soundfile": for_each(lambda path: soundfile.read(path, dtype="float32"), paths),
        "decoding": for_each(lambda path: read_audio(path, frontend.sample_rate_hz), paths),
        "librosa": for_each(lambda wave: librosa_spectrogram(wave, frontend), waveforms),
        "frontend": for_each(transform, waveforms),
        "difference": difference,
    }
