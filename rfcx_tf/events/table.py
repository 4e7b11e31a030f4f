"""The table of events, version 1: its columns, and the files that hold it as it is.

    recording_id   name of the recording
    file           path of its sound file
    species_id     and `species`, its name
    start_s, end_s seconds from the beginning of the recording
    low_hz, high_hz the event's band; of a model that does not say where a call lies the species'
                   usual one (median of its boxes), empty where the run does not know it
    score          highest window's raw score, or that of the window with the highest probability
    probability    of that window; empty where the run is not calibrated
    start_time, end_time  wall clock, ISO 8601, with the offset from UTC where it is known; empty
                   where nobody knows when the recording began

A later version may add columns behind these; one that changes them has another number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rfcx_tf.core.csv_tables import spreadsheet_text

if TYPE_CHECKING:
    # The command line knows the formats before it needs tables.
    import pandas as pd

EVENT_TABLE_VERSION = 1
# Digits of seconds in CSV; more would not mean more. Times of day are rounded alike.
MILLISECONDS = 3
EVENT_COLUMNS = {
    "recording_id": str,
    "file": str,
    "species_id": int,
    "species": str,
    "start_s": float,
    "end_s": float,
    "low_hz": float,
    "high_hz": float,
    "score": float,
    "probability": float,
    "start_time": str,
    "end_time": str,
}


@dataclass(frozen=True)
class EventRecording:
    """What a table of events says of a recording.

    Attributes:
        recording_id: its name.
        file: path of its sound file.
        duration_s: its length.
        start: when it began, with or without a time zone; None if unknown.
    """

    recording_id: str
    file: str
    duration_s: float
    start: datetime | None = None


def empty_events() -> pd.DataFrame:
    """A table of no events; the first part of `pd.concat([empty_events(), *tables])`."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in EVENT_COLUMNS.items()})


def has_band(event) -> bool:
    """Whether the frequency range of an event (a row of `itertuples`) is known."""
    return not (math.isnan(event.low_hz) or math.isnan(event.high_hz))


def tab_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as text separated by tabs, without quotes: cells have no tabs or lines."""
    return "".join("\t".join(re.sub(r"[\t\r\n]", " ", c) for c in row) + "\n" for row in rows)


def csv_text(events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float) -> str:
    """The table as CSV; text that a spreadsheet program would run has an apostrophe before it."""
    digits = {"start_s": MILLISECONDS, "end_s": MILLISECONDS, "low_hz": 1, "high_hz": 1}
    digits |= {"score": 6, "probability": 6}
    texts = [name for name, kind in EVENT_COLUMNS.items() if kind is str]
    table = events[list(EVENT_COLUMNS)].round(digits)
    table[texts] = table[texts].map(spreadsheet_text)
    return table.to_csv(index=False, lineterminator="\n")


def parquet_bytes(
    events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float
) -> bytes:
    """The table with its types; the version is in the metadata of the file."""
    import pyarrow as pa
    import pyarrow.parquet

    arrow = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema(
        [(name, arrow[kind]) for name, kind in EVENT_COLUMNS.items()],
        metadata={"rfcx_tf.event_table_version": str(EVENT_TABLE_VERSION)},
    )
    table = pa.Table.from_pandas(events[list(EVENT_COLUMNS)], schema, preserve_index=False)
    # Pandas adds its own metadata, which would hide ours.
    table = table.replace_schema_metadata(schema.metadata)
    stream = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue().to_pybytes()
