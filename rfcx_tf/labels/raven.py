"""A Raven selection table, or BirdNET's CSV -> marks.

`recording_id` names the recording of a row; this project's tables have it where it is not the
file's name. Else `Begin Path` or `Begin File` names it, or else the table's own name. `File Offset
(s)` is the time within the recording. If a table has a column of verdicts, nobody has judged the
rows where that is empty. Without one, a detector's confidence shows that nobody has judged any.
Where recordings are called by their paths (`TableColumns.folders`), a table without `recording_id`
is for the recording of its own path.

Raven writes text as it was typed, without quoting: a line is a row, whatever is in it.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from rfcx_tf.core.csv_tables import CsvRow, parse_csv, read_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.marks import (
    Mark,
    TableColumns,
    TableMarks,
    read_confidence,
    read_verdict,
    recording_of_table,
    seconds_text,
)

_BEGIN, _END, _OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
_LOW, _HIGH = "Low Freq (Hz)", "High Freq (Hz)"
_CONFIDENCES = ("Confidence", "Score", "Probability")
# BirdNET's CSV has other names for the same columns; its times are those in the file.
_BIRDNET_CSV = {"Start (s)": _BEGIN, "End (s)": _END, "Common name": "Common Name"}
_BIRDNET_CSV |= {"File": "Begin Path"}


def is_raven(first_line: str) -> bool:
    """Whether a table that begins with this line is one of selections."""
    cells = {cell.strip(' "') for cell in re.split(r"[\t;,]", first_line)}
    return _BEGIN in cells or {"Start (s)", "End (s)"} <= cells


def raven_marks(path: Path, text: str, columns: TableColumns) -> TableMarks:
    """The marks in a selection table."""
    numbers = (_BEGIN, _END, _OFFSET, _LOW, _HIGH, *_CONFIDENCES, "Start (s)", "End (s)")
    table, problems = parse_csv(path, text, numbers=numbers, quotes_lines=False)
    header = [_BIRDNET_CSV.get(name, name) for name in table.header]
    rows = [
        CsvRow(place, {_BIRDNET_CSV.get(name, name): cell for name, cell in cells.items()})
        for place, cells in table.rows
    ]
    for name in (_BEGIN, _END, *filter(None, [columns.verdict])):
        if name not in header:
            raise UserError(
                f"{path}:1: the header must name {name}. Received: {', '.join(header)}."
            )
    verdict_column = columns.verdict or ("Verdict" if "Verdict" in header else "")
    confidence_column = "" if verdict_column else _confidence_column(header, rows)
    if not rows:
        return TableMarks([], problems, confidence_column)
    species_column = _species_column(path, header, columns)
    in_spectrogram = {
        cells.get("Selection")
        for _, cells in rows
        if cells.get("View", "").startswith("Spectrogram")
    }
    # Rows that are drawn in Raven lack a recording_id, but name the same file as others.
    ids = {
        _begin_file(cells): cells["recording_id"] for _, cells in rows if cells.get("recording_id")
    }
    begin_files = {_begin_file(cells) for _, cells in rows} - {""}
    of_table, by_path = recording_of_table(path, columns.folders), bool(columns.folders)
    in_doubt = _why_in_doubt(path, table.header, rows, ids)

    def mark_of(place: str, cells: dict[str, str]) -> Mark:
        begin_s, end_s = (read_number(place, name, cells[name]) for name in (_BEGIN, _END))
        if cells.get(_OFFSET):
            offset_s = read_number(place, _OFFSET, cells[_OFFSET])
            begin_s, end_s = offset_s, offset_s + end_s - begin_s
        elif _OFFSET in header and len(begin_files) > 1:
            raise UserError(f"{place}: {_OFFSET!r} must say where in its file the box begins.")
        file, last = _begin_file(cells), _stem(cells.get("End Path") or cells.get("End File", ""))
        recording = _recording_of_row(place, cells, ids, of_table, by_path)
        if last and last != (_stem(file) or PurePosixPath(recording).name):
            raise UserError(
                f"{place}: a box must lie in one recording. It begins in {recording} and ends in "
                f"{last}; draw one box for each."
            )
        present = read_verdict(place, cells.get(verdict_column, "")) if verdict_column else True
        confidence = None
        if confidence_column:
            present, confidence = None, read_confidence(place, cells[confidence_column])
        species = columns.only_species or cells.get(species_column, "")
        if not species and (present is not None or confidence is not None):
            raise UserError(f"{place}: {species_column!r} must name a species. It is empty.")
        times = (seconds_text(begin_s), seconds_text(end_s))
        band = (cells.get(_LOW, ""), cells.get(_HIGH, ""))
        folder = str(PureWindowsPath(file).parent) if PureWindowsPath(file).parent.name else ""
        return Mark(place, recording, species, present, *times, *band, confidence, folder)

    marks = []
    for place, cells in rows:
        view = cells.get("View", "Spectrogram")
        if not view.startswith("Spectrogram") and cells.get("Selection") in in_spectrogram:
            # Raven writes a selection once for every view; the waveform has no frequencies.
            continue
        try:
            marks.append(mark_of(place, cells))
        except UserError as error:
            problems.append(str(error))
    return TableMarks(marks, problems, confidence_column, in_doubt=in_doubt)


def _why_in_doubt(path: Path, header: list[str], rows: list[CsvRow], ids: dict[str, str]) -> str:
    """Why the times may not be those in the files; empty where they are.

    Raises:
        UserError: if rows name two files that share a name.
    """
    files: dict[str, str] = {}
    for place, cells in rows:
        file = _begin_file(cells)
        name = cells.get("recording_id") or ids.get(file) or _stem(file)
        if file and files.setdefault(name, file) != file:
            raise UserError(
                f"{place}: recordings must differ in their names. Found {files[name]} and "
                f"{file}. Save a table for each, in folders like theirs, and import them with "
                "--recording-ids path."
            )
    if len(files) < 2 or _OFFSET in header or "Start (s)" in header:
        return ""
    return (
        f"{path}: a table of several recordings must have the column {_OFFSET!r}; "
        f"{_BEGIN!r} may run on over all of them. Add it in Raven and save the table again."
    )


def _confidence_column(header: list[str], rows: list[CsvRow]) -> str:
    """The column in which a detector says how sure it is; empty where a person made the table.

    People have columns of these names too, with words or marks.
    """
    by_birdnet = {"Common Name", "Species Code"} & set(header)
    for column in _CONFIDENCES:
        if column in header:
            cells = [cells[column] for _, cells in rows]
            if by_birdnet or (cells and all(map(_is_share, cells))):
                return column
    return ""


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _species_column(path: Path, header: list[str], columns: TableColumns) -> str:
    if columns.only_species:
        return ""
    wanted = [columns.species] if columns.species else ["Species", "Annotation", "Common Name"]
    for column in wanted:
        if column in header:
            return column
    raise UserError(
        f"{path}:1: the header must name the species' column ({' or '.join(wanted)}). "
        f"Received: {', '.join(header)}. Name the column, or the one species of all rows."
    )


def _recording_of_row(
    place: str, cells: dict[str, str], ids: dict[str, str], of_table: str, by_path: bool
) -> str:
    """The recording of a row: its id, or that of its file in `ids`, or its file, or the table's."""
    file = _begin_file(cells)
    recording_id, name = cells.get("recording_id") or ids.get(file), _stem(file)
    if recording_id:
        return recording_id
    if by_path and name in ("", PurePosixPath(of_table).name):
        return of_table
    if by_path:
        raise UserError(
            f"{place}: with --recording-ids path a table is of one recording, here {of_table} as "
            f"its own path says. Received a row of {name}. Save a table for each recording."
        )
    if ids:
        raise UserError(
            f"{place}: rows must have a recording_id where others have one. Write it, as in "
            f"{next(iter(ids.values()))}."
        )
    return name or of_table


def _begin_file(cells: dict[str, str]) -> str:
    return cells.get("Begin Path") or cells.get("Begin File", "")


def _stem(file: str) -> str:
    # Takes both separators, so that a table may come from another system.
    return PureWindowsPath(file).stem
