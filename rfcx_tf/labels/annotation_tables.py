"""Annotation tables of other programs -> marks.

A new format is a module like `raven` and a line in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.core.csv_tables import GUESSED_ENCODING, read_text
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.names import one_form, readable
from rfcx_tf.core.walk import walk
from rfcx_tf.labels.annotations import TABLES
from rfcx_tf.labels.audacity import audacity_marks, is_audacity
from rfcx_tf.labels.complete import COMPLETE_TABLE
from rfcx_tf.labels.marks import TableColumns, TableMarks, table_lines
from rfcx_tf.labels.raven import is_raven, raven_marks

ENDINGS = (".txt", ".csv", ".tsv")
# What lies in a data folder, or among events of `predict`, beside annotation tables.
_OTHER_TABLES = (*TABLES.values(), COMPLETE_TABLE, "species.csv", "sample_submission.csv")
_OTHER_TABLES += (".events.csv", ".kaleidoscope.csv")


class TableFormat(NamedTuple):
    """One kind of table.

    Attributes:
        begins: whether a table may be one of these, by its first line that is not blank.
        marks: reads the text of one; a UserError says why none of it can be used.
        looks: what it is recognised by, for the error where no format fits.
    """

    begins: Callable[[str], bool]
    marks: Callable[[Path, str, TableColumns], TableMarks]
    looks: str


FORMATS = (
    TableFormat(is_raven, raven_marks, "Raven's, with the column Begin Time (s)"),
    TableFormat(is_audacity, audacity_marks, "Audacity's, with begin and end in seconds"),
)


def find_tables(paths: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Lists the tables among files and folders (also in subfolders), each once, sorted.

    Returns:
        The tables, and a line for everything that could not be searched for some.

    Raises:
        UserError: if a path does not exist, or there is no table.
    """
    paths = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    unsearched: list[str] = []
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"Annotation tables must exist. Not found: {path}.")
        tables = [path]
        if os.path.isdir(path):
            walked = walk(path)
            unsearched += walked.unsearched
            tables = [
                table
                for table in walked.files
                if table.suffix.lower() in ENDINGS and not table.name.endswith(_OTHER_TABLES)
            ]
        for table in tables:
            found.setdefault(table.resolve(), table)
    if not found:
        raise UserError(
            f"Annotation tables are {' or '.join(ENDINGS)} files. None found in "
            f"{', '.join(map(str, paths))}."
        )
    return sorted(found.values()), unsearched


def read_table(path: str | Path, columns: TableColumns) -> TableMarks:
    """The marks in a table of one of `FORMATS`; none in one that is empty.

    Raises:
        UserError: if nothing of it can be used.
    """
    path = Path(path)
    text, encoding = read_text(path)
    text = one_form(text)
    lines = table_lines(path, text)
    if not lines:
        return TableMarks([], [])
    place, first = lines[0]
    for format in FORMATS:
        if format.begins(first):
            found = format.marks(path, text, columns)
            if encoding == GUESSED_ENCODING:
                return found._replace(
                    notes=[f"{readable(path)} is not in UTF-8; read as {encoding}."]
                )
            return found
    raise UserError(
        f"{place}: an annotation table is {', or '.join(format.looks for format in FORMATS)}. "
        f"Received: {first[:60]!r}."
    )
