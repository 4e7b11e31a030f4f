"""A file of Audacity labels -> marks.

A line is begin, end and label, separated by tabs; a line `\\ low high` below it is its frequency
range. The label is the species; `|FP` behind it marks a rejected box, `|TP` or nothing a
confirmed one. The recording is the one that the file is named after.
"""

from __future__ import annotations

from pathlib import Path

from rfcx_tf.core.csv_tables import read_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.marks import (
    Mark,
    TableColumns,
    read_verdict,
    recording_of_table,
    seconds_text,
    table_lines,
)


def is_audacity(first_line: str) -> bool:
    """Whether a table that begins with this line is one of labels."""
    try:
        return len([float(cell) for cell in first_line.split("\t")[:2]]) == 2
    except ValueError:
        return False


def audacity_marks(path: Path, columns: TableColumns) -> list[Mark]:
    """The marks in a file of labels."""
    recording = recording_of_table(path, columns.folders)
    marks: list[Mark] = []
    has_band = True
    for place, line in table_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0] == "\\":
            if has_band or len(cells) != 3:
                raise UserError(
                    f"{place}: a line of frequencies must be \\, low and high, once below its "
                    f"label. Received: {line!r}."
                )
            # Audacity's -1 is a bound that nobody has set.
            low, high = (
                "" if read_number(place, "A frequency", cell) == -1 else cell for cell in cells[1:]
            )
            marks[-1] = marks[-1]._replace(f_min=low, f_max=high)
            has_band = True
            continue
        if len(cells) < 2:
            raise UserError(
                f"{place}: a label must have begin, end and text, separated by tabs. "
                f"Received: {line!r}."
            )
        begin_s, end_s = map(read_number, [place] * 2, ("Begin", "End"), cells[:2])
        label, _, verdict = " ".join(cells[2:]).partition("|")
        species = columns.only_species or label.strip()
        if not species:
            raise UserError(f"{place}: a label must name a species. It is empty.")
        present = read_verdict(place, verdict or "TP")
        times = (seconds_text(begin_s), seconds_text(end_s))
        marks.append(Mark(place, recording, species, present, *times))
        has_band = False
    return marks
