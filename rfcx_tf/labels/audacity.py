"""A file of Audacity labels -> marks.

A line is begin, end and label, separated by tabs; a line `\\ low high` below it is its frequency
range. The label is the species; `|FP` behind it marks a rejected box, `|TP` or nothing a
confirmed one. The recording is the one that the file is named after. A number in a fourth cell is
a confidence, BirdNET's or of `rfcx_tf.events.audacity`: nobody has judged such a line. Audacity
leaves it out of what it exports.
"""

from __future__ import annotations

from pathlib import Path

from rfcx_tf.core.csv_tables import decimal_points, read_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.marks import (
    Mark,
    TableColumns,
    TableMarks,
    read_confidence,
    read_verdict,
    recording_of_table,
    seconds_text,
    table_lines,
)


def is_audacity(first_line: str) -> bool:
    """Whether a table that begins with this line is one of labels."""
    try:
        cells = first_line.split(_delimiter(first_line))[:2]
        return len([float(cell.strip().replace(",", ".")) for cell in cells]) == 2
    except ValueError:
        return False


def audacity_marks(path: Path, text: str, columns: TableColumns) -> TableMarks:
    """The marks in a file of labels."""
    recording = recording_of_table(path, columns.folders)
    lines = table_lines(path, text)
    delimiter = _delimiter(lines[0][1])
    rows = [(place, [c.strip() for c in line.split(delimiter)]) for place, line in lines]
    # Low and high stand where a label's end and text do.
    numbers = [n for _, c in rows for n in (c[1:3] if c[0] == "\\" else [*c[:2], *c[3:4]])]
    with_point = decimal_points(numbers, delimiter)
    rows = [(place, [*map(with_point, cells[:4]), *cells[4:]]) for place, cells in rows]
    marks: list[Mark] = []
    problems = []
    # Whether the last label can have a band, has one, or could not be read.
    takes_band = has_mark = False
    for place, cells in rows:
        is_band = cells[0] == "\\"
        try:
            if not is_band:
                takes_band, has_mark = True, False
                marks.append(_mark(place, cells, recording, columns))
                has_mark = True
                continue
            if not takes_band or len(cells) != 3:
                raise UserError(
                    f"{place}: a line of frequencies must be \\, low and high, once below its "
                    f"label. Received: {delimiter.join(cells)!r}."
                )
            takes_band = False
            # Audacity's -1 is a bound that nobody has set.
            low, high = (
                "" if read_number(place, "A frequency", cell) == -1 else cell for cell in cells[1:]
            )
            if has_mark:
                marks[-1] = marks[-1]._replace(f_min=low, f_max=high)
        except UserError as error:
            problems.append(str(error))
            if is_band and has_mark:
                # A box of which the band is in doubt is in doubt.
                marks.pop()
                has_mark = False
    detected = any(mark.confidence is not None for mark in marks)
    return TableMarks(marks, problems, "a fourth cell with a number" if detected else "")


def _mark(place: str, cells: list[str], recording: str, columns: TableColumns) -> Mark:
    if len(cells) < 2:
        raise UserError(
            f"{place}: a label must have begin, end and text, separated by tabs. "
            f"Received: {cells[0]!r}."
        )
    begin_s, end_s = map(read_number, [place] * 2, ("Begin", "End"), cells[:2])
    confidence = None
    if len(cells) == 4 and _is_number(cells[3]):
        confidence = read_confidence(place, cells.pop())
    label, _, verdict = " ".join(cells[2:]).partition("|")
    species = columns.only_species or label.strip()
    if not species:
        raise UserError(f"{place}: a label must name a species. It is empty.")
    present = (
        None if confidence is not None and not verdict else read_verdict(place, verdict or "TP")
    )
    times = (seconds_text(begin_s), seconds_text(end_s))
    return Mark(place, recording, species, present, *times, confidence=confidence)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _delimiter(first_line: str) -> str:
    return next((d for d in "\t;," if d in first_line), "\t")
