"""A Raven selection table -> marks.

`recording_id` names the recording of a row; this project's tables have it where it is not the
file's name. Else `Begin Path` or `Begin File` names it, or else the table's own name. `File Offset
(s)` is the time within the recording. If a table has a column of verdicts, nobody has judged the
rows where that is empty. Where recordings are called by their paths (`TableColumns.folders`), a
table without `recording_id` is for the recording of its own path.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from rfcx_tf.core.csv_tables import read_csv, read_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.marks import Mark, TableColumns, read_verdict, recording_of_table, seconds_text

_BEGIN, _END, _OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"


def is_raven(first_line: str) -> bool:
    """Whether a table that begins with this line is one of selections."""
    return _BEGIN in [cell.strip(' "') for cell in first_line.split("\t")]


def raven_marks(path: Path, columns: TableColumns) -> list[Mark]:
    """The marks in a selection table."""
    named = [columns.verdict] if columns.verdict else []
    header, rows = read_csv(path, [_BEGIN, _END, *named], delimiter="\t")
    species_column = _species_column(path, header, columns)
    verdict_column = columns.verdict or ("Verdict" if "Verdict" in header else "")
    in_spectrogram = {
        cells.get("Selection")
        for _, cells in rows
        if cells.get("View", "").startswith("Spectrogram")
    }
    begin_files = {_begin_file(cells) for _, cells in rows} - {""}
    # Rows that are drawn in Raven lack a recording_id, but name the same file as others.
    ids = {
        _begin_file(cells): cells["recording_id"] for _, cells in rows if cells.get("recording_id")
    }
    of_table, by_path = recording_of_table(path, columns.folders), bool(columns.folders)
    file_of: dict[str, str] = {}
    marks = []
    for place, cells in rows:
        view = cells.get("View", "Spectrogram")
        if not view.startswith("Spectrogram") and cells.get("Selection") in in_spectrogram:
            # Raven writes a selection once for every view; the waveform has no frequencies.
            continue
        begin_s, end_s = (read_number(place, name, cells[name]) for name in (_BEGIN, _END))
        if cells.get(_OFFSET):
            offset_s = read_number(place, _OFFSET, cells[_OFFSET])
            begin_s, end_s = offset_s, offset_s + end_s - begin_s
        elif len(begin_files) > 1:
            raise UserError(
                f"{place}: a table of several recordings must have the column {_OFFSET!r}; "
                f"{_BEGIN!r} runs on over all of them. Add it in Raven and save the table again."
            )
        file, last = _begin_file(cells), _stem(cells.get("End Path") or cells.get("End File", ""))
        recording = _recording_of_row(place, cells, ids, of_table, by_path)
        if last and last != (_stem(file) or PurePosixPath(recording).name):
            raise UserError(
                f"{place}: a box must lie in one recording. It begins in {recording} and ends in "
                f"{last}; draw one box for each."
            )
        if file and file_of.setdefault(recording, file) != file:
            raise UserError(
                f"{place}: recordings must differ in their names. Found {file_of[recording]} and "
                f"{file}. Save a table for each, in folders like theirs, and import them with "
                "--recording-ids path."
            )
        present = read_verdict(place, cells.get(verdict_column, "")) if verdict_column else True
        species = columns.only_species or cells.get(species_column, "")
        if not species and present is not None:
            raise UserError(f"{place}: {species_column!r} must name a species. It is empty.")
        times = (seconds_text(begin_s), seconds_text(end_s))
        band = (cells.get("Low Freq (Hz)", ""), cells.get("High Freq (Hz)", ""))
        marks.append(Mark(place, recording, species, present, *times, *band))
    return marks


def _species_column(path: Path, header: list[str], columns: TableColumns) -> str:
    if columns.only_species:
        return ""
    wanted = [columns.species] if columns.species else ["Species", "Annotation"]
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
