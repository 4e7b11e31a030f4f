"""Tables of events from files, as rfcx-tf predict writes them in csv or parquet."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.find import Recordings, find_named_recordings
from rfcx_tf.core.csv_tables import (
    CsvRow,
    from_spreadsheet,
    read_csv,
    read_number,
    read_whole_number,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.walk import walk
from rfcx_tf.events.table import EVENT_COLUMNS, empty_events

_ENDINGS = (".events.csv", ".events.parquet")
_MAY_BE_EMPTY = ("low_hz", "high_hz", "probability")


def read_events(path: str | Path) -> pd.DataFrame:
    """Reads events of one table, or of all tables `*.events.csv` in a folder and its subfolders.

    A folder without any may hold `*.events.parquet` instead; both would be the same events twice.

    Returns:
        DataFrame of `EVENT_COLUMNS` (columns that a later version adds are left out).

    Raises:
        UserError: naming the file, and the line of a CSV, of the first thing that cannot be used,
            or if there is no table.
    """
    path = Path(path)
    paths = [path]
    if path.is_dir():
        walked = walk(path)
        if walked.unsearched:
            raise UserError(f"A folder of events must be readable. {walked.unsearched[0]}")
        by_ending = ([p for p in walked.files if p.name.endswith(e)] for e in _ENDINGS)
        paths = next(filter(None, by_ending), [])
        if not paths:
            raise UserError(
                f"A folder of events holds {' or '.join(f'*{e}' for e in _ENDINGS)}. "
                f"None found in {path}."
            )
    elif not path.exists():
        raise UserError(f"The events must exist. Not found: {path}.")
    return pd.concat([empty_events(), *map(_read_table, paths)], ignore_index=True)


def recordings_of_events(
    events: pd.DataFrame, audio: Sequence[Path] | None, others: Iterable[str] = ()
) -> Recordings:
    """Sound files by recording_id; recordings of events that are not found are left out.

    Args:
        events: a table of `EVENT_COLUMNS`.
        audio: recordings, or folders of them; None: the files that the events name.
        others: ids of recordings without events that are called as those of the events.

    Raises:
        UserError: if there is no recording in `audio`.
    """
    if audio is not None:
        return find_named_recordings(audio, {*events["recording_id"], *others})
    files = dict(zip(events["recording_id"], map(Path, events["file"]), strict=True))
    return Recordings({name: path for name, path in files.items() if os.path.isfile(path)})


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
        rows = _parquet_rows(path)
    else:
        numbers = [name for name, kind in EVENT_COLUMNS.items() if kind is not str]
        rows = [
            CsvRow(place, {name: from_spreadsheet(cell) for name, cell in cells.items()})
            for place, cells in read_csv(path, EVENT_COLUMNS, numbers=numbers).rows
        ]
    events = [_event(place, cells) for place, cells in rows]
    return pd.DataFrame(events, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)


def _parquet_rows(path: Path) -> list[CsvRow]:
    """The rows of a Parquet file as those of a CSV file."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as Parquet: {line}") from None
    lacking = [name for name in EVENT_COLUMNS if name not in table]
    if lacking:
        raise UserError(
            f"{path}: a table of events must have the columns {', '.join(lacking)}. "
            f"Received: {', '.join(table)}."
        )
    texts = table.astype(object).where(table.notna(), "").astype(str)
    return [
        CsvRow(f"{path}, row {number}", cells)
        for number, cells in enumerate(texts.to_dict("records"), start=1)
    ]


def _event(place: str, cells: dict[str, str]) -> dict[str, str | int | float]:
    """The values of a row; UserError for one that cannot be an event's."""
    event: dict[str, str | int | float] = {}
    for name, kind in EVENT_COLUMNS.items():
        text = cells[name]
        if kind is int:
            event[name] = read_whole_number(place, name, text)
        elif kind is str:
            event[name] = text
        elif text or name not in _MAY_BE_EMPTY:
            event[name] = read_number(place, name, text)
        else:
            event[name] = math.nan
    if not event["recording_id"]:
        raise UserError(f"{place}: recording_id must not be empty.")
    if not 0 <= event["start_s"] < event["end_s"]:
        raise UserError(f"{place}: an event must end after it begins, at 0 or later.")
    for name in ("score", "probability"):
        if event[name] < 0 or event[name] > 1:
            raise UserError(f"{place}: {name} must be from 0 to 1. Received: {event[name]:g}.")
    return event
