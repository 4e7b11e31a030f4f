"""FLAC to crop shards: hours of sound per second and core, scaling over cores, and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.material import Material, open_material
from benchmarks.measure import Timing, alternate, timed
from benchmarks.options import Options
from benchmarks.peers import write_numpy_crops
from benchmarks.report import Report
from benchmarks.worker import Worker
from rfcx_tf.core.config import Config
from rfcx_tf.labels.annotations import read_kaggle_folder

# Small, so that memory is seen to stop growing after a few recordings.
_MEMORY_RECORDINGS_PER_SHARD = 8
_MEMORY_TIMES = (2, 8)


def measure_shards(options: Options) -> Report:
    """Preparing with one core and with several, against NumPy files and decoding alone."""
    config = options.config
    with open_material(
        options.data, options.recordings, options.duration_s, config.frontend.sample_rate_hz
    ) as material:
        hours = sum(soundfile.info(p).duration for p in material.recordings.values()) / 3600
        with (
            Worker(shard_tasks, config, material, 1, cores=1) as one,
            Worker(shard_tasks, config, material, options.cores, cores=options.cores) as several,
        ):
            tasks = {name: one.tasks[name] for name in ("ours", "numpy", "decoding")}
            tasks["several"] = several.tasks["ours"]
            timings = alternate(tasks, options.repeats)
        counts = timings["ours"][0].value
        report = Report(f"Preparing: {material.description}, {counts['crops']} crops")
        memory = _memory_by_recordings(config, material)
        audio = sum(p.stat().st_size for p in material.recordings.values())

    def add(key: str, what: str, task: str, against: str | None = None, name: str = "") -> None:
        report.add(
            key,
            what,
            timings[task],
            "h of sound / s",
            lambda seconds: hours / seconds,
            against=timings[against] if against else None,
            name=name,
        )

    add("decoding_hours_per_s", "FLAC decoding alone (libsndfile), one core", "decoding")
    add("numpy_hours_per_s", "soundfile, librosa, NumPy files, one core", "numpy")
    add("shards_hours_per_s", "shards, one core", "ours", "numpy", "NumPy files")
    add("shards_of_decoding", "the same", "ours", "decoding", "decoding alone")
    add(
        "shards_several_hours_per_s",
        f"shards, {options.cores} cores",
        "several",
        "ours",
        "one core",
    )
    fixed = [timing.value["fixed_s"] for timing in timings["ours"]]
    report.add_figure("shards_fixed_s", "once a command: tracing, tables", min(fixed), "s")
    report.add_figure("crop_bytes", "a stored crop", counts["bytes"] / counts["crops"], "bytes")
    report.add_figure("crops_per_hour", "crops of an hour", counts["crops"] / hours, "crops")
    report.add_figure("audio_bytes_per_hour", "sound files of an hour", audio / hours, "bytes")
    for recordings, peak in memory.items():
        report.add_figure(
            f"memory_{recordings}", f"peak memory, {recordings} recordings", peak / 2**20, "MiB"
        )
    report.notes.append(
        "Shards are timed without what a command does once, which has a row of its own. Peak "
        f"memory is that of a process with {_MEMORY_RECORDINGS_PER_SHARD} recordings a shard."
    )
    return report


def shard_tasks(config: Config, material: Material, workers: int) -> dict[str, Callable[[], Any]]:
    """Tasks over all recordings once: ours, numpy, decoding.

    `ours` returns a timing without the time that making shards of nothing new takes: what is
    traced and read once. Its value: crops, bytes, fixed_s.
    """
    from rfcx_tf.frontend.recording import RecordingTransform, use_one_thread_an_operation
    from rfcx_tf.shards.make import make_shards

    # As make_tfrecords.py does.
    use_one_thread_an_operation()
    annotations = read_kaggle_folder(material.folder)

    def ours() -> Timing:
        # A command traces the front end once, however many recordings follow.
        fixed = timed(lambda: RecordingTransform(config)(_second_of_silence(config)))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "shards"
            whole = timed(
                lambda: make_shards(
                    annotations, config, material.folder, out, workers=workers, progress=False
                )
            )
        value = {
            "crops": sum(whole.value.counts.values()),
            "bytes": sum(whole.value.shards.values()),
            "fixed_s": fixed.seconds,
        }
        return Timing(whole.seconds - fixed.seconds, whole.cpu_seconds - fixed.cpu_seconds, value)

    def numpy_files() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_numpy_crops(material.recordings, annotations.used_rows, config, Path(folder))

    def decoding() -> None:
        for path in material.recordings.values():
            soundfile.read(path, dtype="float32")

    return {"ours": ours, "numpy": numpy_files, "decoding": decoding}


def _second_of_silence(config: Config) -> np.ndarray:
    return np.zeros(config.frontend.sample_rate_hz, np.float32)


def _memory_by_recordings(config: Config, material: Material) -> dict[int, int]:
    """Peak memory in bytes of making shards, by number of recordings; each in a new process."""
    crops = config.crops.model_copy(update={"recordings_per_shard": _MEMORY_RECORDINGS_PER_SHARD})
    config = config.model_copy(update={"crops": crops})
    peaks = {}
    for times in _MEMORY_TIMES:
        folder = material.copies(times)
        with Worker(_memory_tasks, config, folder, cores=1) as worker:
            worker.tasks["ours"]()
            peaks[times * len(material.recordings)] = worker.peak_memory_bytes()
    return peaks


def _memory_tasks(config: Config, folder: Path) -> dict[str, Callable[[], Any]]:
    from rfcx_tf.shards.make import make_shards

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out:
            make_shards(
                read_kaggle_folder(folder),
                config,
                folder,
                Path(out) / "shards",
                workers=1,
                progress=False,
            )

    return {"ours": ours}
