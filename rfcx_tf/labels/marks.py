"""A mark: one box in a recording and its species. Readers of annotation tables give marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.audio.decoders import AUDIO_EXTENSIONS
from rfcx_tf.core.csv_tables import read_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.names import one_form, readable

# What Raven, BirdNET and this project put behind the recording's name.
_TABLE_ENDING = re.compile(
    r"(\.Table\.\d+)?\.selections?$|\.BirdNET\.selection\.table$|\.BirdNET\.results$", re.IGNORECASE
)
_PRESENT = frozenset({"tp", "true", "yes", "y", "1", "present", "correct"})
_ABSENT = frozenset({"fp", "false", "no", "n", "0", "absent", "wrong"})
_UNSURE = frozenset({"unsure", "?", "maybe", "unknown"})


class Mark(NamedTuple):
    """One annotated box.

    Attributes:
        source: where it stands, file:line.
        recording_id: name of its recording.
        species: name of the species.
        present: True TP, False FP, None where nobody has judged it or whoever did was unsure.
        t_min, t_max: text, seconds in the recording.
        f_min, f_max: text, Hz; empty where the box is not bounded.
        confidence: from 0 to 1, of the detector that made it; None: a person did.
        folder: of its sound file, where the table names it; on the annotator's machine.
    """

    source: str
    recording_id: str
    species: str
    present: bool | None
    t_min: str
    t_max: str
    f_min: str = ""
    f_max: str = ""
    confidence: float | None = None
    folder: str = ""


class TableMarks(NamedTuple):
    """What was read of a table.

    Attributes:
        marks: of all rows that can be used.
        problems: what is wrong with each of the others, by file and line.
        detector: what shows that a detector made the table and nobody has judged it, or empty.
        notes: how it was read, where that may be wrong.
        in_doubt: why its times may run on over several recordings; empty where they do not.
    """

    marks: list[Mark]
    problems: list[str]
    detector: str = ""
    notes: Sequence[str] = ()
    in_doubt: str = ""


@dataclass(frozen=True)
class TableColumns:
    """How the tables say what was heard, and where.

    Attributes:
        species: Raven's column with the species; None: `Species`, or else `Annotation`, or else
            BirdNET's `Common Name`.
        verdict: Raven's column with the verdict; None: `Verdict`, which a table may lack.
        only_species: species of all marks, where the tables do not say it.
        folders: folders of the tables, if the path of a table below them is the id of its
            recording. Empty: recordings are called by their names.
    """

    species: str | None = None
    verdict: str | None = None
    only_species: str | None = None
    folders: Sequence[Path] = ()


def table_lines(path: Path, text: str) -> list[tuple[str, str]]:
    """Place and text of the lines of a table that are not blank; maybe none."""
    lines = enumerate(text.split("\n"), start=1)
    return [(f"{path}:{number}", line) for number, line in lines if line.strip()]


def read_confidence(place: str, text: str) -> float:
    """What a detector says of a row; UserError if it is not a number from 0 to 1."""
    value = read_number(place, "Confidence", text)
    if not 0 <= value <= 1:
        raise UserError(f"{place}: Confidence must be from 0 to 1. Received: {text}.")
    return value


def recording_of_table(path: str | Path, folders: Sequence[Path] = ()) -> str:
    """The recording that a table is for by its name: rec1 of rec1.Table.1.selections.txt.

    The path of the table below one of the folders belongs to the name: site1/rec1.
    """
    path = Path(path)
    stem = _TABLE_ENDING.sub("", path.stem)
    name = Path(stem).stem if Path(stem).suffix.lower() in AUDIO_EXTENSIONS else stem
    for folder in folders:
        if path.is_relative_to(folder) and path != folder:
            name = (path.relative_to(folder).parent / name).as_posix()
            break
    return one_form(readable(name))


def read_verdict(source: str, text: str) -> bool | None:
    """What a verdict says: True present (TP), False absent (FP), None unsure or not judged.

    Raises:
        UserError: naming `source`, if it is none of the known words, in any case of letters.
    """
    word = text.strip().lower()
    if not word or word in _UNSURE:
        return None
    if word in _PRESENT or word in _ABSENT:
        return word in _PRESENT
    raise UserError(
        f"{source}: a verdict must be TP (or {', '.join(sorted(_PRESENT - {'tp'}))}), "
        f"FP (or {', '.join(sorted(_ABSENT - {'fp'}))}), unsure, or empty. Received: {text!r}."
    )


def seconds_text(seconds: float) -> str:
    """Seconds to the microsecond, without the digits that a sum of floats leaves."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
