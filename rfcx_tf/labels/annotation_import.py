"""Annotation tables -> rows of a data folder in the competition's layout.

Importing the same tables twice changes nothing. What can be used is, and the rest is listed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.audio.decode import AudioError, duration_s, open_recording
from rfcx_tf.audio.find import folder_recordings
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_folder
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.labels.annotation_tables import read_table
from rfcx_tf.labels.annotations import LABEL_HEADER, RawRow, checked_table, raise_first, read_box
from rfcx_tf.labels.complete import note_of_new_classes, why_not_complete
from rfcx_tf.labels.folder_labels import (
    FolderLabels,
    check_data_folder,
    ids_by_name,
    name_key,
)
from rfcx_tf.labels.marks import (
    Mark,
    TableColumns,
    TableMarks,
    recording_of_table,
    seconds_text,
)


class Detection(NamedTuple):
    """A row of a detector that nobody has judged, with its species and, where known, its file."""

    mark: Mark
    species: SpeciesClass
    file: Path | None


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        added_tp, added_fp: rows that were added.
        repeated: rows that were there already, or stood twice in the tables.
        unjudged: rows with an empty verdict, which were left out.
        empty_tables: tables without a row.
        rows: the rows that were added.
        new_classes: species that the folder did not know.
        recordings: paths of the recordings that were found, by id.
        missing: recordings of the tables that are not in train/, sorted.
        left_out: a line for every row, table and place that could not be used.
        notes: what else a user should know of how tables and recordings were read.
        detections: rows of detectors, by recording and time; they become no rows.
        complete: recordings that are annotated completely and were not noted as such yet, sorted.
        complete_species: the one species of which they are; None: of all.
    """

    added_tp: int
    added_fp: int
    repeated: int
    unjudged: int
    empty_tables: int
    rows: list[RawRow]
    new_classes: list[SpeciesClass]
    recordings: Mapping[str, Path]
    missing: list[str]
    left_out: list[str]
    notes: list[str]
    detections: list[Detection]
    complete: list[str]
    complete_species: int | None


def import_annotations(
    tables: Sequence[Path],
    data_dir: str | Path,
    columns: TableColumns | None = None,
    empty_means: str | None = None,
    *,
    same_names: bool = False,
    complete: bool = False,
) -> Imported:
    """Adds the marks of annotation tables to a data folder, and says which it could not use.

    A species is one that the folder knows by name (in any case of letters) or as `s<id>`; others
    get new ids in the order of their names. A box without a frequency bound reaches to that end
    of its recording's band.

    Args:
        tables: files, in one of `annotation_tables.FORMATS`.
        data_dir: the folder; recordings are looked for in its train/.
        columns: how the tables say what was heard.
        empty_means: what a table without rows says: `absent`, that every species was searched
            for and is not there (an FP row over the whole recording for each), or `unknown`.
        same_names: whether tables in several folders that name a recording alike mean one.
        complete: whether all calls in the recordings of the tables are marked, of the one species
            of `columns` or else of all. A table without rows then says that nothing calls, unless
            `empty_means` is `unknown`. Recordings of which a row is left out, or not judged by a
            person, are not complete.

    Raises:
        UserError: naming file and line, if nothing in the tables or files of the folder can be
            used, a recording may be two or be called by two ids, or another process writes to
            the folder. Nothing is written.
    """
    check_data_folder(data_dir)
    with lock_folder(data_dir, "import-annotations"):
        folder, columns = FolderLabels.read(data_dir), columns or TableColumns()
        if complete and columns.only_species:
            folder.check_can_be_complete_for_one()
        train = folder.data_dir / "train"
        imported = _import(tables, folder, train, columns, empty_means, same_names, complete)
        if imported.rows:
            folder.add(imported.rows, imported.new_classes)
        folder.add_complete(imported.complete, imported.complete_species)
        return imported


def read_annotations(
    tables: Sequence[Path],
    audio: str | Path,
    columns: TableColumns | None = None,
    empty_means: str | None = None,
    *,
    same_names: bool = False,
) -> Imported:
    """What `import_annotations` would add to an empty data folder; nothing is written.

    Args:
        tables, columns, empty_means, same_names: as of `import_annotations`.
        audio: the folder of the recordings.

    Raises:
        UserError: as `import_annotations`.
    """
    audio = Path(audio)
    if not audio.is_dir():
        raise UserError(f"The recordings must be in a folder. Not found: {audio}.")
    empty = FolderLabels(audio, [], checked_table([]), [], [])
    return _import(tables, empty, audio, columns or TableColumns(), empty_means, same_names, False)


def _import(
    tables: Sequence[Path],
    folder: FolderLabels,
    train: Path,
    columns: TableColumns,
    empty_means: str | None,
    same_names: bool,
    complete: bool,
) -> Imported:
    read, left_out = {}, []
    # Recordings of which something is left out.
    in_part: set[str] = set()
    for path in tables:
        try:
            read[path] = read_table(path, columns)
        except UserError as error:
            left_out.append(str(error))
        if path not in read or read[path].problems:
            in_part.add(recording_of_table(path, columns.folders))
            in_part.update(mark.recording_id for mark in (read[path].marks if path in read else ()))
    notes = [note for table in read.values() for note in table.notes]
    marks = [mark for table in read.values() for mark in table.marks]
    empty = {
        path: recording_of_table(path, columns.folders)
        for path, table in read.items()
        if not (table.marks or table.problems or table.detector)
    }
    if not same_names:
        _check_one_folder(read, empty)
    named = {mark.recording_id for mark in marks} | set(empty.values())
    recordings = folder_recordings(train, named | set(folder.rows["recording_id"]))
    _check_one_id(named, set(folder.rows["recording_id"]), recordings)
    for path, table in read.items():
        if table.in_doubt and not _are_in_their_files(table.marks, recordings):
            left_out.append(table.in_doubt)
            in_part.update(mark.recording_id for mark in table.marks)
            read[path] = table._replace(marks=[])
    marks = [mark for table in read.values() for mark in table.marks]
    left_out += recordings.left_out
    notes += recordings.notes
    left_out += [problem for table in read.values() for problem in table.problems]
    if empty and empty_means is None and not complete:
        left_out += [
            f"{path}: a table without rows means that nothing is there, or that nobody looked. "
            "Say which: --empty-means absent or --empty-means unknown."
            for path in empty
        ]

    def sound_info(recording_id: str, source: str, why: str):
        if recording_id not in recordings:
            raise UserError(
                f"{source}: {why}, so its recording must be there. Not found in {train}: "
                f"{recording_id}."
            )
        with open_recording(recordings[recording_id]) as sound:
            return sound

    def with_box(mark: Mark) -> Mark:
        """The mark with all bounds of its box; UserError where it is none."""
        high = mark.f_max
        if not high and mark.confidence is None:
            why = "the box has no upper frequency"
            high = f"{sound_info(mark.recording_id, mark.source, why).rate_hz / 2:g}"
        box = mark._replace(f_min=mark.f_min or "0", f_max=high)
        read_box(mark.source, box._replace(f_max=high or "1")._asdict())
        return box

    judged, detected = [], []
    for mark in marks:
        if mark.present is not None or mark.confidence is not None:
            try:
                (detected if mark.present is None else judged).append(with_box(mark))
            except UserError as error:
                left_out.append(str(error))
                in_part.add(mark.recording_id)
        if mark.present is None:
            in_part.add(mark.recording_id)
    new_classes = _new_classes(folder.classes, judged)
    classes = sorted(folder.classes + new_classes, key=lambda c: c.species_id)
    ids = ids_by_name(classes)
    # Without it, all species.
    only_id = ids.get(name_key(columns.only_species)) if columns.only_species else None
    if empty_means != "unknown" and (complete or empty_means):
        tp = _first_tp(folder, judged, only_id if complete else None)
        for path, name in empty.items():
            try:
                if name in tp:
                    in_part.add(name)
                    raise UserError(
                        f"{path}: an empty table says that nothing is in {name}. {tp[name]} has a "
                        "TP row of it; remove one of the two."
                    )
                if empty_means is None:
                    continue
                info = sound_info(name, str(path), "an empty table means absent")
                box = (seconds_text(info.frames / info.rate_hz), "0", f"{info.rate_hz / 2:g}")
                judged += [Mark(str(path), name, c.name, False, "0", *box) for c in classes]
            except UserError as error:
                left_out.append(str(error))
    rows = []
    for mark in judged:
        box = (mark.t_min, mark.f_min, mark.t_max, mark.f_max)
        values = (mark.recording_id, str(ids[name_key(mark.species)]), "1", *box)
        cells = dict(zip(LABEL_HEADER, values, strict=True))
        rows.append(RawRow(mark.source, mark.present, cells))
    new_rows, repeated, problems = folder.not_there_yet(rows)
    left_out += [problem.text for problem in problems]
    wrong = {source for problem in problems for source in problem.sources}
    in_part |= {row.cells["recording_id"] for row in rows if row.source in wrong}
    unjudged = sum(mark.present is None and mark.confidence is None for mark in marks)
    whole: set[str] = set()
    if complete and columns.only_species and only_id is None:
        left_out.append(
            "Recordings are noted as complete for a species of the folder. "
            f"{columns.only_species} has no row, and is not in species.csv of {folder.data_dir}. "
            "Name it there and import again."
        )
    elif complete:
        searched = named - set(empty.values()) if empty_means == "unknown" else named
        whole = searched - in_part
        left_out += why_not_complete(in_part & searched)
    explained = empty and empty_means == "unknown"
    if not (new_rows or repeated or unjudged or detected or explained or whole):
        raise_first(left_out)
    notes += note_of_new_classes(folder.data_dir, folder.complete, new_classes)
    added_tp = sum(row.present for row in new_rows)
    return Imported(
        added_tp=added_tp,
        added_fp=len(new_rows) - added_tp,
        repeated=repeated,
        unjudged=unjudged,
        empty_tables=len(empty),
        rows=new_rows,
        new_classes=new_classes,
        recordings=recordings,
        missing=sorted(named - recordings.keys()),
        left_out=left_out,
        notes=notes,
        detections=_detections(detected, classes, recordings),
        complete=folder.not_complete_yet(whole, only_id),
        complete_species=only_id,
    )


def _check_one_folder(read: Mapping[Path, TableMarks], empty: Mapping[Path, str]) -> None:
    """Refuses a name for what may be two recordings of two sites: their folders differ, or those
    of their tables where these do not say it.
    """
    first: dict[str, tuple[str, Path]] = {}
    for path, table in read.items():
        names = {(mark.recording_id, mark.folder) for mark in table.marks}
        names |= {(empty[path], "")} if path in empty else set()
        for name, folder in sorted(names):
            other_folder, other = first.setdefault(name, (folder, path))
            differ = other.parent != path.parent
            if folder and other_folder:
                differ = folder != other_folder
            # A path says which recording it is.
            if differ and "/" not in name:
                raise UserError(
                    f"Recordings must differ in their names. {other} and {path} are both of "
                    f"{name}. Say --recording-ids path if these are recordings of two sites, or "
                    "--recording-ids name if it is one."
                )


def _are_in_their_files(marks: Sequence[Mark], recordings: Mapping[str, Path]) -> bool:
    """Whether times cannot run on over the recordings of a table, so that they are those in them.

    If they ran on, every recording would have a stretch of its own, as long as it is.
    """
    spans: dict[str, list[float]] = {}
    for mark in marks:
        spans.setdefault(mark.recording_id, []).extend((float(mark.t_min), float(mark.t_max)))
    length_s = dict.fromkeys(spans, 0.0)
    for name in spans.keys() & recordings.keys():
        with suppress(AudioError):
            length_s[name] = duration_s(recordings[name])
    if any(length_s[name] and max(times) > length_s[name] + 1 for name, times in spans.items()):
        return False
    in_order = sorted(spans, key=lambda name: min(spans[name]))
    return any(
        min(spans[later]) < max(length_s[name], *spans[name])
        for name, later in itertools.pairwise(in_order)
    )


def _check_one_id(named: set[str], known: set[str], recordings: Mapping[str, Path]) -> None:
    """Refuses rows that call a recording by its path where others may call it by its name."""
    for ids, others in ((named, known), (known, named), (named, named)):
        for path in sorted(id_ for id_ in ids if "/" in id_):
            name = path.rpartition("/")[2]
            if name in others and name not in recordings:
                raise UserError(
                    f"Rows must call a recording by one id. Found {name} and {path}, which may be "
                    "the same. Say --recording-ids as before, or correct the rows."
                )


def _first_tp(
    folder: FolderLabels, judged: Iterable[Mark], species_id: int | None
) -> dict[str, str]:
    """Where the first TP row of every recording stands, in the tables or else in the folder.

    Args:
        folder: its labels.
        judged: marks of the tables.
        species_id: of all marks, and so of the rows that count; None: all rows count.
    """
    rows = folder.rows[folder.rows["present"]]
    if species_id is not None:
        rows = rows[rows["species_id"] == species_id]
    of_folder = dict(zip(rows["recording_id"][::-1], rows["source"][::-1], strict=True))
    return of_folder | {m.recording_id: m.source for m in reversed(list(judged)) if m.present}


def _detections(
    detected: Sequence[Mark], classes: list[SpeciesClass], recordings: Mapping[str, Path]
) -> list[Detection]:
    """Detections with the ids of their species; new ones follow those that the folder knows."""
    # BirdNET's name for nothing.
    detected = [mark for mark in detected if name_key(mark.species) != "nocall"]
    classes = classes + _new_classes(classes, detected)
    by_id = {species.species_id: species for species in classes}
    ids = ids_by_name(classes)
    found = [
        Detection(m, by_id[ids[name_key(m.species)]], recordings.get(m.recording_id))
        for m in detected
    ]
    return sorted(found, key=lambda d: (d.mark.recording_id, float(d.mark.t_min)))


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
