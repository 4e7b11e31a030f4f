"""Shards to batches without a model: examples per second, reading from disk, size of a crop."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.material import open_material
from benchmarks.measure import Spread, Timing, alternate, timed
from benchmarks.options import Options
from benchmarks.quantised import levels_of, quantisation_scores
from benchmarks.report import Report
from benchmarks.worker import Worker
from rfcx_tf.core.config import AugmentConfig, Config
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import ShardReader

# What a GPU would have to be fed.
_WANTED_EXAMPLES_PER_S = 3000
_WARM_BATCHES = 20
# A batch is drawn so much faster than it is trained on.
_BATCHES_PER_STEP = 10
_SHUFFLE_BUFFER = 1024
_CROPS_READ = 200
_SIZED_CROPS = 20


def without_augmentation(config: Config) -> Config:
    """The recipe with crops as they are: centred on their boxes, nothing varied or mixed."""
    augment = AugmentConfig(
        tp_shift_s=0.0, fp_shift_boxes=0.0, fp_flip=0.0, fp_cut_paste=0.0, fp_mixup=0.0
    )
    return config.model_copy(update={"augment": augment})


def measure_pipeline(options: Options) -> Report:
    """Examples per second on several cores, against plain readers that augment nothing."""
    config, cores = options.config, options.cores
    batches = options.steps * _BATCHES_PER_STEP
    if options.run:
        RunFolder.open(options.run)  # a wrong one is refused before any work
    with (
        open_material(
            options.data, options.recordings, options.duration_s, config.frontend.sample_rate_hz
        ) as material,
        tempfile.TemporaryDirectory(prefix="rfcx-benchmark-") as folder,
    ):
        shards = Path(folder) / "shards"
        make = (config, material.folder, shards, options.batch_size, batches)
        with Worker(pipeline_tasks, *make, cores=cores) as worker:
            timings = alternate(worker.tasks, options.repeats)
        reader = ShardReader(shards)
        sizes = _sizes(reader)
        description = material.description
    report = Report(f"Pipeline: {len(reader.index)} crops of {description}, {cores} cores")
    examples = options.batch_size * batches
    for key, what, task, against, name in (
        ("numpy", "NumPy files, one thread, no augmentation", "numpy", None, ""),
        ("tfrecord", "TFRecordDataset, shuffled, no augmentation", "tfrecord", None, ""),
        ("plain", "drawn evenly, no augmentation", "plain", "tfrecord", "TFRecordDataset"),
        ("augmented", "drawn evenly, all augmentation of the recipe", "augmented", "plain", "none"),
    ):
        report.add(
            f"{key}_examples_per_s",
            what,
            timings[task],
            "examples / s",
            lambda seconds: examples / seconds,
            against=timings[against] if against else None,
            name=name,
        )
    seconds = Spread.of([timing.seconds for timing in timings["augmented"]]).median
    report.add_figure(
        "cores_for_3000",
        f"cores for {_WANTED_EXAMPLES_PER_S} examples/s, if they scale",
        _WANTED_EXAMPLES_PER_S * cores * seconds / examples,
        "cores",
    )
    for key, what in (("cached", "from the page cache"), ("cold", "after the cache was emptied")):
        report.add(
            f"{key}_crops_per_s",
            f"reading {_CROPS_READ} crops in random order, {what}",
            timings[key],
            "crops / s",
            lambda seconds: _CROPS_READ / seconds,
            against=timings["cached"] if key == "cold" else None,
            name="from the cache",
        )
    for name, size in sizes.items():
        report.add_figure(f"{name.replace(' ', '_')}_bytes", f"a crop as {name}", size, "bytes")
    if options.run:
        for name, figures in quantisation_scores(options).items():
            for figure, value in figures.items():
                report.add_figure(f"{name}_{figure}", f"{figure}, crops as {name}", value, "")
    else:
        report.notes.append("The effect of 8 bits on scores needs --run RUN, for LWLRAP --truth.")
    report.notes.append(
        "The page cache is emptied of the shards by posix_fadvise; a virtual disk's host may "
        "still hold them, so a cold figure is the best case."
    )
    return report


def pipeline_tasks(
    config: Config, data_dir: Path, shards: Path, batch_size: int, batches: int
) -> dict[str, Callable[[], Any]]:
    """Makes shards and gives tasks: augmented, plain, tfrecord, numpy, cached, cold.

    Each of the first four takes some batches and then times `batches` of them.
    """
    import tensorflow as tf

    from rfcx_tf.shards.dataset import training_dataset
    from rfcx_tf.shards.make import make_shards
    from rfcx_tf.shards.records import parse_crop

    training = config.training.model_copy(update={"batch_size": batch_size})
    config = config.model_copy(update={"training": training})
    # One class's rows may all lie in one fold of so few recordings; all are drawn from.
    make_shards(read_kaggle_folder(data_dir), config, data_dir, shards, progress=False)
    reader = ShardReader(shards)
    folds = list(range(config.training.folds))
    # Linux keeps pages that are mapped, as the reader's are; so this copy is never mapped.
    unmapped = shards.with_name("unmapped")
    shutil.copytree(shards, unmapped)
    numpy_folder = shards.with_name("numpy")
    _write_numpy(reader, numpy_folder)
    frames, margin = config.crop_frames, config.margin_frames

    def timing_of(make_batches: Callable[[], Any]) -> Callable[[], Timing]:
        def run() -> Timing:
            iterator = iter(make_batches())
            for _ in range(_WARM_BATCHES):
                next(iterator)
            return timed(lambda: [None for _ in itertools.islice(iterator, batches)])

        return run

    def tfrecord_batches():
        names = [str(shards / name) for name in reader.manifest.shards]
        dataset = tf.data.TFRecordDataset(names, num_parallel_reads=tf.data.AUTOTUNE)
        dataset = dataset.repeat().shuffle(_SHUFFLE_BUFFER)

        def middle(serialized):
            crop = parse_crop(serialized)
            return crop["spectrogram"][margin : margin + frames], crop["species_id"]

        dataset = dataset.map(middle, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def numpy_batches():
        paths = sorted(numpy_folder.iterdir())
        random = np.random.default_rng(0)
        while True:
            chosen = random.choice(len(paths), batch_size)
            yield np.stack([np.load(paths[i])[margin : margin + frames] for i in chosen])

    return {
        "augmented": timing_of(lambda: training_dataset(reader, config, folds)),
        "plain": timing_of(lambda: training_dataset(reader, without_augmentation(config), folds)),
        "tfrecord": timing_of(tfrecord_batches),
        "numpy": timing_of(numpy_batches),
        "cached": lambda: read_at_random(unmapped, reader.index, cold=False),
        "cold": lambda: read_at_random(unmapped, reader.index, cold=True),
    }


def read_at_random(folder: Path, index: pd.DataFrame, cold: bool) -> Timing:
    """Reads crops in random order as training does, perhaps with nothing in the page cache.

    Args:
        folder: of shard files that no process has mapped.
        index: of the shards.
        cold: drop the files from the page cache first.
    """
    rows = index.iloc[np.random.default_rng(0).integers(len(index), size=_CROPS_READ)]
    files = {name: os.open(folder / name, os.O_RDONLY) for name in index["shard"].unique()}
    try:
        if cold:
            for file in files.values():
                os.fsync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        places = list(zip(rows["shard"], rows["offset"], rows["length"], strict=True))

        def read() -> None:
            for shard, offset, length in places:
                os.pread(files[shard], length, offset)

        return timed(read)
    finally:
        for file in files.values():
            os.close(file)


def _write_numpy(reader: ShardReader, folder: Path) -> None:
    from rfcx_tf.shards.records import parse_crop

    folder.mkdir()
    for row in range(len(reader.index)):
        np.save(folder / f"{row:06d}.npy", parse_crop(reader[row])["spectrogram"].numpy())


def _sizes(reader: ShardReader) -> dict[str, float]:
    """Mean bytes of a crop's spectrogram by how it is stored."""
    import tensorflow as tf

    sizes: dict[str, list[int]] = {}
    for row in range(min(_SIZED_CROPS, len(reader.index))):
        example = tf.train.Example.FromString(reader[row])
        bytes_float16 = example.features.feature["spectrogram"].bytes_list.value[0]
        levels = levels_of(np.frombuffer(bytes_float16, np.float16).astype(np.float32))[0]
        for name, stored in (
            ("float16", bytes_float16),
            ("float16 compressed", zlib.compress(bytes_float16)),
            ("uint8", levels.tobytes()),
            ("uint8 compressed", zlib.compress(levels.tobytes())),
        ):
            sizes.setdefault(name, []).append(len(stored))
    return {name: float(np.mean(values)) for name, values in sizes.items()}
