"""A judged review.csv -> rows of train_tp.csv and train_fp.csv in a data folder.

TP: the species is in the box. FP: it is not in the box. Unsure: nothing is known, so there is no
row, as for an event that nobody has judged.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rfcx_tf.audio.decode import duration_s
from rfcx_tf.audio.find import folder_recordings, path_for_recording
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.lock import lock_folder
from rfcx_tf.core.names import has_control_characters
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.labels.annotations import RawRow, raise_first
from rfcx_tf.labels.folder_labels import (
    LABEL_HEADER,
    FolderLabels,
    check_data_folder,
    ids_by_name,
    name_key,
)
from rfcx_tf.labels.kaggle_tfrec import index_tfrec
from rfcx_tf.labels.marks import read_verdict
from rfcx_tf.review.sheet_rows import read_sheet

# Annotation tools round; make-tfrecords lets boxes end this late too.
_END_TOLERANCE_S = 0.1


@dataclass(frozen=True)
class Applied:
    """What became of a review.

    Attributes:
        added_tp, added_fp: rows that were added.
        repeated: rows that the folder had already.
        unsure, empty: rows that were left out.
        new_classes: species that the folder did not know.
        copied: recordings that were copied into train/.
        missing: recordings of judged rows that are not in the folder, with the file that the
            review names (empty where it names none).
        left_out: a line for everything in the folder that could not be searched for recordings.
    """

    added_tp: int
    added_fp: int
    repeated: int
    unsure: int
    empty: int
    new_classes: list[SpeciesClass]
    copied: list[str]
    missing: dict[str, str]
    left_out: list[str]


def apply_review(
    review: str | Path, data_dir: str | Path, *, copy_recordings: bool = False
) -> Applied:
    """Adds the judged rows of a review to a data folder; the same review again adds nothing.

    Args:
        review: the CSV file, as it was written or as a spreadsheet program saves it: separated
            by commas, semicolons or tabs; with semicolons and tabs also with decimal commas.
        data_dir: the folder.
        copy_recordings: whether recordings of judged rows that are not in the folder are copied
            into its train/.

    Raises:
        UserError: naming file and line of the first thing that cannot be used, or if no row
            is judged, another process writes to the folder or recordings cannot be copied. No row
            is written.
    """
    check_data_folder(data_dir)
    with lock_folder(data_dir, "review apply"):
        return _apply(Path(review), data_dir, copy_recordings)


def _apply(review: Path, data_dir: str | Path, copy_recordings: bool) -> Applied:
    folder = FolderLabels.read(data_dir)
    lines = _lines(review)
    verdicts = [(read_verdict(place, cells["verdict"]), place, cells) for place, cells in lines]
    judged = [RawRow(place, v, cells) for v, place, cells in verdicts if v is not None]
    for row in judged:
        _check_no_control_characters(row)
    empty = sum(not cells["verdict"] for _, cells in lines)
    unsure = len(lines) - len(judged) - empty
    if not judged and not unsure:
        raise UserError(
            f"A review must be judged before it is applied. {review} has {len(lines)} rows, and "
            "none has a word in the column verdict."
        )
    rows = [row._replace(cells={name: row.cells[name] for name in LABEL_HEADER}) for row in judged]
    new_rows, repeated, problems = folder.not_there_yet(rows)
    raise_first([problem.text for problem in problems])
    new_classes = _new_classes(folder, judged)
    named = {row.cells["recording_id"] for row in judged} | set(folder.rows["recording_id"])
    recordings = folder_recordings(folder.data_dir / "train", named)
    missing = _missing(folder, judged, recordings)
    if copy_recordings and missing:
        _check_can_be_copied(folder.data_dir, missing)
    folder.check_can_be_added_to()
    copied = []
    if copy_recordings:
        # First: a copy without its rows harms nothing, and the same command goes on from there.
        copied = [name for name, file in missing.items() if Path(file).is_file()]
        for name in copied:
            file = Path(missing.pop(name))
            copy = path_for_recording(folder.data_dir / "train", name, file.suffix)
            try:
                with atomic_file(copy) as temporary:
                    shutil.copyfile(file, temporary)
            except OSError as error:
                raise UserError(
                    f"Recordings are copied before rows are added. {file} could not be "
                    f"({error.strerror}), and no row was added. Make it readable and run the same "
                    "command again."
                ) from None
    folder.add(new_rows, new_classes)
    added_tp = sum(row.present for row in new_rows)
    added_fp = len(new_rows) - added_tp
    return Applied(
        *(added_tp, added_fp, repeated, unsure, empty, new_classes, copied, missing),
        recordings.left_out,
    )


def _lines(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Place and cells of every row; numbers with a decimal point."""
    return [
        (place, {"species": "", "file": ""} | cells | {"songtype_id": "1"})
        for place, cells in read_sheet(path).rows
    ]


def _check_no_control_characters(row: RawRow) -> None:
    """No file's name has them unless something went wrong, and many programs stop at them."""
    for column in ("recording_id", "species"):
        text = row.cells[column]
        if has_control_characters(text):
            raise UserError(
                f"{row.source}: {column} must not have control characters. Received: {text!r}. "
                "Correct the cell, or rename the recording or species."
            )


def _new_classes(folder: FolderLabels, judged: Iterable[RawRow]) -> list[SpeciesClass]:
    """Species that the folder does not know; UserError where a name and a number disagree."""
    known = {c.species_id: c for c in folder.classes}
    new: dict[int, SpeciesClass] = {}
    for row in judged:
        # Checked before: it is a whole number.
        species_id = int(float(row.cells["species_id"]))
        column, name = f"s{species_id}", " ".join(row.cells["species"].split())
        other = known.get(species_id) or new.get(species_id)
        if other is None:
            new[species_id] = SpeciesClass(species_id, name or column)
        # A run without names calls its species by their columns.
        elif len({name_key(name), name_key(other.name)} - {"", column}) > 1:
            raise UserError(
                f"{row.source}: species_id and species must say the same. {species_id} is "
                f"{other.name}. Received: {name}. Change one of the two."
            )
    ids_by_name(sorted([*folder.classes, *new.values()], key=lambda c: c.species_id))
    return [new[species_id] for species_id in sorted(new)]


def _missing(
    folder: FolderLabels, judged: Sequence[RawRow], paths: Mapping[str, Path]
) -> dict[str, str]:
    """Recordings of the rows that the folder lacks, with their files.

    Raises:
        UserError: for a box that ends behind its recording (a spreadsheet program may have made
            12345 out of 12.345), or a recording of the folder that only has the same name.
    """
    tfrecs = [] if paths else folder.data_dir.glob("tfrecords/train/*.tfrec")
    in_tfrecords = {record.recording_id for path in tfrecs for record in index_tfrec(path)}
    missing: dict[str, str] = {}
    durations_s: dict[str, float] = {}
    for row in judged:
        name, file = row.cells["recording_id"], row.cells["file"]
        if name not in paths and name not in in_tfrecords:
            missing[name] = file
        if name not in durations_s:
            found = [p for p in (paths.get(name), Path(file)) if p is not None and p.is_file()]
            lengths_s = [duration_s(path) for path in found]
            durations_s[name] = min(lengths_s, default=math.inf)
            if lengths_s and max(lengths_s) > min(lengths_s) + _END_TOLERANCE_S:
                raise UserError(
                    f"{row.source}: a recording's name must stand for one recording. {found[0]} "
                    f"has {lengths_s[0]:.3f} s, {found[1]} has {lengths_s[1]:.3f}. Rename one."
                )
        if float(row.cells["t_max"]) > durations_s[name] + _END_TOLERANCE_S:
            raise UserError(
                f"{row.source}: a box must lie in its recording. {name} has "
                f"{durations_s[name]:.3f} s. Received: t_max={row.cells['t_max']}; a spreadsheet "
                "program may have changed the number."
            )
    return dict(sorted(missing.items()))


def _check_can_be_copied(data_dir: Path, missing: dict[str, str]) -> None:
    if not folder_recordings(data_dir / "train", ()) and list(
        data_dir.glob("tfrecords/train/*.tfrec")
    ):
        raise UserError(
            f"Recordings in train/ would hide those in the TFRecord files of {data_dir}. Make a "
            "folder of its own for the new ones."
        )
    for name in missing:
        path_for_recording(data_dir / "train", name, "")
