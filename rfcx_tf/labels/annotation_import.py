"""Annotation tables -> a data folder in the competition's layout, for `read_kaggle_folder`.

Rows are added to train_tp.csv and train_fp.csv and species to species.csv; what is in these
files stays as it is. Importing the same tables twice changes nothing.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import open_recording
from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.csv_tables import read_csv
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.species import SpeciesClass, species_name_column
from rfcx_tf.labels.annotation_tables import read_table
from rfcx_tf.labels.annotations import BOX, TABLES, RawRow, checked_table, raw_rows, species_classes
from rfcx_tf.labels.marks import Mark, TableColumns, recording_of_table, seconds_text

LABEL_HEADER = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        added_tp, added_fp: rows that were added.
        repeated: rows that were there already, or stood twice in the tables.
        unjudged: rows with an empty verdict, which were left out.
        empty_tables: tables without a row.
        new_classes: species that the folder did not know.
        missing: recordings of the tables that are not in train/, sorted.
    """

    added_tp: int
    added_fp: int
    repeated: int
    unjudged: int
    empty_tables: int
    new_classes: list[SpeciesClass]
    missing: list[str]


def import_annotations(
    tables: Sequence[Path],
    data_dir: str | Path,
    columns: TableColumns | None = None,
    empty_means: str | None = None,
) -> Imported:
    """Adds the marks of annotation tables to a data folder.

    A species is one that the folder knows by name (in any case of letters) or as `s<id>`; others
    get new ids in the order of their names. A box without a frequency bound reaches to that end
    of its recording's band.

    Args:
        tables: files, in one of `annotation_tables.FORMATS`.
        data_dir: the folder; recordings are looked for in its train/.
        columns: how the tables say what was heard.
        empty_means: what a table without rows says: `absent`, that every species was searched
            for and is not there (an FP row over the whole recording for each), or `unknown`.

    Raises:
        UserError: naming file and line, for tables or files of the folder that cannot be
            used, a box that is TP and FP, an empty table where `empty_means` does not say what it
            means, or a recording that must be known and is not in train/. Nothing is written.
    """
    columns = columns or TableColumns()
    folder = FolderLabels.read(data_dir)
    marks_of = {path: read_table(path, columns) for path in tables}
    marks = [mark for own in marks_of.values() for mark in own]
    judged = [mark for mark in marks if mark.present is not None]
    empty = {
        path: recording_of_table(path, columns.folders) for path, own in marks_of.items() if not own
    }
    if empty and empty_means is None:
        raise UserError(
            "A table without rows means that nothing is there, or that nobody looked. "
            f"{next(iter(empty))} is empty. Say which: --empty-means absent or --empty-means "
            "unknown."
        )
    new_classes = _new_classes(folder.classes, judged)
    classes = sorted(folder.classes + new_classes, key=lambda c: c.species_id)
    ids = ids_by_name(classes)
    named = {mark.recording_id for mark in marks} | set(empty.values())
    train = folder.data_dir / "train"
    recordings = folder_recordings(train, named | set(folder.rows["recording_id"]))

    def sound_info(recording_id: str, source: str, why: str):
        if recording_id not in recordings:
            raise UserError(
                f"{source}: {why}, so its recording must be there. Not found in {train}: "
                f"{recording_id}."
            )
        with open_recording(recordings[recording_id]) as sound:
            return sound

    if empty_means == "absent":
        for path, name in empty.items():
            info = sound_info(name, str(path), "an empty table means absent")
            end = seconds_text(info.frames / info.rate_hz)
            judged += [Mark(str(path), name, c.name, False, "0", end) for c in classes]
    rows = []
    for mark in judged:
        high = mark.f_max
        if not high:
            why = "the box has no upper frequency"
            high = f"{sound_info(mark.recording_id, mark.source, why).rate_hz / 2:g}"
        box = (mark.t_min, mark.f_min or "0", mark.t_max, high)
        values = (mark.recording_id, str(ids[name_key(mark.species)]), "1", *box)
        cells = dict(zip(LABEL_HEADER, values, strict=True))
        rows.append(RawRow(mark.source, mark.present, cells))
    new_rows, repeated = folder.not_there_yet(rows)
    if empty_means == "absent":
        _check_absent(checked_table([*folder.raw, *new_rows]), empty)
    folder.add(new_rows, new_classes)
    added_tp = sum(row.present for row in new_rows)
    return Imported(
        added_tp=added_tp,
        added_fp=len(new_rows) - added_tp,
        repeated=repeated,
        unjudged=sum(mark.present is None for mark in marks),
        empty_tables=len(empty),
        new_classes=new_classes,
        missing=sorted(named - recordings.keys()),
    )


@dataclass(frozen=True)
class FolderLabels:
    """What train_tp.csv, train_fp.csv and the species' files of a data folder say.

    Attributes:
        data_dir: the folder.
        raw: the rows as they stand; none where neither file is there yet.
        rows: the same, checked, see `annotations.Annotations`.
        classes: the species that the folder knows, in order of species_id.
    """

    data_dir: Path
    raw: list[RawRow]
    rows: pd.DataFrame
    classes: list[SpeciesClass]

    @classmethod
    def read(cls, data_dir: str | Path) -> FolderLabels:
        """Reads a folder to which rows are to be added.

        Raises:
            UserError: if there is no such folder, its files cannot be used, or its rows are in
                TFRecord files, which new ones in train_tp.csv would hide.
        """
        data_dir = Path(data_dir)
        if not data_dir.is_dir():
            raise UserError(f"The data must be a folder. Not found: {data_dir}.")
        has_tfrecords = any(data_dir.glob("tfrecords/train/*.tfrec"))
        if has_tfrecords and not (data_dir / TABLES[True]).exists():
            raise UserError(
                "Rows are added to train_tp.csv, which would hide the rows in the TFRecord files "
                f"of {data_dir}. Put train_tp.csv and train_fp.csv there first."
            )
        raw = raw_rows(data_dir)
        rows = checked_table(raw)
        return cls(data_dir, raw, rows, species_classes(data_dir, rows))

    def not_there_yet(self, rows: Sequence[RawRow]) -> tuple[list[RawRow], int]:
        """Those of these rows that the folder does not have, each once, and how many others.

        Raises:
            UserError: naming the place of the first row that is wrong or contradicts another.
        """
        names = ["recording_id", "species_id", "songtype_id", *BOX]
        seen = set(self.rows[[*names, "present"]].itertuples(index=False, name=None))
        new = []
        for row in rows:
            try:
                numbers = [float(row.cells[name]) for name in names[1:]]
            except ValueError:
                # `checked_table` says what is wrong with it.
                new.append(row)
                continue
            key = (row.cells["recording_id"], *numbers, row.present)
            if key not in seen:
                seen.add(key)
                new.append(row)
        checked_table([*self.raw, *new])
        return new, len(rows) - len(new)

    def add(self, rows: Sequence[RawRow], new_classes: Sequence[SpeciesClass]) -> None:
        """Writes rows (`not_there_yet`) and species behind those that are there.

        Every file is written whole or not at all; where a stop left some of them without
        their part, the same call after `read` again adds it.
        """
        _add_species(self.data_dir / "species.csv", self.classes, list(new_classes))
        for present, name in TABLES.items():
            own = [row.cells for row in rows if row.present == present]
            _add_lines(self.data_dir / name, LABEL_HEADER, own)


def name_key(name: str) -> str:
    """A species' name without what does not tell it from another: case and spaces."""
    return " ".join(name.split()).casefold()


def ids_by_name(classes: Iterable[SpeciesClass]) -> dict[str, int]:
    """species_id by `name_key` of the name and of the column name `s<id>`."""
    ids: dict[str, int] = {}
    for species in classes:
        other = ids.setdefault(name_key(species.name), species.species_id)
        if other != species.species_id:
            raise UserError(
                f"Species must differ in their names. {species.name} is {other} and "
                f"{species.species_id}; rename one in species.csv."
            )
    return {f"s{c.species_id}": c.species_id for c in classes} | ids


def _new_classes(known: list[SpeciesClass], marks: Iterable[Mark]) -> list[SpeciesClass]:
    """Species of the marks that the folder does not know, with ids in the order of names."""
    ids = ids_by_name(known)
    unknown: dict[str, str] = {}
    for name in sorted({" ".join(mark.species.split()) for mark in marks}):
        if name_key(name) not in ids:
            unknown.setdefault(name_key(name), name)
    taken = set(ids.values())
    # A run without names calls its species s3; the number is then the id.
    numbered = {
        key: int(match[1])
        for key in unknown
        if (match := re.fullmatch(r"s(0|[1-9]\d{0,8})", key)) and int(match[1]) not in taken
    }
    following = itertools.count(max(taken | set(numbered.values()), default=-1) + 1)
    return [
        SpeciesClass(numbered[key] if key in numbered else next(following), name)
        for key, name in unknown.items()
    ]


def _check_absent(rows: pd.DataFrame, empty: Mapping[Path, str]) -> None:
    """Refuses a table that says absent of a recording in which something was heard."""
    tp = rows[rows["present"]].set_index("recording_id")["source"]
    for path, name in empty.items():
        if name in tp.index:
            source = tp.loc[[name]].iloc[0]
            raise UserError(
                f"{path}: an empty table says that nothing is in {name}. {source} has a TP row of "
                "it; remove one of the two."
            )


def _add_species(path: Path, known: list[SpeciesClass], new: list[SpeciesClass]) -> None:
    header, column, added = ["species_id", "name"], "name", new
    if path.exists():
        header = read_csv(path).header
        column = species_name_column(header)
    else:
        added = sorted(known + new, key=lambda c: c.species_id)
    if added and column is None:
        raise UserError(
            f"{path}: species.csv must have a column for names. Received: {', '.join(header)}."
        )
    _add_lines(path, header, [{"species_id": str(c.species_id), column: c.name} for c in added])


def _add_lines(path: Path, header: list[str], rows: Sequence[dict[str, str]]) -> None:
    """Adds rows to a CSV file in the order of its own columns; a new one gets this header."""
    before = ""
    if path.exists():
        if not rows:
            return
        # As it is, line ends included.
        before = path.read_bytes().decode("utf-8")
        header = read_csv(path).header
        if not before.endswith("\n"):
            before += "\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore", lineterminator="\n")
    if not before:
        writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, before + text.getvalue())
