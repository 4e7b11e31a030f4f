"""A CSV file, as programs and people save it -> its header and its rows of text.

Commas, semicolons or tabs separate cells; the text is UTF-8, UTF-16 or, where it is neither,
Windows' Western European code page. Every error names the file and the line.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.names import one_form

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_LIKE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
# A line that tells Excel how cells are separated, and what other programs make of it.
_SEPARATOR = re.compile(r'\s*"?sep=[,;\t]?"?[,;\t]*(?=\n)', re.IGNORECASE)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# What a table is read as that is no Unicode: Latin-1 with the signs that Windows adds.
GUESSED_ENCODING = "cp1252"


class CsvRow(NamedTuple):
    """A line below the header.

    Attributes:
        place: file:line, for errors.
        cells: text by column, without spaces around it and in Unicode's normal form C, but for
            `file`, a path as it is; empty where the line ends before.
    """

    place: str
    cells: dict[str, str]


class CsvTable(NamedTuple):
    """The column names of a file, and its lines that are not blank."""

    header: list[str]
    rows: list[CsvRow]


def read_text(path: str | Path) -> tuple[str, str]:
    """The text of a file, its lines ending in "\\n", and the encoding that it is read by.

    Of a first line `sep=;` nothing is left: what separates cells shows in the header.

    Raises:
        UserError: if the file cannot be read or is no text.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    mark = next((mark for mark in _BYTE_ORDER_MARKS if content.startswith(mark)), b"")
    encodings = [_BYTE_ORDER_MARKS[mark]] if mark else ["utf-8", GUESSED_ENCODING]
    if not mark and b"\0" in content[:2]:
        encodings = ["utf-16-be" if content[0] == 0 else "utf-16-le"]
    for encoding in encodings:
        try:
            text = content[len(mark) :].decode(encoding)
        except UnicodeDecodeError as error:
            problem = error
        else:
            if "\0" not in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
                found = _SEPARATOR.match(text)
                return text[found.end() if found else 0 :], encoding
            problem = "it holds zeros"
    raise UserError(f"{path} must be a text file in UTF-8: {problem}.")


def read_csv(
    path: str | Path, required: Iterable[str] = (), *, numbers: Collection[str] = ()
) -> CsvTable:
    """Reads a CSV file.

    Args:
        path: the file.
        required: columns that it must have.
        numbers: columns of numbers, where decimal commas become points.

    Raises:
        UserError: if the file cannot be read, has no header or one that lacks a required column,
            or a line has more cells than the header.
    """
    table, problems = parse_csv(path, read_text(path)[0], required, numbers=numbers)
    if problems:
        raise UserError(problems[0])
    return table


def parse_csv(
    path: str | Path,
    text: str,
    required: Iterable[str] = (),
    *,
    numbers: Collection[str] = (),
    quotes_lines: bool = True,
) -> tuple[CsvTable, list[str]]:
    """The table in a text, as `read_csv`, without lines of too many cells; those in words.

    Args:
        quotes_lines: whether a quoted cell may hold several lines. Else every line is a row, and
            a quotation mark that none ends, as annotators type it, is one.
    """
    first = next((line for line in text.split("\n") if line.strip(" ,;\t")), "")
    delimiter = max(",;\t", key=first.count)
    try:
        if quotes_lines:
            reader = csv.reader(
                io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True
            )
            lines = [(reader.line_num, cells) for cells in reader]
        else:
            lines = [(i, _cells(t, delimiter)) for i, t in enumerate(text.split("\n"), start=1)]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: a row must be CSV: {error}.") from None
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in lines]
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
    rows, problems = [], []
    for number, cells in lines[1:]:
        if any(cells[len(header) :]):
            problems.append(
                f"{path}:{number}: a line must have no more cells than the header "
                f"({len(header)}). Received: {len(cells)}."
            )
            continue
        named = zip_longest(header, cells[: len(header)], fillvalue="")
        of_row = {column: c if column == "file" else one_form(c) for column, c in named}
        rows.append(CsvRow(f"{path}:{number}", of_row))
    numbers = [column for column in numbers if column in header]
    with_point = decimal_points([c[column] for _, c in rows for column in numbers], delimiter)
    for _, cells in rows:
        cells |= {column: with_point(cells[column]) for column in numbers}
    return CsvTable(header, rows), problems


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line; of a quoted one what is in the quotes."""
    if delimiter != "\t" and line.count('"') % 2 == 0:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    quoted = re.compile(r'"((?:[^"]|"")*)"')
    cells = [cell.strip() for cell in line.split(delimiter)]
    return [q[1].replace('""', '"') if (q := quoted.fullmatch(cell)) else cell for cell in cells]


def decimal_points(cells: Sequence[str], delimiter: str) -> Callable[[str], str]:
    """A function that makes points of the decimal commas in cells of numbers, if they are such.

    1,5 is one and a half. 1,250 may be 1250 as well, unless semicolons separate cells, or there
    are no points, and other numbers show that commas are decimal and that thousands have none.

    Args:
        cells: all numbers of a table.
        delimiter: between its cells.
    """
    in_doubt = delimiter != ";" and (
        any("." in cell for cell in cells)
        or not any(
            re.fullmatch(r"\d{4,}", cell)
            or (_DECIMAL_COMMA.fullmatch(cell) and not _LIKE_THOUSANDS.fullmatch(cell))
            for cell in cells
        )
    )

    def with_point(cell: str) -> str:
        if not _DECIMAL_COMMA.fullmatch(cell) or (in_doubt and _LIKE_THOUSANDS.fullmatch(cell)):
            return cell
        return cell.replace(",", ".")

    return with_point


def spreadsheet_text(cell: str) -> str:
    """Text for a table that people open in a spreadsheet program: none that it would run.

    An apostrophe goes before what begins like a formula, and before apostrophes before that, so
    that `from_spreadsheet` gives every text back.
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def from_spreadsheet(cell: str) -> str:
    """The text that `spreadsheet_text` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


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
