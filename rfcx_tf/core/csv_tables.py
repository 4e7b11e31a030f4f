"""A CSV file, as programs and people save it -> its header and its rows of text.

Every error names the file and the line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.core.errors import UserError


class CsvRow(NamedTuple):
    """A line below the header.

    Attributes:
        place: file:line, for errors.
        cells: text by column, without spaces around it; empty where the line ends before.
    """

    place: str
    cells: dict[str, str]


class CsvTable(NamedTuple):
    """The column names of a file, and its lines that are not blank."""

    header: list[str]
    rows: list[CsvRow]


def read_csv(path: str | Path, required: Iterable[str] = (), delimiter: str = ",") -> CsvTable:
    """Reads a CSV file in UTF-8.

    Raises:
        UserError: if the file cannot be read, has no header or one that lacks a required column,
            or a line has more cells than the header.
    """
    try:
        # utf-8-sig: spreadsheet programs put a byte order mark before the first column's name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} must be a CSV file in UTF-8: {error}.") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise UserError(f"{path} is empty. It must begin with a line of column names.")
    header_line, header = lines[0]
    lacking = [column for column in required if column not in header]
    if lacking:
        raise UserError(
            f"{path}:{header_line}: the header must name {', '.join(lacking)}. "
            f"Received: {', '.join(header)}."
        )
    rows = []
    for number, cells in lines[1:]:
        if any(cells[len(header) :]):
            raise UserError(
                f"{path}:{number}: a line must have no more cells than the header "
                f"({len(header)}). Received: {len(cells)}."
            )
        rows.append(
            CsvRow(
                f"{path}:{number}", dict(zip_longest(header, cells[: len(header)], fillvalue=""))
            )
        )
    return CsvTable(header, rows)


def read_number(place: str, name: str, text: str) -> float:
    """The finite number that a cell holds; else a UserError that begins with the place."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: {name} must be a finite number. Received: {text!r}.")
    return value


def read_whole_number(place: str, name: str, text: str) -> int:
    """The whole number, 0 or more, that a cell holds; else a UserError as of `read_number`."""
    # "1.0" is what pandas writes for whole numbers in a column with gaps.
    value = read_number(place, name, text)
    if not (0 <= value < 2**31 and value.is_integer()):
        raise UserError(f"{place}: {name} must be a whole number, 0 or more. Received: {text!r}.")
    return int(value)
