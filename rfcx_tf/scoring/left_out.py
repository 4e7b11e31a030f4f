"""What a prediction could not use, or only in part: a table beside its scores.

scores.csv has scores.left_out.csv beside it, unless everything was used and nothing is to be said.
Its columns: recording_id (empty for a file that is no recording), used (`no`, `part` or `whole`),
and why, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import SoundRemark
from rfcx_tf.core.csv_tables import from_spreadsheet, read_csv, spreadsheet_text
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.names import readable
from rfcx_tf.scoring.predict import Predictions

LEFT_OUT_COLUMNS = ("recording_id", "used", "why")
USED = ("no", "part", "whole")


def left_out_path(scores: Path) -> Path:
    """The path of the table that belongs to a table of scores."""
    return scores.with_name(f"{scores.stem}.left_out.csv")


def left_out_table(
    predictions: Predictions, recordings: Iterable[str], others: Iterable[str] = ()
) -> pd.DataFrame:
    """The table of a prediction: what failed, then what was used in part, then other remarks.

    Args:
        predictions: of the recordings.
        recordings: their ids, in their order.
        others: a line for everything that may be a recording and was not tried.
    """
    recordings = list(recordings)
    rows = [
        (name, "no", predictions.failed[name]) for name in recordings if name in predictions.failed
    ]
    rows += [("", "no", line) for line in others]
    rows += _remarked(recordings, predictions.remarks, "part", is_cut=True)
    rows += _remarked(recordings, predictions.remarks, "whole", is_cut=False)
    # File names in the lines may hold bytes that are no UTF-8.
    texts = [[readable(text) for text in row] for row in rows]
    return pd.DataFrame(texts, columns=LEFT_OUT_COLUMNS, dtype=str)


def _remarked(
    recordings: Iterable[str],
    remarks: Mapping[str, Iterable[SoundRemark]],
    used: str,
    *,
    is_cut: bool,
) -> list[tuple[str, str, str]]:
    return [
        (name, used, remark.text)
        for name in recordings
        for remark in remarks.get(name, ())
        if remark.is_cut == is_cut
    ]


def write_left_out(table: pd.DataFrame, path: Path) -> None:
    """Writes a table of `left_out_table`; without rows it removes what is there."""
    if not len(table):
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        table.map(spreadsheet_text).to_csv(temporary, index=False)


def read_left_out(path: Path) -> pd.DataFrame:
    """Reads a table of `write_left_out`; its texts are as they were.

    Raises:
        UserError: naming file and line, if it cannot be read or is something else.
    """
    rows = []
    for place, cells in read_csv(path, LEFT_OUT_COLUMNS).rows:
        if cells["used"] not in USED:
            raise UserError(
                f"{place}: used must be {', '.join(USED)}. Received: {cells['used']!r}."
            )
        rows.append([from_spreadsheet(cells[name]) for name in LEFT_OUT_COLUMNS])
    return pd.DataFrame(rows, columns=LEFT_OUT_COLUMNS, dtype=str)
