"""Measured rates -> core-hours and storage of big jobs; what grows with their number of crops.

Nothing big is run. The rates are those that the stages shards, predict and train wrote. What a
training keeps in memory for every crop is measured with two made-up indexes.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.options import Options
from benchmarks.report import Report, read_medians
from benchmarks.stages.train import CLASSES
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.shards.records import Manifest, ShardReader, write_manifest
from rfcx_tf.shards.sampler import BalancedSampler

# Every shard is a memory mapping, and Linux allows a process 65530 unless told otherwise.
_MAPPINGS = 65530
_MADE_UP_CROPS = (2_000, 20_000)
# TP and FP rows a recording in the competition.
_ROWS_PER_RECORDING = (1216 + 7781) / 4727
_RECORDING_S = 60
# Recordings to train on, to score, and in all.
JOBS = {
    "competition": (4727, 1992, 4727 + 1992),
    "million hours": (60_000_000, 60_000_000, 60_000_000),
}
_UNITS = {
    "preparing": "core-hours",
    "training all folds": "h on the machine",
    "predicting, one network": "core-hours",
    "sound files": "GiB",
    "shards": "GiB",
    "crops": "",
    "shard files": "",
}


def measure(options: Options) -> Report:
    """Projects the jobs, and measures what an index in memory costs by crop."""
    rates = {}
    for stage in ("shards", "predict", "train"):
        rates |= read_medians(stage, options.out)
    report = Report("Scale, projected from measured rates")
    few, many = (index_bytes(crops) for crops in _MADE_UP_CROPS)
    more = _MADE_UP_CROPS[1] - _MADE_UP_CROPS[0]
    memory, manifest = ((b - a) / more for a, b in zip(few, many, strict=True))
    report.add_figure("bytes_per_crop", "index and sampler", memory, "bytes / crop")
    report.add_figure("manifest_bytes", "manifest.json", manifest, "bytes / recording")
    for job, recordings in JOBS.items():
        found = project(recordings, rates, options.config)
        for what, value in found.items():
            report.add_figure(f"{job}: {what}", f"{job}: {what}", value, _UNITS[what])
        gib = found["crops"] * memory / 2**30
        report.add_figure(f"{job}: index", f"{job}: index in memory", gib, "GiB")
        if found["shard files"] > _MAPPINGS:
            most = _MAPPINGS * options.config.crops.recordings_per_shard
            report.notes.append(
                f"{job}: {found['shard files']:,.0f} shard files are more than the {_MAPPINGS} "
                f"memory mappings of a Linux process. A training opens at most {most:,} "
                "recordings in one folder. Raise crops.recordings_per_shard."
            )
    report.notes += [
        "Core-hours assume that recordings are dealt out to machines by folders: one "
        "make_tfrecords.py or predict.py works on one machine, and one process writes a folder "
        "of shards.",
        "A training draws the recipe's steps, however many recordings there are.",
    ]
    return report


def project(
    recordings: tuple[int, int, int], rates: dict[str, float], config: Config
) -> dict[str, float]:
    """Core-hours and storage of a job.

    One model of `training.folds` folds is trained for the recipe's steps, and one network scores
    every recording.

    Args:
        recordings: to train on, to score, in all.
        rates: what the stages shards, predict and train measured, by key.
        config: the recipe.

    Raises:
        UserError: if a rate is missing.
    """
    to_train, to_score, in_all = recordings
    training = config.training
    examples = training.folds * training.epochs * training.steps_per_epoch * training.batch_size
    crops = to_train * (_ROWS_PER_RECORDING + config.crops.unlabelled_per_recording)
    try:
        fastest = max(rates["Keras, float32"], rates["Keras, mixed bfloat16"])
        return {
            "preparing": to_train * _RECORDING_S / 3600 / rates["one core"] / 3600,
            "training all folds": examples / fastest / 3600,
            "predicting, one network": to_score * _RECORDING_S / rates["FLAC to scores"] / 3600,
            "sound files": in_all * _RECORDING_S / 3600 * rates["audio_bytes_per_hour"] / 2**30,
            "shards": crops * rates["crop_bytes"] / 2**30,
            "crops": crops,
            "shard files": to_train / config.crops.recordings_per_shard,
        }
    except KeyError as error:
        raise UserError(
            f"A projection needs the rate {error}, which no report has. Run the stages shards, "
            "predict and train again."
        ) from None


def index_bytes(crops: int) -> tuple[int, int]:
    """Bytes of memory that index, manifest and sampler keep, and bytes of manifest.json.

    The shards are made up: one crop a recording, all crops the same byte of one file.
    """
    numbers = np.arange(crops)
    names = [f"{number:09x}" for number in numbers]
    index = pd.DataFrame(
        {
            "shard": "all.tfrecord",
            "offset": 0,
            "length": 1,
            "recording_id": names,
            "fold": numbers % 5,
            "kind": np.where(numbers % 7 == 0, "tp", "fp"),
            "species_id": numbers % len(CLASSES),
            "songtype_id": 1,
            "t_min": 1.0,
            "t_max": 2.0,
        }
    )
    manifest = Manifest(
        classes=CLASSES,
        mean_box_s={},
        frontend={},
        frontend_fingerprint="",
        crop_frames=1,
        margin_frames=0,
        folds=5,
        fold_seed=0,
        shards_id="",
        shards={"all.tfrecord": 1},
        counts={},
        rows={},
        data_dir="",
        recordings={
            name: {"path": f"train/{name}.flac", "offset": 0, "length": None, "fold": 0}
            for name in names
        },
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "all.tfrecord").write_bytes(b"\0")
        index.to_csv(folder / "index.csv", index=False)
        write_manifest(manifest, folder)
        manifest_bytes = (folder / "manifest.json").stat().st_size
        tracemalloc.start()
        reader = ShardReader(folder)
        sampler = _sampler(reader)
        kept_bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del sampler
    return kept_bytes, manifest_bytes


def _sampler(reader: ShardReader) -> BalancedSampler:
    species = reader.index["species_id"].to_numpy()
    tp, fp = (reader.rows(list(range(5)), kind) for kind in ("tp", "fp"))
    return BalancedSampler(
        tp, species[tp], fp, species[fp], tp_fraction=0.5, balance_classes=True, seed=0
    )
