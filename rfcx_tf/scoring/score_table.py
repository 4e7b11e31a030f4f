"""Tables of one row a recording and one column a class, in the layout of a submission.

Scores and complete truth share it: `recording_id,s0,s1,...`, where s0 is the class of
species_id 0. In memory: a DataFrame of recording_id (str) and s<id> columns (float; truth: bool).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.species import SpeciesClass


def blank_scores(recording_ids: Iterable[str], classes: Iterable[SpeciesClass]) -> pd.DataFrame:
    """A scores table of zeros, to check what will become of the real one."""
    ids = list(recording_ids)
    columns = [c.column for c in classes]
    table = pd.DataFrame(0.0, index=range(len(ids)), columns=columns)
    table.insert(0, "recording_id", ids)
    return table


def write_scores(scores: pd.DataFrame, path: str | Path) -> None:
    """Writes a table as CSV in one step, with every digit that `read_scores` needs."""
    with atomic_file(path) as temporary:
        scores.to_csv(temporary, index=False, lineterminator="\n")


def read_scores(path: str | Path) -> pd.DataFrame:
    """Reads a scores table; columns other than recording_id and s<id> are left out.

    Raises:
        UserError: if the file cannot be read, has no recording_id or no s<id> column, lists a
            recording twice, or holds a score that is not a finite number.
    """
    return _read_table(path, "Scores must be finite numbers", math.isfinite)


def read_truth(path: str | Path) -> pd.DataFrame:
    """Reads a complete truth table (such as the demo's train_truth.csv): 1 present, 0 absent.

    Raises:
        UserError: as `read_scores`, or if a value is neither 0 nor 1.
    """
    table = _read_table(path, "Truth must be 0 (absent) or 1 (present)", (0.0, 1.0).__contains__)
    return table.astype(dict.fromkeys(class_columns(table), bool))


def read_class_names(path: str | Path) -> dict[str, str]:
    """Species names by class column, {"s0": ...}, from a CSV with columns species_id and name.

    Raises:
        UserError: if the file cannot be read or lacks a column or a field.
    """
    header, lines = _read_lines(path)
    for column in ("species_id", "name"):
        _require_once(column, header, path)
    names = {}
    for line, row in lines:
        fields = _fields(row, header, f"{path}:{line}")
        names[f"s{fields['species_id'].strip()}"] = fields["name"]
    return names


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


def _read_table(path: str | Path, rule: str, holds: Callable[[float], bool]) -> pd.DataFrame:
    """Reads and checks line by line, so that every error names its line."""
    header, lines = _read_lines(path)
    columns = _kept_columns(header, path)
    classes = class_columns(columns)
    line_of: dict[str, int] = {}
    rows = []
    for line, row in lines:
        where = f"{path}:{line}"
        fields = _fields(row, header, where)
        recording_id = fields["recording_id"]
        if recording_id in line_of:
            raise UserError(
                f"{where}: a recording must have one line. {recording_id} is also in line "
                f"{line_of[recording_id]}; remove one."
            )
        line_of[recording_id] = line
        values = {column: _number(fields[column]) for column in classes}
        for column, value in values.items():
            if not holds(value):
                raise UserError(f"{where}: {rule}. Found {fields[column]!r} in column {column}.")
        rows.append({"recording_id": recording_id, **values})
    if not rows:
        raise UserError(f"{path} must list at least one recording. Found only a header.")
    return pd.DataFrame(rows, columns=columns)


def _read_lines(path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the (line number, fields) of every line that is not blank."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the header.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            return header, [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise UserError(f"The table {path} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"The table {path} is not CSV in UTF-8: {error}.") from None


def _kept_columns(header: list[str], path: str | Path) -> list[str]:
    """recording_id and the class columns, in the file's order."""
    classes = class_columns(header)
    for column in ("recording_id", *classes):
        _require_once(column, header, path)
    if not classes:
        raise UserError(
            f"{path} must have a column s<species_id> for every class. "
            f"Found the header {','.join(header)!r:.60}."
        )
    return [column for column in header if column == "recording_id" or column in classes]


def _require_once(column: str, header: list[str], path: str | Path) -> None:
    if header.count(column) != 1:
        raise UserError(
            f"{path} must have one column {column}. Found {header.count(column)} of it in the "
            f"header {','.join(header)!r:.60}."
        )


def _fields(row: list[str], header: list[str], where: str) -> dict[str, str]:
    if len(row) != len(header):
        raise UserError(
            f"{where}: a line must have the header's {len(header)} fields. Found {len(row)}."
        )
    return dict(zip(header, row, strict=True))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
