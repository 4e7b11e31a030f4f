"""review.csv -> rows of text by column, and back.

It begins with a byte order mark, without which Excel mistakes its encoding, and holds no text that
a spreadsheet program would run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rfcx_tf.core.csv_tables import from_spreadsheet, read_csv, spreadsheet_text
from rfcx_tf.core.names import readable

_REQUIRED = ("recording_id", "species_id", "t_min", "t_max", "f_min", "f_max", "verdict")
_NUMBERS = ("species_id", "t_min", "t_max", "f_min", "f_max")
# The order of a new table; a random sample has a column more, behind `reason`.
COLUMNS = (
    *("recording_id", "species_id", "species", "t_min", "t_max", "f_min", "f_max", "score"),
    *("probability", "reason", "clip", "picture", "verdict", "comment", "file"),
)


class Sheet(NamedTuple):
    """The column names of a review.csv, and place (file:line) and cells of every row."""

    header: list[str]
    rows: list[tuple[str, dict[str, str]]]


def read_sheet(path: str | Path) -> Sheet:
    """Reads a review.csv, as it was written or as a spreadsheet program saves it.

    Raises:
        UserError: if it cannot be read or lacks a column.
    """
    table = read_csv(path, _REQUIRED, numbers=_NUMBERS)
    return Sheet(
        table.header,
        [
            (place, {name: from_spreadsheet(cell) for name, cell in cells.items()})
            for place, cells in table.rows
        ],
    )


def sheet_text(header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """The content of review.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([spreadsheet_text(row.get(name, "")) for name in header] for row in rows)
    return "\ufeff" + text.getvalue()


def event_cells(event, file: str, band_hz: tuple[float, float] | None) -> dict[str, str]:
    """What review.csv says of an event, without a verdict.

    Args:
        event: a row of a table of events.
        file: path of its recording.
        band_hz: its lower and upper bound; None: not known, and the cells stay empty.
    """
    low, high = ("", "") if band_hz is None else (f"{hz:.1f}" for hz in band_hz)
    return {
        "recording_id": event.recording_id,
        "species_id": str(event.species_id),
        "species": event.species,
        "t_min": f"{event.start_s:.3f}",
        "t_max": f"{event.end_s:.3f}",
        "f_min": low,
        "f_max": high,
        "score": f"{event.score:.6f}",
        "probability": "" if np.isnan(event.probability) else f"{event.probability:.6f}",
        "verdict": "",
        "comment": "",
        "file": readable(file),
    }
