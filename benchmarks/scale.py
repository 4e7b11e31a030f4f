"""Measured rates -> machine-hours and storage of big jobs; what grows with their number of crops.

Nothing big is run. The tables of rates are those of the other benchmarks; what a training
holds in memory for every crop and recording is measured with made-up indexes.
"""

from __future__ import annotations

import json
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.options import Options
from benchmarks.report import Report, read_figures
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.shards.records import SCHEMA_VERSION, ShardReader
from rfcx_tf.shards.sampler import BalancedSampler

# Every shard is a mapping of memory, of which Linux allows a process 65530 unless told more.
_MAPPINGS = 65530
_SIMULATED_CROPS = (2_000, 20_000)
# TP and FP rows of the competition, by recording.
_ROWS_PER_RECORDING = (1216 + 7781) / 4727


@dataclass(frozen=True)
class Job:
    """Recordings to prepare and train on, recordings to score, and how many these are in all."""

    name: str
    train_recordings: int
    test_recordings: int
    recordings: int
    recording_s: float = 60.0

    @property
    def prepared_hours(self) -> float:
        """Sound that is made into shards."""
        return self.train_recordings * self.recording_s / 3600

    @property
    def predicted_hours(self) -> float:
        """Sound that is scored."""
        return self.test_recordings * self.recording_s / 3600


JOBS = (
    Job("competition", 4727, 1992, 4727 + 1992),
    Job("million hours", 60_000_000, 60_000_000, 60_000_000),
)


@dataclass(frozen=True)
class Rates:
    """Measured, one core unless it says otherwise.

    Attributes:
        prepared_hours_per_s, predicted_hours_per_s: hours of sound in a second.
        trained_per_s: examples in a second on the cores that the training was measured on.
        crop_bytes, audio_bytes_per_hour: storage.
    """

    prepared_hours_per_s: float
    predicted_hours_per_s: float
    trained_per_s: float
    crop_bytes: float
    audio_bytes_per_hour: float


def read_rates(out_dir: Path) -> Rates:
    """The rates from shards.json, predict.json and train.json.

    Raises:
        UserError: if one of them is not there, or lacks a row.
    """
    figures = {}
    for name in ("shards", "predict", "train"):
        found = read_figures(name, out_dir)
        if found is None:
            raise UserError(
                f"A projection needs measured rates. {out_dir / name}.json is not there: run "
                f"benchmark.py {name} with the same --out first."
            )
        figures |= found
    trained = [v for k, v in figures.items() if k in _TRAINED_BY]
    missing = [key for key in _NEEDED if key not in figures]
    if missing or not trained:
        raise UserError(
            f"The reports in {out_dir} lack {', '.join(missing) or 'a training step'}. Run the "
            "benchmarks shards, predict and train again."
        )
    return Rates(
        prepared_hours_per_s=figures["shards_hours_per_s"],
        predicted_hours_per_s=figures["flac_to_scores_sound_s_per_s"] / 3600,
        trained_per_s=max(trained),
        crop_bytes=figures["crop_bytes"],
        audio_bytes_per_hour=figures["audio_bytes_per_hour"],
    )


_NEEDED = (
    "shards_hours_per_s",
    "flac_to_scores_sound_s_per_s",
    "crop_bytes",
    "audio_bytes_per_hour",
)
_TRAINED_BY = ("float32_examples_per_s", "bfloat16_examples_per_s")


def project(job: Job, rates: Rates, config: Config) -> dict[str, float]:
    """Core-hours and storage of a job.

    One model of `training.folds` folds is trained for the recipe's steps, however much sound
    there is, and every recording is scored by one network.

    Returns:
        prepare_core_hours, train_hours (on the cores that training was measured on),
        predict_core_hours, audio_gib, shards_gib, crops, shards.
    """
    training = config.training
    examples = training.folds * training.epochs * training.steps_per_epoch * training.batch_size
    crops = job.train_recordings * (_ROWS_PER_RECORDING + config.crops.unlabelled_per_recording)
    hours = job.recordings * job.recording_s / 3600
    return {
        "prepare_core_hours": job.prepared_hours / rates.prepared_hours_per_s / 3600,
        "train_hours": examples / rates.trained_per_s / 3600,
        "predict_core_hours": job.predicted_hours / rates.predicted_hours_per_s / 3600,
        "audio_gib": hours * rates.audio_bytes_per_hour / 2**30,
        "shards_gib": crops * rates.crop_bytes / 2**30,
        "crops": crops,
        "shards": job.train_recordings / config.crops.recordings_per_shard,
    }


_UNITS = {
    "prepare_core_hours": ("preparing", "core-hours"),
    "train_hours": ("training all folds", "h on the machine"),
    "predict_core_hours": ("predicting, one network", "core-hours"),
    "audio_gib": ("sound files", "GiB"),
    "shards_gib": ("shards", "GiB"),
    "crops": ("crops", ""),
    "shards": ("shard files", ""),
}


def measure_scale(options: Options) -> Report:
    """Projects the jobs, and measures what opening shards costs by crop and by recording."""
    rates = read_rates(options.out)
    report = Report("Scale, projected from measured rates")
    grown = [simulate_index(crops) for crops in _SIMULATED_CROPS]
    more = _SIMULATED_CROPS[1] - _SIMULATED_CROPS[0]
    slope = {key: (grown[1][key] - grown[0][key]) / more for key in grown[0]}
    report.add_figure("open_us_per_crop", "opening shards", 1e6 * slope["open_s"], "µs / crop")
    report.add_figure("bytes_per_crop", "index and sampler", slope["bytes"], "bytes / crop")
    report.add_figure("manifest_bytes", "manifest.json", slope["manifest"], "bytes / recording")
    report.add_figure("draw_us", "a draw", 1e6 * grown[1]["draw_s"], "µs")
    for job in JOBS:
        found = project(job, rates, options.config)
        for key, (what, unit) in _UNITS.items():
            name = f"{job.name.replace(' ', '_')}_{key}"
            report.add_figure(name, f"{job.name}: {what}", found[key], unit)
        memory = found["crops"] * slope["bytes"] / 2**30
        report.add_figure(
            f"{job.name.replace(' ', '_')}_index_gib", f"{job.name}: index in memory", memory, "GiB"
        )
        if found["shards"] > _MAPPINGS:
            report.notes.append(
                f"{job.name}: {found['shards']:,.0f} shard files are more than the {_MAPPINGS} "
                "memory mappings of a Linux process: a training opens no more than "
                f"{_MAPPINGS * options.config.crops.recordings_per_shard:,} recordings in one "
                "folder. Raise crops.recordings_per_shard."
            )
    report.notes += [
        "Machine-hours assume that recordings are dealt out to machines by folders: one "
        "make_tfrecords.py or predict.py works on one machine, and one folder of shards is "
        "written by one process.",
        "A training draws the recipe's steps, however many recordings there are.",
    ]
    return report


def simulate_index(crops: int) -> dict[str, float]:
    """Opens the shards of so many made-up crops, one a recording, whose shard is one byte.

    Returns:
        open_s, bytes (of Python's and NumPy's memory that index, manifest and sampler keep),
        manifest (bytes of the file), draw_s.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "all.tfrecord").write_bytes(b"\0")
        species = np.arange(crops) % 24
        names = [f"{number:09x}" for number in range(crops)]
        pd.DataFrame(
            {
                "shard": "all.tfrecord",
                "offset": 0,
                "length": 1,
                "recording_id": names,
                "fold": np.arange(crops) % 5,
                "kind": np.where(np.arange(crops) % 7 == 0, "tp", "fp"),
                "species_id": species,
                "songtype_id": 1,
                "t_min": 1.0,
                "t_max": 2.0,
            }
        ).to_csv(folder / "index.csv", index=False)
        manifest = {
            "classes": [{"species_id": k, "name": f"species {k}"} for k in range(24)],
            "mean_box_s": {},
            "frontend": {},
            "frontend_fingerprint": "",
            "crop_frames": 1,
            "margin_frames": 0,
            "folds": 5,
            "fold_seed": 0,
            "shards_id": "",
            "shards": {"all.tfrecord": 1},
            "counts": {},
            "rows": {},
            "data_dir": "",
            "recordings": {
                name: {"path": f"train/{name}.flac", "offset": 0, "length": None, "fold": 0}
                for name in names
            },
            "schema_version": SCHEMA_VERSION,
        }
        path = folder / "manifest.json"
        path.write_text(json.dumps(manifest, indent=1))
        began = time.perf_counter()
        ShardReader(folder)
        open_s = time.perf_counter() - began
        # Tracing slows opening, so it is opened once more.
        tracemalloc.start()
        reader = ShardReader(folder)
        sampler = _sampler(reader)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        began = time.perf_counter()
        for number in range(1000):
            sampler.draw(number)
        draw_s = (time.perf_counter() - began) / 1000
        return {
            "open_s": open_s,
            "bytes": kept,
            "manifest": path.stat().st_size,
            "draw_s": draw_s,
        }


def _sampler(reader: ShardReader) -> BalancedSampler:
    species = reader.index["species_id"].to_numpy()
    tp, fp = reader.rows(list(range(5)), "tp"), reader.rows(list(range(5)), "fp")
    return BalancedSampler(
        tp, species[tp], fp, species[fp], tp_fraction=0.5, balance_classes=True, seed=0
    )
