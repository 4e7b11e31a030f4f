"""A folder in the competition's layout -> one table of boxes (present / absent), the class
list, and where the recordings are.

    train_tp.csv, train_fp.csv    boxes that experts confirmed / rejected
    train/<recording_id>.flac     or .mp3, .ogg, .wav; also in subfolders, where the id is the
                                  file's name, or the path if rows or files need that
    tfrecords/train/*.tfrec       used where train/ holds no recordings
    complete.csv                  optional: recordings in which all calls are marked
    species.csv                   optional: names of the species
    sample_submission.csv         optional: its columns name the species too
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.audio.decoders import AUDIO_EXTENSIONS
from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.csv_tables import read_csv, read_number, read_whole_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass, read_species
from rfcx_tf.labels.complete import Complete, complete_lines, complete_species
from rfcx_tf.labels.kaggle_tfrec import TfrecRecord, index_tfrec

TABLES = {True: "train_tp.csv", False: "train_fp.csv"}
BOX = ("t_min", "t_max", "f_min", "f_max")
# Of `TABLES`, in the order of the competition's.
LABEL_HEADER = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
_COLUMNS = ("recording_id", "species_id", "songtype_id", *BOX, "present", "source")

# Order of the fields in the competition's label_info.
_LABEL_INFO = ("species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max", "is_tp")


@dataclass(frozen=True)
class Annotations:
    """Everything that a data folder says.

    Attributes:
        rows: one row a box: recording_id (str), species_id, songtype_id (int, 1 where not
            given), t_min, t_max (s), f_min, f_max (Hz), present (bool: True TP, False FP),
            source (str: where the row stands, file:line).
        classes: all species that the folder names, in order of species_id.
        recordings: recording_id -> audio, for all recordings found.
        missing: recordings that rows or complete.csv name and that were not found, sorted.
        left_out, notes: of the search for recordings, see `audio.find.Recordings`.
        complete: species of which all calls in a recording are marked, see `labels.complete`; only
            of recordings that were found.
    """

    rows: pd.DataFrame
    classes: list[SpeciesClass]
    recordings: dict[str, AudioSource]
    missing: list[str]
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    complete: Complete = field(default_factory=dict)

    @cached_property
    def used_rows(self) -> pd.DataFrame:
        """The rows whose recording is there, numbered anew."""
        return self.rows[self.rows["recording_id"].isin(self.recordings)].reset_index(drop=True)

    @property
    def counts(self) -> dict[str, int]:
        """Rows whose recording is there (used_tp, used_fp) and is not (skipped_tp, skipped_fp)."""
        used, present = self.rows["recording_id"].isin(self.recordings), self.rows["present"]
        return {
            "used_tp": int((used & present).sum()),
            "used_fp": int((used & ~present).sum()),
            "skipped_tp": int((~used & present).sum()),
            "skipped_fp": int((~used & ~present).sum()),
        }

    @property
    def untrained_classes(self) -> list[SpeciesClass]:
        """Classes without a TP row whose recording is there: nothing can be learned of them."""
        trained = set(self.used_rows.loc[self.used_rows["present"], "species_id"])
        return [c for c in self.classes if c.species_id not in trained]


class RawRow(NamedTuple):
    """A row as it stands: where, TP or FP, and its cells by column."""

    source: str
    present: bool
    cells: dict[str, str]


def read_kaggle_folder(data_dir: str | Path) -> Annotations:
    """Reads a data folder in the competition's layout, complete or partly downloaded.

    Rows come from train_tp.csv and train_fp.csv (which may be absent). Without train_tp.csv
    they come from the label_info of the TFRecord files, if those are what holds the audio.
    A box may reach beyond the end of its recording; that shows only when the audio is decoded.

    The competition's tables hold no row twice, so a repeated row, and a box that is TP and FP
    of one species and songtype, are refused: one of the two must be a mistake.

    Raises:
        UserError: naming file and line of the first problem and the number of further ones.
    """
    annotations, problems = survey_kaggle_folder(data_dir)
    raise_first([problem.text for problem in problems])
    rows, named = annotations.rows, set(annotations.rows["recording_id"])
    if not rows["present"].any():
        table = Path(data_dir) / TABLES[True]
        where = table if table.exists() else data_dir
        raise UserError(f"Training needs positive (TP) rows. There are none in {where}.")
    if named <= set(annotations.missing):
        raise UserError(
            f"None of the {len(named)} recordings in the rows is among the "
            f"{len(annotations.recordings)} found in {data_dir}. The first row names "
            f"{rows.recording_id[0]}."
        )
    return annotations


def survey_kaggle_folder(data_dir: str | Path) -> tuple[Annotations, list[RowProblem]]:
    """What a data folder says as far as it can be read, and what is wrong with its rows.

    Raises:
        UserError: if there is no such folder, no table of rows or no recording, or a table cannot
            be read.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"The data must be a folder. Not found: {data_dir}.")
    has_tables = (data_dir / TABLES[True]).exists()
    raw = raw_rows(data_dir) if has_tables else []
    complete = complete_lines(data_dir)
    named = {row.cells["recording_id"] for row in raw} | {line.recording_id for line in complete}
    found = folder_recordings(data_dir / "train", named | set(map(_without_extension, named)))
    raw = [
        row._replace(cells=row.cells | {"recording_id": _id_of(row.cells["recording_id"], found)})
        for row in raw
    ]
    complete = [line._replace(recording_id=_id_of(line.recording_id, found)) for line in complete]
    recordings, records = {id_: AudioSource(path) for id_, path in found.items()}, []
    if not found:
        recordings, records = _tfrec_audio(data_dir)
    if not has_tables:
        if not any(record.label_info for record in records):
            raise UserError(
                f"A data folder needs train_tp.csv, with the columns {','.join(LABEL_HEADER)} "
                f"(seconds and Hz). Not found in {data_dir}. Boxes drawn in Raven or Audacity "
                "become one: rfcx-tf import-annotations."
            )
        raw = [row for record in records for row in _label_info_rows(record)]
    rows, problems = check_rows(raw)
    missing = sorted(set(rows["recording_id"]) - recordings.keys())
    classes = species_classes(data_dir, rows)
    of_recordings = complete_species(complete, classes)
    missing = sorted({*missing, *of_recordings.keys() - recordings.keys()})
    of_recordings = {name: ids for name, ids in of_recordings.items() if name in recordings}
    survey = Annotations(
        rows, classes, recordings, missing, found.left_out, found.notes, of_recordings
    )
    return survey, problems


def mean_box_s(rows: pd.DataFrame) -> dict[int, float]:
    """Mean length of the TP boxes in seconds, by species_id."""
    tp = rows[rows["present"]]
    means = (tp["t_max"] - tp["t_min"]).groupby(tp["species_id"]).mean()
    return {int(species_id): float(mean_s) for species_id, mean_s in means.items()}


def box_hz(rows: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """Median f_min and f_max of the TP boxes in Hz, by species_id.

    Medians, since a few boxes drawn over the whole band would widen a mean for all.
    """
    medians = rows[rows["present"]].groupby("species_id")[["f_min", "f_max"]].median()
    return {row.Index: (float(row.f_min), float(row.f_max)) for row in medians.itertuples()}


def _id_of(name: str, recordings: Container[str]) -> str:
    """The id of a recording, which may be called by its file's name with extension."""
    without = _without_extension(name)
    return without if name not in recordings and without in recordings else name


def _without_extension(name: str) -> str:
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending.lower() in AUDIO_EXTENSIONS else name


def _tfrec_audio(data_dir: Path) -> tuple[dict[str, AudioSource], list[TfrecRecord]]:
    """Recordings by id in the TFRecord files of a folder, and all that the files say of them."""
    tfrecs = sorted((data_dir / "tfrecords" / "train").glob("*.tfrec"))
    records = [record for path in tfrecs for record in index_tfrec(path)]
    if not records:
        raise UserError(
            f"A data folder needs recordings. {data_dir} has neither sound files in train/ "
            "nor .tfrec files in tfrecords/train/."
        )
    recordings: dict[str, AudioSource] = {}
    for record in records:
        other = recordings.setdefault(record.recording_id, record.audio)
        if other is not record.audio:
            raise UserError(
                f"A recording must be in the TFRecord files once. Found {record.recording_id} "
                f"in {other} and in {record.audio}."
            )
    return recordings, records


def raw_rows(data_dir: Path) -> list[RawRow]:
    """The rows of `TABLES` in a folder, as far as it has them; only their columns are checked."""
    return [
        RawRow(place, present, cells)
        for present, name in TABLES.items()
        if (data_dir / name).exists()
        for place, cells in read_csv(
            data_dir / name, ("recording_id", "species_id", *BOX), numbers=BOX
        ).rows
    ]


def _label_info_rows(record: TfrecRecord) -> Iterator[RawRow]:
    """The rows of `"species,songtype,t_min,f_min,t_max,f_max,is_tp;..."`, quotes included."""
    text = record.label_info.strip().strip('"')
    for number, row in enumerate(filter(None, text.split(";")), start=1):
        source = f"{record.audio.path}:{record.recording_id}:{number}"
        values = [value.strip() for value in row.split(",")]
        if len(values) != len(_LABEL_INFO) or values[-1] not in ("0", "1"):
            raise UserError(
                f"{source}: a row of label_info must be {','.join(_LABEL_INFO)}. Received: {row!r}."
            )
        cells = dict(zip(_LABEL_INFO, values, strict=True), recording_id=record.recording_id)
        yield RawRow(source, values[-1] == "1", cells)


class RowProblem(NamedTuple):
    """What is wrong with a row, or with two together, and where they stand."""

    text: str
    sources: tuple[str, ...]


def checked_table(raw_rows: Iterable[RawRow]) -> pd.DataFrame:
    """The rows as a table (`Annotations.rows`); UserError as in `read_kaggle_folder`."""
    table, problems = check_rows(raw_rows)
    raise_first([problem.text for problem in problems])
    return table


def raise_first(problems: Sequence[str]) -> None:
    """Raises a UserError of the first problem and the number of the others, if there is any."""
    if problems:
        more = len(problems) - 1
        raise UserError(problems[0] + (f" (and {more} more)" if more else ""))


def check_rows(raw_rows: Iterable[RawRow]) -> tuple[pd.DataFrame, list[RowProblem]]:
    """The rows as a table (`Annotations.rows`), and what is wrong with some of them."""
    rows, problems = [], []
    first_seen: dict[tuple, RawRow] = {}
    for raw in raw_rows:
        try:
            row = _parse_row(raw.source, raw.cells)
        except UserError as error:
            problems.append(RowProblem(str(error), (raw.source,)))
            continue
        first = first_seen.setdefault(tuple(row.values()), raw)
        if first.present != raw.present:
            tp, fp = (first, raw) if first.present else (raw, first)
            text = (
                f"{raw.source}: a box must not be both TP and FP of one species and songtype. "
                f"Found as TP at {tp.source}, as FP at {fp.source}; remove one."
            )
            problems.append(RowProblem(text, (tp.source, fp.source)))
        elif first is not raw:
            text = f"{raw.source}: a row must not occur twice. It repeats {first.source}."
            problems.append(RowProblem(text, (raw.source,)))
        rows.append({**row, "present": raw.present, "source": raw.source})
    types = {"species_id": int, "songtype_id": int, "present": bool} | dict.fromkeys(BOX, float)
    return pd.DataFrame(rows, columns=_COLUMNS).astype(types), problems


def _parse_row(place: str, cells: dict[str, str]) -> dict[str, str | int | float]:
    """The checked values of a row, but for its verdict."""
    if not cells["recording_id"]:
        raise UserError(f"{place}: recording_id must not be empty.")
    species_id = read_whole_number(place, "species_id", cells["species_id"])
    songtype_id = read_whole_number(place, "songtype_id", cells.get("songtype_id") or "1")
    ids = {"species_id": species_id, "songtype_id": songtype_id}
    return {"recording_id": cells["recording_id"], **ids, **read_box(place, cells)}


def read_box(place: str, cells: Mapping[str, str]) -> dict[str, float]:
    """The columns `BOX` as numbers; UserError for a box that begins before 0 or has no size."""
    box = {column: read_number(place, column, cells[column]) for column in BOX}
    for low, high in (("t_min", "t_max"), ("f_min", "f_max")):
        if box[low] < 0:
            raise UserError(f"{place}: {low} must not be negative. Received: {box[low]:g}.")
        if box[high] <= box[low]:
            raise UserError(
                f"{place}: {high} must be greater than {low}. "
                f"Received: {low}={box[low]:g}, {high}={box[high]:g}."
            )
    return box


def species_classes(data_dir: Path, rows: pd.DataFrame) -> list[SpeciesClass]:
    """Every species in rows, species.csv and sample_submission.csv, in order of species_id."""
    ids = {int(species_id) for species_id in rows["species_id"].unique()}
    submission, names = data_dir / "sample_submission.csv", data_dir / "species.csv"
    if submission.exists():
        columns = (re.fullmatch(r"s(\d+)", column) for column in read_csv(submission).header)
        ids |= {int(match[1]) for match in columns if match}
    classes = {id_: SpeciesClass(id_, f"s{id_}") for id_ in ids}
    if names.exists():
        classes |= {species.species_id: species for species in read_species(names)}
    return [classes[id_] for id_ in sorted(classes)]
