"""Annotation tables -> rows of a data folder in the competition's layout.

Importing the same tables twice changes nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import open_recording
from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.labels.annotation_tables import read_table
from rfcx_tf.labels.annotations import RawRow, checked_table
from rfcx_tf.labels.folder_labels import LABEL_HEADER, FolderLabels, ids_by_name, name_key
from rfcx_tf.labels.marks import Mark, TableColumns, recording_of_table, seconds_text


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
