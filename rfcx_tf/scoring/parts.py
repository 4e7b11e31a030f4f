"""One prediction by many jobs that do not talk to each other: shares, and what each leaves.

scores.csv.parts/
  3-of-10/       results of the recordings of part 3 (`Journal`)
  3-of-10.json   there only when it has ended: its settings, recordings, and what failed

The id of a recording alone decides which part it is of, so that two parts never share one, whenever
each of them searched the folders. That all searched the same, with the same model and settings, is
seen when they are gathered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rfcx_tf.audio.find import Recordings
from rfcx_tf.core.documents import sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.lock import lock_file
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.journal import Journal
from rfcx_tf.scoring.predict import Predictions

_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")


class Part(NamedTuple):
    """Part `number` (from 1) of `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def has(self, recording_id: str) -> bool:
        """Whether a recording is of this part."""
        digest = hashlib.sha256(recording_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def journal(self, folder: Path) -> Path:
        """The folder of its results, below that of all parts."""
        return folder / str(self)

    def record(self, folder: Path) -> Path:
        """The file that says that it has ended."""
        return folder / f"{self}.json"


@dataclass(frozen=True)
class PartRecord:
    """What a part leaves beside its results.

    Attributes:
        number, of: which part it is.
        settings: what must be the same for all parts: values of the command, by option.
        model: fingerprint of what scored (`Journal.fingerprint`).
        card: of the model, as JSON text.
        searched: fingerprint of all recordings that were found, and their number `found`.
        recordings: paths of the part's own recordings, by id.
        failed: why some of them could not be scored, by id.
        left_out, notes: of everything that was searched, see `Recordings`.
    """

    number: int
    of: int
    settings: dict[str, Any]
    model: str
    card: str
    searched: str
    found: int
    recordings: dict[str, str]
    failed: dict[str, str]
    left_out: list[str]
    notes: list[str]


def parts_folder(out: Path) -> Path:
    """The folder of the parts, or of a single process's results, that belongs to a table."""
    return Path(f"{out.resolve()}.parts")


def found_parts(folder: Path) -> set[Part]:
    """The parts that have begun.

    Raises:
        UserError: if something else is in the folder, or they are of several divisions.
    """
    parts, others = set(), []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name.removesuffix(".json"))
        if match:
            parts.add(Part(int(match[1]), int(match[2])))
        elif not path.name.startswith("."):
            others.append(path.name)
    if others:
        raise UserError(
            f"Parts of a prediction are kept in {folder}. Found {min(others)} there, as of one "
            "without --part. Run that to its end, or remove the folder."
        )
    divisions = sorted({part.of for part in parts})
    if len(divisions) > 1:
        raise UserError(
            f"All parts must be of one division. Found parts of {divisions[0]} and of "
            f"{divisions[1]} in {folder}. Remove those of one of them."
        )
    return parts


def refuse_parts(folder: Path) -> None:
    """Raises UserError if parts are in the folder, where a single process would keep results."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    parts = [name for name in names if _NAME.fullmatch(name.removesuffix(".json"))]
    if parts:
        raise UserError(
            f"Results are kept in {folder} meanwhile. Parts of a prediction are there, as "
            f"{min(parts)}. Run rfcx-tf gather, or remove the folder."
        )


@contextmanager
def begin_part(folder: Path, part: Part) -> Iterator[None]:
    """Holds the lock of a part, which has not ended until `end_part`.

    Raises:
        UserError: if it runs already, or does not go with what is in the folder.
    """
    if {other.of for other in found_parts(folder)} - {part.of}:
        raise UserError(
            f"All parts must be of one division. Received: part {part.number} of {part.of}. "
            f"{folder} has parts of another number; remove it, or name another --out."
        )
    with lock_file(part.record(folder), "predict --part"):
        part.record(folder).unlink(missing_ok=True)
        yield


def end_part(
    folder: Path,
    part: Part,
    settings: Mapping[str, Any],
    recordings: Recordings,
    journal: Journal,
    card: ModelCard,
    predictions: Predictions,
) -> None:
    """Says that a part has ended.

    Args:
        folder: of all parts.
        part: which one.
        settings: what must be the same for all parts, as plain values.
        recordings: all that were found.
        journal: the part's.
        card: of the model.
        predictions: of the part.
    """
    record = PartRecord(
        *part,
        dict(settings),
        journal.fingerprint,
        card.to_json(),
        _fingerprint(recordings),
        len(recordings),
        {name: str(path) for name, path in recordings.items() if part.has(name)},
        predictions.failed,
        recordings.left_out,
        recordings.notes,
    )
    atomic_write_text(part.record(folder), sealed_json(asdict(record)))


def _fingerprint(recordings: Mapping[str, Path]) -> str:
    """Differs between lists of recordings, whatever their order."""
    listed = sorted([name, str(path)] for name, path in recordings.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
