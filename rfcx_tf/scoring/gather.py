"""Parts of one prediction that have ended -> all of it, as one process would have it."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfcx_tf.audio.decode import SoundRemark
from rfcx_tf.audio.find import Recordings
from rfcx_tf.core.documents import read_json
from rfcx_tf.core.errors import UserError, WorkStopped
from rfcx_tf.core.lock import lock_file
from rfcx_tf.core.storage import as_path
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.journal import read_result
from rfcx_tf.scoring.parts import Part, PartRecord, found_parts
from rfcx_tf.scoring.predict import Predictions, scores_table
from rfcx_tf.scoring.scorer import RecordingResult


@dataclass(frozen=True)
class Gathered:
    """All parts together, as one process would have them.

    Attributes:
        card: of the model.
        recordings: all of them.
        predictions: of these.
        results: gives those that were scored, in the order of the table of scores.
        to_repeat: numbers of the parts in which some failed, see `ranges`.
    """

    card: ModelCard
    recordings: Recordings
    predictions: Predictions
    results: Callable[[], Iterator[RecordingResult]]
    to_repeat: str


def read_parts(folder: Path) -> list[PartRecord]:
    """The records of all parts, in their order.

    Raises:
        WorkStopped: if some are missing, or have not found what others have.
        UserError: if there are none, or they are of several models, settings or divisions.
    """
    records = _read_records(folder)
    _check_same(records)
    return records


def gather(folder: Path, records: Sequence[PartRecord]) -> Gathered:
    """Puts parts together.

    Args:
        folder: of the parts.
        records: of `read_parts`.

    Raises:
        WorkStopped: if a result is not there.
    """
    paths = {name: path for record in records for name, path in record.recordings.items()}
    # As one process has them.
    in_order = sorted(paths, key=lambda name: as_path(paths[name]))
    recordings = Recordings(
        {name: as_path(paths[name]) for name in in_order}, records[0].left_out, records[0].notes
    )
    failed = {name: why for record in records for name, why in record.failed.items()}
    part_of = {
        name: Part(record.number, record.of) for record in records for name in record.recordings
    }
    scored = [name for name in in_order if name not in failed]
    rows: dict[str, np.ndarray] = {}
    remarks: dict[str, tuple[SoundRemark, ...]] = {}
    for name in scored:
        journal = part_of[name].journal(folder)
        result = read_result(journal, name)
        if result is None:
            raise WorkStopped(
                f"Every part must have a result of each of its recordings. Found none of {name} in "
                f"{journal}. Run part {part_of[name].number} again; what it has is kept."
            )
        rows[name] = result.scores
        if result.remarks:
            remarks[name] = result.remarks
    card = ModelCard.from_json(records[0].card)
    return Gathered(
        card,
        recordings,
        Predictions(
            scores_table(card, rows), {n: failed[n] for n in in_order if n in failed}, remarks
        ),
        lambda: (read_result(part_of[name].journal(folder), name) for name in scored),
        ranges(record.number for record in records if record.failed),
    )


def remove_parts(folder: Path) -> None:
    """Removes all parts, when they are gathered; one that is just run again stays."""
    for part in found_parts(folder):
        with suppress(UserError), lock_file(part.record(folder), "gather"):
            # Without its record it is one that has not ended.
            part.record(folder).unlink(missing_ok=True)
            shutil.rmtree(part.journal(folder), ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as `sbatch --array` takes them: 3,7-9."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ",".join("-".join(map(str, span)) for span in spans)


def _read_records(folder: Path) -> list[PartRecord]:
    """Of all parts, in their order."""
    parts = found_parts(folder)
    if not parts:
        raise UserError(
            f"What is gathered are parts of a prediction, in {folder}. There are none. Run "
            "rfcx-tf predict --part I/N with the same --out before."
        )
    (of,) = {part.of for part in parts}
    records, missing = [], []
    for number in range(1, of + 1):
        path = Part(number, of).record(folder)
        try:
            records.append(PartRecord(**read_json(path, "The record of a part")))
        except FileNotFoundError:
            missing.append(number)
        except TypeError:
            raise UserError(
                f"The record of a part must be one of this version. {path} is not. Run part "
                f"{number} again."
            ) from None
    if missing:
        raise WorkStopped(
            f"All {of} parts must have ended. Missing: {ranges(missing)} ({len(missing)} in all). "
            "Run these again, or wait for them; what they have done is kept."
        )
    return records


def _check_same(records: list[PartRecord]) -> None:
    for option in sorted({name for record in records for name in record.settings}):
        values = _by_value(records, lambda r, option=option: json.dumps(r.settings.get(option)))
        if len(values) > 1:
            found = " and ".join(f"{value} in {which}" for value, which in values.items())
            raise UserError(
                f"Parts must have the same settings. {option} is {found}. Run those again that "
                "are wrong."
            )
    for what, value in (
        ("model (runs, weights and what is kept of windows)", lambda record: record.model),
        ("model's card (calibration, windows and names)", lambda record: record.card),
    ):
        values = _by_value(records, value)
        if len(values) > 1:
            raise UserError(
                f"Parts must have the same {what}. It differs between "
                f"{' and '.join(values.values())}. Run those again that are wrong."
            )
    searched = _by_value(records, lambda record: record.searched)
    if len(searched) > 1:
        found = {record.searched: record.found for record in records}
        said = " and ".join(f"{found[value]} by {which}" for value, which in searched.items())
        raise WorkStopped(
            f"Parts must have found the same recordings. Found {said}. Run all again that ran "
            "before the recordings were complete; what they have scored is kept."
        )


def _by_value(records: list[PartRecord], value: Callable[[PartRecord], str]) -> dict[str, str]:
    """Values, and which parts have them, in words."""
    numbers = defaultdict(list)
    for record in records:
        numbers[value(record)].append(record.number)
    return {one: f"part{'s' * (len(own) > 1)} {ranges(own)}" for one, own in numbers.items()}
