"""Tables of one row a recording and one column a class, in the layout of a submission.

Scores and complete truth share it: `recording_id,s0,s1,...`, where s0 is the class of
species_id 0. In memory: a DataFrame of recording_id (str) and `s<id>` columns (float;
truth: bool).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from rfcx_tf.core.csv_tables import read_csv, read_number
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.files import atomic_file


def write_scores(scores: pd.DataFrame, path: str | Path) -> None:
    """Writes a table as CSV in one step, with every digit that `read_scores` needs."""
    with atomic_file(path) as temporary:
        scores.to_csv(temporary, index=False, lineterminator="\n")


def read_scores(path: str | Path) -> pd.DataFrame:
    """Reads a scores table; columns other than recording_id and `s<id>` are left out.

    Raises:
        UserError: naming file and line, if the file cannot be read, has no recording_id or no
            `s<id>` column, lists a recording twice, or holds a score that is not a finite number.
    """
    return _read_table(path, read_number)


def read_truth(path: str | Path) -> pd.DataFrame:
    """Reads a complete truth table (such as the demo's train_truth.csv): 1 present, 0 absent.

    Raises:
        UserError: as `read_scores`, or if a value is neither 0 nor 1.
    """
    table = _read_table(path, _read_presence)
    return table.astype(dict.fromkeys(class_columns(table), bool))


def order_like_submission(scores: pd.DataFrame, sample_submission_path: str | Path) -> pd.DataFrame:
    """The rows and class columns of sample_submission.csv, in its order; others are dropped.

    Raises:
        UserError: if `scores` lacks a recording or a class that the sample names.
    """
    sample = read_scores(sample_submission_path)
    for what, wanted, given in (
        ("class", class_columns(sample), set(scores.columns)),
        ("recording", sample["recording_id"], set(scores["recording_id"])),
    ):
        missing = [name for name in wanted if name not in given]
        if missing:
            raise UserError(
                f"A submission needs every {what} of {sample_submission_path}. "
                f"The scores lack {first_few(missing)}; predict those too."
            )
    ordered = scores.set_index("recording_id").reindex(sample["recording_id"]).reset_index()
    return ordered[sample.columns]


def class_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that are named s<species_id>, in their order."""
    return [column for column in columns if re.fullmatch(r"s[0-9]+", column)]


def _read_table(path: str | Path, read_value: Callable[[str, str, str], float]) -> pd.DataFrame:
    """Reads a table whose values `read_value` makes of their place, column and text."""
    header, rows = read_csv(path, ["recording_id"])
    classes = class_columns(header)
    if not classes:
        raise UserError(
            f"{path} must have a column s<species_id> for every class. "
            f"Found the header {','.join(header)!r:.60}."
        )
    columns = [column for column in header if column in ("recording_id", *classes)]
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise UserError(f"{path} must have one column {repeated[0]}. Found {len(repeated)} of it.")
    if not rows:
        raise UserError(f"{path} must list at least one recording. Found only a header.")
    place_of: dict[str, str] = {}
    values = []
    for place, cells in rows:
        recording_id = cells["recording_id"]
        if recording_id in place_of:
            raise UserError(
                f"{place}: a recording must have one line. {recording_id} is also in "
                f"{place_of[recording_id]}; remove one."
            )
        place_of[recording_id] = place
        scores = {column: read_value(place, column, cells[column]) for column in classes}
        values.append({"recording_id": recording_id, **scores})
    return pd.DataFrame(values, columns=columns)


def _read_presence(place: str, column: str, text: str) -> float:
    value = read_number(place, column, text)
    if value not in (0, 1):
        raise UserError(f"{place}: {column} must be 0 (absent) or 1 (present). Received: {text!r}.")
    return value
