"""New rows and species -> behind the lines of train_tp.csv, train_fp.csv and species.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.csv_tables import read_csv, read_text
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.names import one_form
from rfcx_tf.core.species import SpeciesClass, species_name_column
from rfcx_tf.labels.annotations import (
    BOX,
    LABEL_HEADER,
    TABLES,
    RawRow,
    RowProblem,
    check_rows,
    checked_table,
    raw_rows,
    species_classes,
)
from rfcx_tf.labels.complete import (
    COMPLETE_HEADER,
    COMPLETE_TABLE,
    CompleteLine,
    complete_lines,
    complete_species,
)


@dataclass(frozen=True)
class FolderLabels:
    """What train_tp.csv, train_fp.csv and the species' files of a data folder say.

    Attributes:
        data_dir: the folder.
        raw: the rows as they stand; none where neither file is there yet.
        rows: the same, checked, see `annotations.Annotations`.
        classes: the species that the folder knows, in order of species_id.
        complete: the lines of complete.csv.
    """

    data_dir: Path
    raw: list[RawRow]
    rows: pd.DataFrame
    classes: list[SpeciesClass]
    complete: list[CompleteLine]

    @classmethod
    def read(cls, data_dir: str | Path) -> FolderLabels:
        """Reads a folder to which rows are to be added.

        Raises:
            UserError: if there is no such folder, it is the one of recordings, its files cannot
                be used, or its rows are in TFRecord files, which new ones in train_tp.csv would
                hide.
        """
        data_dir = Path(data_dir)
        check_data_folder(data_dir)
        _check_above_train(data_dir)
        has_tfrecords = any(data_dir.glob("tfrecords/train/*.tfrec"))
        if has_tfrecords and not (data_dir / TABLES[True]).exists():
            raise UserError(
                "Rows are added to train_tp.csv, which would hide the rows in the TFRecord files "
                f"of {data_dir}. Put train_tp.csv and train_fp.csv there first."
            )
        raw = raw_rows(data_dir)
        rows = checked_table(raw)
        classes, complete = species_classes(data_dir, rows), complete_lines(data_dir)
        complete_species(complete, classes)
        return cls(data_dir, raw, rows, classes, complete)

    def not_there_yet(self, rows: Sequence[RawRow]) -> tuple[list[RawRow], int, list[RowProblem]]:
        """The rows that the folder lacks, each once, the number of those that are there already,
        and what is wrong with the others: two that contradict each other are both in doubt.
        """
        names = ["recording_id", "species_id", "songtype_id", *BOX]
        seen = set(self.rows[[*names, "present"]].itertuples(index=False, name=None))
        new = []
        for row in rows:
            try:
                numbers = [float(row.cells[name]) for name in names[1:]]
            except ValueError:
                # `check_rows` says what is wrong with it.
                new.append(row)
                continue
            key = (row.cells["recording_id"], *numbers, row.present)
            if key not in seen:
                seen.add(key)
                new.append(row)
        _, problems = check_rows([*self.raw, *new])
        wrong = {source for problem in problems for source in problem.sources}
        good = [row for row in new if row.source not in wrong]
        return good, len(rows) - len(new), problems

    def check_can_be_added_to(self) -> None:
        """Raises UserError if a file cannot be added to as it is."""
        for name in (*TABLES.values(), "species.csv", COMPLETE_TABLE):
            _check_can_be_added_to(self.data_dir / name)

    def add(self, rows: Sequence[RawRow], new_classes: Sequence[SpeciesClass]) -> None:
        """Writes rows (`not_there_yet`) and species behind those that are there.

        Every file is written whole or not at all. After an interruption `read` and the same call
        add what is missing.

        Raises:
            UserError: if a file cannot be added to as it is; none is written then.
        """
        self.check_can_be_added_to()
        _add_species(self.data_dir / "species.csv", self.classes, list(new_classes))
        for present, name in TABLES.items():
            own = [row.cells for row in rows if row.present == present]
            _add_lines(self.data_dir / name, LABEL_HEADER, own)

    def check_can_be_complete_for_one(self) -> None:
        """Raises UserError if complete.csv has no column for the one species."""
        path = self.data_dir / COMPLETE_TABLE
        if path.exists() and COMPLETE_HEADER[1] not in read_csv(path).header:
            raise UserError(
                "Recordings that are complete for one species need the column species_id. "
                f"{path} has none. Add it; an empty cell says all species."
            )

    def not_complete_yet(self, recording_ids: Iterable[str], species_id: int | None) -> list[str]:
        """Those of the recordings that complete.csv does not name for a species (None: for all)."""
        there = {line.recording_id for line in self.complete if line.species_id is None}
        there |= {line.recording_id for line in self.complete if line.species_id == species_id}
        return sorted(set(recording_ids) - there)

    def add_complete(self, recording_ids: Sequence[str], species_id: int | None) -> None:
        """Notes recordings (`not_complete_yet`) as completely annotated, once rows are added.

        Args:
            recording_ids: in which all calls are marked.
            species_id: of this species; None: of all.
        """
        cell = "" if species_id is None else str(species_id)
        lines = [dict(zip(COMPLETE_HEADER, (name, cell), strict=True)) for name in recording_ids]
        if lines:
            _add_lines(self.data_dir / COMPLETE_TABLE, COMPLETE_HEADER, lines)


def name_key(name: str) -> str:
    """A species' name in one Unicode form, without case and with single spaces: names are compared
    by it.
    """
    return one_form(" ".join(one_form(name).split()).casefold())


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


def check_data_folder(data_dir: str | Path) -> None:
    """Raises UserError if there is no such folder."""
    if not Path(data_dir).is_dir():
        raise UserError(f"The data must be a folder. Not found: {data_dir}.")


def _check_above_train(data_dir: Path) -> None:
    """Refuses the folder of recordings itself in place of the one that holds it."""
    if (data_dir / "train").exists():
        return
    below = folder_recordings(data_dir, ()).values()
    if any(data_dir.resolve().name == "train" or path.parent == data_dir for path in below):
        raise UserError(
            "A data folder holds train/ with the recordings, and rows are written beside that. "
            f"{data_dir} holds recordings itself. Name the folder above it, in which it is train/."
        )


def _check_can_be_added_to(path: Path) -> None:
    """Lines are written behind those that are there, in UTF-8 and with commas."""
    if not path.exists():
        return
    text, encoding = read_text(path)
    header = next(filter(str.strip, text.split("\n")), "")
    if encoding != "utf-8" or max(",;\t", key=header.count) != ",":
        raise UserError(
            f"Rows are added to a CSV in UTF-8 with commas. {path} is in {encoding} and begins "
            f"{header[:40]!r}. Save it as CSV UTF-8 with commas and decimal points."
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
