"""Shards to batches without a model: examples a second; reading from disk; size of a crop."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.options import Options
from benchmarks.recordings import Recordings, open_recordings
from benchmarks.report import Report
from benchmarks.timing import Tasks, Timing, Worker, alternate, timed
from rfcx_tf.core.config import AugmentConfig, Config
from rfcx_tf.shards.records import ShardReader, parse_crop

# What a GPU has to be fed.
_WANTED_EXAMPLES_PER_S = 3000
_WARM_UP_BATCHES = 20
# Drawing a batch is so much faster than training on it.
_BATCHES_PER_STEP = 10
_SHUFFLE_BUFFER = 1024
_CROPS_READ = 200
_SIZED_CROPS = 20


def measure(options: Options) -> Report:
    """Examples a second on several cores, against plain readers that augment nothing."""
    cores, batches = options.cores, options.steps * _BATCHES_PER_STEP
    training = options.config.training.model_copy(update={"batch_size": options.batch_size})
    config = options.config.model_copy(update={"training": training})
    with (
        open_recordings(options, options.recordings) as recordings,
        tempfile.TemporaryDirectory(prefix="rfcx-benchmark-") as folder,
    ):
        arguments = (config, recordings, Path(folder), batches)
        with Worker(pipeline_tasks, *arguments, cores=cores) as worker:
            sizes = worker.tasks.pop("sizes")().value
            timings = alternate(worker.tasks, options.repeats)
    report = Report(f"Pipeline: crops of {recordings.description}, {cores} cores")
    examples = options.batch_size * batches
    speed = (timings, examples, "examples / s")
    report.add_speed(*speed, "NumPy files", "NumPy files, one thread, no augmentation")
    report.add_speed(*speed, "TFRecordDataset", "TFRecordDataset, shuffled, no augmentation")
    what = "drawn evenly, no augmentation"
    report.add_speed(*speed, "not augmented", what, against="TFRecordDataset")
    what = "drawn evenly, all augmentation of the recipe"
    report.add_speed(*speed, "augmented", what, against="not augmented")
    report.add_figure(
        "cores_wanted",
        f"cores for {_WANTED_EXAMPLES_PER_S} examples / s, if they scale",
        cores * _WANTED_EXAMPLES_PER_S / report.rows[-1]["median"],
        "cores",
    )
    reading = (timings, _CROPS_READ, "crops / s")
    what = f"reading {_CROPS_READ} crops in random order, "
    report.add_speed(*reading, "page cache", what + "from the page cache")
    what += "after the cache was emptied"
    report.add_speed(*reading, "emptied cache", what, against="page cache")
    for name, size in sizes.items():
        report.add_figure(name, f"a crop as {name}", size, "bytes")
    report.notes.append(
        "posix_fadvise drops the shards from the page cache. A virtual disk's host may still hold "
        "them, so that line is the best case."
    )
    return report


def without_augmentation(config: Config) -> Config:
    """The recipe with crops as they are: centred on their boxes, nothing varied or mixed."""
    augment = AugmentConfig(
        tp_shift_s=0.0, fp_shift_boxes=0.0, fp_flip=0.0, fp_cut_paste=0.0, fp_mixup=0.0
    )
    return config.model_copy(update={"augment": augment})


def pipeline_tasks(config: Config, recordings: Recordings, folder: Path, batches: int) -> Tasks:
    """Makes shards in `folder` and gives tasks: four readers, two ways of reading, and sizes.

    Each reader takes some batches and then times `batches` of them.
    """
    import tensorflow as tf

    from rfcx_tf.shards.dataset import training_dataset
    from rfcx_tf.shards.make import make_shards

    shards, numpy_folder, unmapped = (folder / name for name in ("shards", "numpy", "unmapped"))
    make_shards(recordings.annotations, config, recordings.data_dir, shards, progress=False)
    # Linux keeps pages that are mapped, and the reader maps its files; nobody maps this copy.
    shutil.copytree(shards, unmapped)
    reader = ShardReader(shards)
    numpy_folder.mkdir()
    for row in range(len(reader.index)):
        crop = parse_crop(reader[row])["spectrogram"].numpy()
        np.save(numpy_folder / f"{row:06d}.npy", crop)
    # All rows of one class may lie in one fold of so few recordings, so draw from all folds.
    folds = list(range(config.training.folds))
    batch_size = config.training.batch_size
    middle = slice(config.margin_frames, config.margin_frames + config.crop_frames)

    def tfrecord_batches() -> tf.data.Dataset:
        def middle_of(serialized):
            crop = parse_crop(serialized)
            return crop["spectrogram"][middle], crop["species_id"]

        names = [str(shards / name) for name in reader.manifest.shards]
        dataset = tf.data.TFRecordDataset(names, num_parallel_reads=tf.data.AUTOTUNE)
        dataset = dataset.repeat().shuffle(_SHUFFLE_BUFFER)
        dataset = dataset.map(middle_of, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def numpy_batches() -> Iterable[np.ndarray]:
        paths, random = sorted(numpy_folder.iterdir()), np.random.default_rng(0)
        while True:
            chosen = random.choice(len(paths), batch_size)
            yield np.stack([np.load(paths[number])[middle] for number in chosen])

    def timing_of(all_batches: Iterable) -> Callable[[], Timing]:
        def run() -> Timing:
            iterator = iter(all_batches)
            for _ in itertools.islice(iterator, _WARM_UP_BATCHES):
                pass
            return timed(lambda: [None for _ in itertools.islice(iterator, batches)])

        return run

    plain = without_augmentation(config)
    return {
        "NumPy files": timing_of(numpy_batches()),
        "TFRecordDataset": timing_of(tfrecord_batches()),
        "not augmented": timing_of(training_dataset(reader, plain, folds)),
        "augmented": timing_of(training_dataset(reader, config, folds)),
        "page cache": lambda: read_at_random(unmapped, reader.index, cold=False),
        "emptied cache": lambda: read_at_random(unmapped, reader.index, cold=True),
        "sizes": lambda: _sizes(reader),
    }


def read_at_random(folder: Path, index: pd.DataFrame, cold: bool) -> Timing:
    """Reads crops in random order, as training does.

    Args:
        folder: of shard files that no process has mapped.
        index: of the shards.
        cold: whether to drop the files from the page cache first.
    """
    rows = index.iloc[np.random.default_rng(0).integers(len(index), size=_CROPS_READ)]
    places = list(zip(rows["shard"], rows["offset"], rows["length"], strict=True))

    def read() -> None:
        for shard, offset, length in places:
            os.pread(files[shard], length, offset)

    files = {name: os.open(folder / name, os.O_RDONLY) for name in index["shard"].unique()}
    try:
        if cold:
            for file in files.values():
                os.fsync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return timed(read)
    finally:
        for file in files.values():
            os.close(file)


def _sizes(reader: ShardReader) -> dict[str, float]:
    """Mean bytes of a crop's spectrogram by how it is stored; bytes are 256 equal steps."""
    sizes: dict[str, list[int]] = {}
    for row in range(min(_SIZED_CROPS, len(reader.index))):
        spectrogram = parse_crop(reader[row])["spectrogram"].numpy()
        low, high = spectrogram.min(), spectrogram.max()
        steps = np.round((spectrogram - low) / (high - low) * 255).astype(np.uint8)
        for name, values in (("float16", spectrogram.astype(np.float16)), ("uint8", steps)):
            sizes.setdefault(name, []).append(values.nbytes)
            compressed = len(zlib.compress(values.tobytes()))
            sizes.setdefault(f"{name} compressed", []).append(compressed)
    return {name: float(np.mean(values)) for name, values in sizes.items()}
