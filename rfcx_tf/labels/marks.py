"""A mark: one box in a recording and its species. Readers of annotation tables give marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.audio.decoders import AUDIO_EXTENSIONS
from rfcx_tf.core.errors import UserError

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
    """

    source: str
    recording_id: str
    species: str
    present: bool | None
    t_min: str
    t_max: str
    f_min: str = ""
    f_max: str = ""


@dataclass(frozen=True)
class TableColumns:
    """How the tables say what was heard, and where.

    Attributes:
        species: Raven's column with the species; None: `Species`, or else `Annotation`.
        verdict: Raven's column with the verdict; None: `Verdict`, which a table may lack.
        only_species: species of all marks, where the tables do not say it.
        folders: folders of the tables, if the path of a table below them is the id of its
            recording. Empty: recordings are called by their names.
    """

    species: str | None = None
    verdict: str | None = None
    only_species: str | None = None
    folders: Sequence[Path] = ()


def table_lines(path: Path) -> list[tuple[str, str]]:
    """Place and text of the lines of a table that are not blank; maybe none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a text file in UTF-8: {error}.") from None
    lines = enumerate(text.split("\n"), start=1)
    return [(f"{path}:{number}", line) for number, line in lines if line.strip()]


def recording_of_table(path: str | Path, folders: Sequence[Path] = ()) -> str:
    """The recording that a table is for by its name: rec1 of rec1.Table.1.selections.txt.

    The path of the table below one of the folders belongs to the name: site1/rec1.
    """
    path = Path(path)
    stem = _TABLE_ENDING.sub("", path.stem)
    name = Path(stem).stem if Path(stem).suffix.lower() in AUDIO_EXTENSIONS else stem
    for folder in folders:
        if path.is_relative_to(folder) and path != folder:
            return (path.relative_to(folder).parent / name).as_posix()
    return name


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
