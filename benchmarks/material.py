"""Recordings to measure with: a few of a data folder, or synthetic ones, in the Kaggle layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.errors import UserError
from rfcx_tf.demo.rainforest import make_rainforest

_TABLES = ("train_tp.csv", "train_fp.csv")
# The synthetic forest has many boxes a recording; the competition has 1216 TP and 7781 FP rows
# in 4727 recordings, which decides what a crop costs beside its recording.
_SYNTHETIC_ROWS = {"train_tp.csv": 1, "train_fp.csv": 1}


@dataclass(frozen=True)
class Material:
    """Recordings and their rows, in a temporary folder.

    Attributes:
        folder: in the Kaggle layout; its recordings are links.
        tables: the rows by file name, as text.
        recordings: paths by recording id.
        description: in words.
    """

    folder: Path
    tables: dict[str, pd.DataFrame]
    recordings: dict[str, Path]
    description: str

    @property
    def sources(self) -> list[AudioSource]:
        """The recordings."""
        return [AudioSource(path) for path in self.recordings.values()]

    def copies(self, times: int) -> Path:
        """A folder in which every recording stands so many times, under different names."""
        folder = self.folder / f"copies{times}"
        if not folder.exists():
            tables = {
                name: pd.concat(
                    table.assign(recording_id=table["recording_id"] + f"-{number}")
                    for number in range(times)
                )
                for name, table in self.tables.items()
            }
            recordings = {
                f"{name}-{number}": path
                for name, path in self.recordings.items()
                for number in range(times)
            }
            _write(folder, tables, recordings)
        return folder


@contextmanager
def open_material(
    data: Path | None, count: int, duration_s: float, sample_rate_hz: int
) -> Iterator[Material]:
    """The first annotated recordings of a folder, or as many synthetic ones.

    Args:
        data: a folder in the Kaggle layout, with recordings in train/; None: synthetic.
        count: recordings.
        duration_s, sample_rate_hz: of synthetic ones.

    Raises:
        UserError: if there are not so many annotated recordings, or none with a TP row.
    """
    with tempfile.TemporaryDirectory(prefix="rfcx-benchmark-") as temporary:
        folder = Path(temporary)
        description = f"{count} recordings of {data}"
        if data is None:
            data = folder / "synthetic"
            print(f"Making {count} synthetic recordings of {duration_s:g} s ...")
            make_rainforest(
                data,
                train_recordings=count,
                test_recordings=1,
                duration_s=duration_s,
                sample_rate_hz=sample_rate_hz,
            )
            description = f"{count} synthetic recordings of {duration_s:g} s at {sample_rate_hz} Hz"
            tables = {
                name: table.groupby("recording_id").head(_SYNTHETIC_ROWS[name])
                for name, table in _read_tables(data).items()
            }
        else:
            tables = _read_tables(data)
        named = {name for table in tables.values() for name in table["recording_id"]}
        available = folder_recordings(data / "train", named)
        annotated = [name for name in sorted(available) if _has_rows(name, tables)]
        if len(annotated) < count:
            raise UserError(
                f"A benchmark with {count} recordings needs as many annotated ones in "
                f"{data / 'train'}. Found {len(annotated)}. Lower --recordings."
            )
        # Those with a TP row first: without any, nothing could be trained.
        tp = set(tables["train_tp.csv"]["recording_id"])
        annotated.sort(key=lambda name: (name not in tp, name))
        recordings = {name: available[name].resolve() for name in annotated[:count]}
        tables = {
            name: table[table["recording_id"].isin(recordings)] for name, table in tables.items()
        }
        _write(folder / "chosen", tables, recordings)
        yield Material(folder / "chosen", tables, recordings, description)


def _read_tables(data: Path) -> dict[str, pd.DataFrame]:
    tables = {}
    for name in _TABLES:
        if not (data / name).exists():
            raise UserError(f"A benchmark's data folder needs {name}. Not found in {data}.")
        tables[name] = pd.read_csv(data / name, dtype=str, keep_default_na=False)
    return tables


def _has_rows(name: str, tables: dict[str, pd.DataFrame]) -> bool:
    return any((table["recording_id"] == name).any() for table in tables.values())


def _write(folder: Path, tables: dict[str, pd.DataFrame], recordings: dict[str, Path]) -> None:
    (folder / "train").mkdir(parents=True)
    for name, table in tables.items():
        table.to_csv(folder / name, index=False)
    for name, path in recordings.items():
        link = folder / "train" / f"{name}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
