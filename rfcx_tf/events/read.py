"""Tables of events from files, as predict.py writes them in csv or parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.csv_tables import read_csv
from rfcx_tf.core.errors import UserError
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
        paths = next(filter(None, (sorted(path.rglob(f"*{e}")) for e in _ENDINGS)), [])
        if not paths:
            raise UserError(
                f"A folder of events holds {' or '.join(f'*{e}' for e in _ENDINGS)}. "
                f"None found in {path}."
            )
    elif not path.exists():
        raise UserError(f"The events must exist. Not found: {path}.")
    return pd.concat([empty_events(), *map(_read_table, paths)], ignore_index=True)


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
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
        places = [f"{path}, row {number}" for number in range(1, len(table) + 1)]
    else:
        rows = read_csv(path, EVENT_COLUMNS).rows
        table = pd.DataFrame([row.cells for row in rows], columns=list(EVENT_COLUMNS))
        places = [row.place for row in rows]
    return _checked(table[list(EVENT_COLUMNS)], places)


def _checked(table: pd.DataFrame, places: list[str]) -> pd.DataFrame:
    """The table with the types of `EVENT_COLUMNS`; UserError for a cell that cannot have it."""
    columns = {}
    for name, kind in EVENT_COLUMNS.items():
        cells = table[name]
        if kind is str:
            columns[name] = cells.fillna("").astype(str)
            continue
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
        empty = cells.isna() | (cells.astype(str) == "")
        wrong = ~np.isfinite(values) & ~(empty if name in _MAY_BE_EMPTY else False)
        if kind is int:
            wrong |= values != np.floor(values)
        if name in ("score", "probability"):
            wrong |= (values < 0) | (values > 1)
        _refuse(wrong, places, lambda i, n=name, c=cells: f"{n} cannot be {str(c.iloc[i])!r}")
        columns[name] = values.astype(kind)
    checked = pd.DataFrame(columns)
    backwards = (checked["start_s"] < 0) | (checked["end_s"] <= checked["start_s"])
    _refuse(backwards, places, lambda _: "an event must end after it begins, at 0 or later")
    _refuse(checked["recording_id"] == "", places, lambda _: "recording_id must not be empty")
    return checked


def _refuse(wrong, places: list[str], complaint) -> None:
    wrong = np.flatnonzero(wrong)
    if len(wrong):
        raise UserError(f"{places[wrong[0]]}: {complaint(wrong[0])}. Write the events again.")
