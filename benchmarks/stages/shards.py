"""FLAC to crop shards: hours of sound a second on one core and on several, and memory."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.options import Options
from benchmarks.recordings import Recordings, open_recordings, repeat_recordings
from benchmarks.report import Report
from benchmarks.stages.librosa_crops import write_numpy_crops
from benchmarks.timing import Tasks, Timing, Worker, alternate, timed
from rfcx_tf.core.config import Config

# Few enough recordings a shard that memory stops growing early.
_MEMORY_RECORDINGS_PER_SHARD = 8
_MEMORY_REPEATS = (2, 8)


def measure(options: Options) -> Report:
    """Preparing on one core and on several, against NumPy files and decoding alone."""
    config, cores = options.config, options.cores
    with open_recordings(options, options.recordings) as recordings:
        with (
            Worker(shard_tasks, config, recordings, 1, cores=1) as one,
            Worker(shard_tasks, config, recordings, cores, cores=cores) as several,
        ):
            tasks = one.tasks | {"several cores": several.tasks["one core"]}
            timings = alternate(tasks, options.repeats)
        memory = _memory_by_recordings(config, recordings)
        hours = recordings.hours
        audio_bytes = sum(path.stat().st_size for path in recordings.paths.values())
    made = [timing.value for timing in timings["one core"]]
    report = Report(f"Preparing: {recordings.description}, {made[0]['crops']} crops")
    speed = (timings, hours, "h of sound / s")
    report.add_speed(*speed, "decoding", "FLAC decoding alone (libsndfile), one core")
    report.add_speed(*speed, "NumPy files", "soundfile, librosa, NumPy files, one core")
    report.add_speed(*speed, "one core", "shards, one core", against="NumPy files")
    report.add_speed(*speed, "one core", "the same", against="decoding")
    report.add_speed(*speed, "several cores", f"shards, {cores} cores", against="one core")
    fixed_s = min(value["fixed_s"] for value in made)
    report.add_figure("fixed_s", "once a command: tracing, tables", fixed_s, "s")
    crops = made[0]["crops"]
    report.add_figure("crop_bytes", "a stored crop", made[0]["bytes"] / crops, "bytes")
    report.add_figure("crops_per_hour", "crops of an hour", crops / hours, "crops")
    report.add_figure(
        "audio_bytes_per_hour", "sound files of an hour", audio_bytes / hours, "bytes"
    )
    for count, peak in memory.items():
        what = f"peak memory, {count} recordings"
        report.add_figure(f"memory_{count}", what, peak / 2**20, "MiB")
    report.notes.append(
        "The speed of shards leaves out what a command does once, which has a line of its own. "
        f"Peak memory is that of a process with {_MEMORY_RECORDINGS_PER_SHARD} recordings a shard."
    )
    return report


def shard_tasks(config: Config, recordings: Recordings, workers: int) -> Tasks:
    """Tasks over all recordings: one core (or so many), NumPy files, decoding.

    The first makes shards. Its timing leaves out the tracing of the front end, which a command
    does once, however many recordings follow. Its value: crops, bytes, fixed_s.
    """
    import tensorflow as tf

    from rfcx_tf.frontend.recording import RecordingTransform, use_one_thread_an_operation
    from rfcx_tf.shards.make import make_shards

    # As make_tfrecords.py does.
    use_one_thread_an_operation()
    # Every round traces the front end anew, which is meant.
    tf.get_logger().setLevel("ERROR")
    second = np.zeros(config.frontend.sample_rate_hz, np.float32)

    def shards() -> Timing:
        fixed = timed(lambda: RecordingTransform(config)(second))
        with tempfile.TemporaryDirectory() as folder:
            whole = timed(
                lambda: make_shards(
                    recordings.annotations,
                    config,
                    recordings.data_dir,
                    Path(folder) / "shards",
                    workers=workers,
                    progress=False,
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
            write_numpy_crops(recordings.annotations, config, Path(folder))

    def decoding() -> None:
        for path in recordings.paths.values():
            soundfile.read(path, dtype="float32")

    return {"one core": shards, "NumPy files": numpy_files, "decoding": decoding}


def _memory_by_recordings(config: Config, recordings: Recordings) -> dict[int, int]:
    """Peak memory in bytes of making shards, by number of recordings; each in a new process."""
    crops = config.crops.model_copy(update={"recordings_per_shard": _MEMORY_RECORDINGS_PER_SHARD})
    config = config.model_copy(update={"crops": crops})
    peaks = {}
    for times in _MEMORY_REPEATS:
        more = replace(recordings, annotations=repeat_recordings(recordings.annotations, times))
        with Worker(shard_tasks, config, more, 1, cores=1) as worker:
            worker.tasks["one core"]()
            peaks[len(more.annotations.recordings)] = worker.peak_memory_bytes()
    return peaks
