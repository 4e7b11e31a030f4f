"""Annotated recordings to measure with: some of a data folder, or synthetic ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import soundfile

from benchmarks.options import Options
from rfcx_tf.core.errors import UserError
from rfcx_tf.demo.rainforest import make_rainforest
from rfcx_tf.labels.annotations import Annotations, read_kaggle_folder


@dataclass(frozen=True)
class Recordings:
    """Recordings and their rows.

    Attributes:
        data_dir: the folder that they lie in.
        annotations: their rows and files.
        description: in words.
    """

    data_dir: Path
    annotations: Annotations
    description: str

    @property
    def paths(self) -> dict[str, Path]:
        """The files by recording id."""
        return {name: source.path for name, source in self.annotations.recordings.items()}

    @property
    def hours(self) -> float:
        """The length of all of them together."""
        return sum(soundfile.info(path).duration for path in self.paths.values()) / 3600


@contextmanager
def open_recordings(options: Options, count: int) -> Iterator[Recordings]:
    """The first annotated recordings of `options.data`, those with a TP row before the others.

    Without `options.data` it makes synthetic recordings and removes them at the end. They have a
    TP and an FP row each: the competition has 1.9 rows a recording, and that decides what a crop
    costs.

    Raises:
        UserError: if there are not so many annotated recordings.
    """
    with tempfile.TemporaryDirectory(prefix="rfcx-benchmark-") as temporary:
        data_dir, description = options.data, f"{count} recordings of {options.data}"
        if data_dir is None:
            data_dir, rate_hz = Path(temporary) / "data", options.config.frontend.sample_rate_hz
            description = (
                f"{count} synthetic recordings of {options.duration_s:g} s at {rate_hz} Hz"
            )
            print(f"Making {description} ...", flush=True)
            make_rainforest(
                data_dir,
                train_recordings=count,
                test_recordings=1,
                duration_s=options.duration_s,
                sample_rate_hz=rate_hz,
            )
        annotations = read_kaggle_folder(data_dir)
        # Recordings inside TFRecord files are no files that others can read.
        files = {n: s for n, s in annotations.recordings.items() if s.length is None}
        rows = annotations.used_rows[annotations.used_rows["recording_id"].isin(files)]
        if options.data is None:
            rows = rows.groupby(["recording_id", "present"]).head(1)
        ordered = rows.sort_values(["present", "recording_id"], ascending=[False, True])
        names = ordered["recording_id"].unique()[:count]
        if len(names) < count:
            raise UserError(
                f"A benchmark with {count} recordings needs as many annotated ones in "
                f"{data_dir / 'train'}. Found {len(names)}. Lower --recordings."
            )
        chosen = replace(
            annotations,
            rows=rows[rows["recording_id"].isin(names)].reset_index(drop=True),
            recordings={name: files[name] for name in names},
        )
        yield Recordings(data_dir, chosen, description)


def repeat_recordings(annotations: Annotations, times: int) -> Annotations:
    """Every recording several times, under different ids."""
    numbers = range(times)
    rows = [
        annotations.rows.assign(recording_id=annotations.rows["recording_id"] + f"-{number}")
        for number in numbers
    ]
    recordings = {
        f"{name}-{number}": source
        for name, source in annotations.recordings.items()
        for number in numbers
    }
    return replace(annotations, rows=pd.concat(rows, ignore_index=True), recordings=recordings)
