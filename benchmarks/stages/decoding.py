"""Files to samples: our reader (libsndfile) against tensorflow-io inside tf.data, by format."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile
import tensorflow as tf

from benchmarks.options import Options
from benchmarks.recordings import Recordings, open_recordings
from benchmarks.report import Report
from benchmarks.stages.shards import shard_tasks
from benchmarks.timing import Tasks, Worker, alternate
from rfcx_tf.audio.decode import decode_blocks
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError

_EXTENSIONS = (".flac", ".wav", ".mp3", ".ogg")


def measure(options: Options) -> Report:
    """Decoding as prediction does and by tf.data, on one core and on several; and making shards."""
    tensorflow_io_decoder(".flac")
    with (
        open_recordings(options, options.recordings) as recordings,
        tempfile.TemporaryDirectory(prefix="rfcx-benchmark-") as folder,
    ):
        files = [_in_all_formats(path, Path(folder)) for path in recordings.paths.values()]
        with (
            Worker(decoding_tasks, options.config, recordings, files, 1, cores=1) as one,
            Worker(
                decoding_tasks,
                options.config,
                recordings,
                files,
                options.cores,
                cores=options.cores,
            ) as several,
        ):
            tasks = {f"{name}, one core": task for name, task in one.tasks.items()}
            tasks |= {f"{name}, several cores": task for name, task in several.tasks.items()}
            timings = alternate(tasks, options.repeats)
        speed = (timings, recordings.hours, "h of sound / s")
    report = Report(f"Decoding: {recordings.description}, 16 bits, {options.cores} cores")
    for cores in ("one core", "several cores"):
        for extension in _EXTENSIONS:
            own, other = (f"{extension} by {way}, {cores}" for way in ("libsndfile", "tf.data"))
            report.add_speed(*speed, own)
            report.add_speed(*speed, other, against=own)
        shards, flac = f"shards, {cores}", f".flac by tf.data, {cores}"
        what = f"shards from FLAC, decoding included, {cores}"
        report.add_speed(*speed, shards, what, against=flac)
    report.notes.append(
        "By libsndfile: `decode_blocks` with its checks, a recording a thread. By tf.data: "
        "`tf.io.read_file` and tensorflow-io's operations in a parallel `map`."
    )
    return report


def decoding_tasks(
    config: Config, recordings: Recordings, files: list[dict[str, Path]], threads: int
) -> Tasks:
    """Tasks over all recordings: each format by libsndfile and by tf.data; making shards."""

    def by_libsndfile(paths: list[Path]) -> None:
        def decode(path: Path) -> None:
            for _ in decode_blocks(path, [soundfile.info(path).samplerate]):
                pass

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, paths))

    def by_tf_data(paths: list[Path], extension: str) -> None:
        decode = tensorflow_io_decoder(extension)
        names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
        for _ in names.map(lambda name: decode(tf.io.read_file(name)), num_parallel_calls=threads):
            pass

    tasks = {"shards": shard_tasks(config, recordings, threads)["one core"]}
    for extension in _EXTENSIONS:
        paths = [by_extension[extension] for by_extension in files]
        tasks[f"{extension} by libsndfile"] = lambda p=paths: by_libsndfile(p)
        tasks[f"{extension} by tf.data"] = lambda p=paths, e=extension: by_tf_data(p, e)
    return tasks


def tensorflow_io_decoder(extension: str, bits: int = 16) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function for a tf.data graph: encoded bytes -> the mean of the channels, [samples] float32.

    Args:
        extension: .flac, .wav, .mp3 or .ogg.
        bits: of a sample in a FLAC or WAV file, 16 or 24. The graph has to know, the file says
            it too late: tensorflow-io refuses a file of another width.

    Raises:
        UserError: if tensorflow-io is not installed or cannot be loaded.
    """
    try:
        from tensorflow_io import audio
    except (ImportError, NotImplementedError) as error:
        raise UserError(
            "Decoding in tf.data needs tensorflow-io, which loads with TensorFlow 2.16 and 2.17. "
            f"Found: {error}. Install requirements.txt with Python 3.11."
        ) from None
    if extension in (".mp3", ".ogg"):
        decode = audio.decode_mp3 if extension == ".mp3" else audio.decode_vorbis
        return lambda encoded: tf.reduce_mean(decode(encoded), axis=1)
    decode = audio.decode_flac if extension == ".flac" else audio.decode_wav
    # 24 bits come as the upper ones of 32.
    dtype, full_scale = (tf.int16, 2.0**15) if bits == 16 else (tf.int32, 2.0**31)
    return lambda encoded: tf.reduce_mean(
        tf.cast(decode(encoded, dtype=dtype), tf.float32) / full_scale, axis=1
    )


def _in_all_formats(path: Path, folder: Path) -> dict[str, Path]:
    """The recording, encoded anew in `folder`: a file by extension."""
    samples, rate_hz = soundfile.read(path, dtype="int16")
    files = {extension: folder / f"{path.stem}{extension}" for extension in _EXTENSIONS}
    for file in files.values():
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        with soundfile.SoundFile(file, "w", rate_hz, channels) as sound:
            # libsndfile's encoder of OGG overruns its stack by a minute at once.
            for begin in range(0, len(samples), rate_hz):
                sound.write(samples[begin : begin + rate_hz])
    return files
