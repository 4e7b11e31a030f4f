"""Annotation tables of other programs -> marks.

A new format is a module like `raven` and a line in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.audacity import audacity_marks, is_audacity
from rfcx_tf.labels.marks import Mark, TableColumns, table_lines
from rfcx_tf.labels.raven import is_raven, raven_marks


class TableFormat(NamedTuple):
    """One kind of table.

    Attributes:
        ending: of its files' names.
        begins: whether a table may be one of these, by its first line that is not blank.
        marks: reads one; a UserError names file and line of the first mistake.
        looks: what it is recognised by, for the error where no format fits.
    """

    ending: str
    begins: Callable[[str], bool]
    marks: Callable[[Path, TableColumns], list[Mark]]
    looks: str


FORMATS = (
    TableFormat(
        ".txt", is_raven, raven_marks, "Raven's, separated by tabs, with the column Begin Time (s)"
    ),
    TableFormat(".txt", is_audacity, audacity_marks, "Audacity's, with begin and end in seconds"),
)


def find_tables(paths: Iterable[str | Path]) -> list[Path]:
    """Lists the tables among files and folders (also in subfolders), each once, sorted.

    Raises:
        UserError: if a path does not exist, or there is no table.
    """
    paths = [Path(path) for path in paths]
    endings = tuple(dict.fromkeys(format.ending for format in FORMATS))
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"Annotation tables must exist. Not found: {path}.")
        tables = [path]
        if path.is_dir():
            tables = [table for table in path.rglob("*") if table.name.endswith(endings)]
        # macOS leaves "._name.txt" beside files on foreign disks.
        found |= {t.resolve(): t for t in tables if not t.name.startswith(".") and t.is_file()}
    if not found:
        raise UserError(
            f"Annotation tables are {' or '.join(endings)} files. None found in "
            f"{', '.join(map(str, paths))}."
        )
    return sorted(found.values())


def read_table(path: str | Path, columns: TableColumns) -> list[Mark]:
    """The marks in a table of one of `FORMATS`; none in one that is empty.

    Raises:
        UserError: naming file and line of the first mistake.
    """
    path = Path(path)
    lines = table_lines(path)
    if not lines:
        return []
    place, first = lines[0]
    for format in FORMATS:
        if format.begins(first):
            return format.marks(path, columns)
    raise UserError(
        f"{place}: an annotation table is {', or '.join(format.looks for format in FORMATS)}. "
        f"Received: {first[:60]!r}."
    )
