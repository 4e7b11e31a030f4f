"""Raven selection tables and Audacity labels -> marks: who was heard where, in which recording.

A mark becomes a row of train_tp.csv or train_fp.csv in `rfcx_tf.labels.annotation_import`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from rfcx_tf.audio.find import AUDIO_EXTENSIONS
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import csv_lines

# What Raven, BirdNET and this project put behind the recording's name.
_TABLE_ENDING = re.compile(
    r"(\.Table\.\d+)?\.selections?$|\.BirdNET\.selection\.table$|\.BirdNET\.results$",
    re.IGNORECASE,
)
_BEGIN, _END, _LOW, _HIGH = "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"
_PRESENT = frozenset({"tp", "true", "yes", "y", "1", "present", "correct"})
_ABSENT = frozenset({"fp", "false", "no", "n", "0", "absent", "wrong"})
_UNSURE = frozenset({"unsure", "?", "maybe", "unknown"})


@dataclass(frozen=True)
class TableColumns:
    """How the tables say what was heard, and where.

    Attributes:
        species: Raven's column with the species; None: `Species`, or else `Annotation`.
        verdict: Raven's column with the verdict; None: `Verdict`, which a table may lack.
        only_species: species of all marks, where the tables do not say it.
        folders: of the tables, where recordings are called by their paths, which are then those
            of the tables below these folders. Empty: they are called by their names.
    """

    species: str | None = None
    verdict: str | None = None
    only_species: str | None = None
    folders: Sequence[Path] = ()


@dataclass(frozen=True)
class Mark:
    """One annotated box.

    Attributes:
        source: where it stands, file:line.
        recording_id: name of its recording.
        species: name of the species.
        present: True TP, False FP, None where nobody has judged it or whoever did was unsure.
        t_min, t_max: text, seconds in the recording.
        f_min, f_max: text, Hz; empty where the box is not bounded.
    """

    source: str
    recording_id: str
    species: str
    present: bool | None
    t_min: str
    t_max: str
    f_min: str
    f_max: str


def find_tables(paths: Iterable[str | Path]) -> list[Path]:
    """Lists the tables among files and folders (.txt, also in subfolders), each once, sorted.

    Raises:
        UserError: if a path does not exist, or there is no table.
    """
    paths = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"Annotation tables must exist. Not found: {path}.")
        tables = path.rglob("*.txt") if path.is_dir() else [path]
        # macOS leaves "._name.txt" beside files on foreign disks.
        found |= {t.resolve(): t for t in tables if not t.name.startswith(".") and t.is_file()}
    if not found:
        raise UserError(
            f"Annotation tables are .txt files. None found in {', '.join(map(str, paths))}."
        )
    return sorted(found.values())


def read_table(path: str | Path, columns: TableColumns) -> list[Mark]:
    """The marks of a Raven selection table or of a file of Audacity labels; maybe none.

    Raven: the recording is that of `recording_id`, which this project's tables have where it is
    not the file's name, of `Begin Path` or `Begin File`, or else the table's name without its
    ending; `File Offset (s)` is the time within the recording. Rows without a verdict in a table
    that has that column are marks that nobody has judged.

    Audacity: the recording is the file's name, the label the species. `|FP` behind it marks a
    rejected box, `|TP` or nothing a confirmed one.

    Where recordings are called by their paths (`TableColumns.folders`), a table without
    `recording_id` is for the recording of its own path.

    Raises:
        UserError: naming file and line of the first mistake.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a text file in UTF-8: {error}.") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return []
    first = next(csv.reader([lines[0][1]], delimiter="\t", skipinitialspace=True))
    cells = [cell.strip() for cell in first]
    if _BEGIN in cells:
        return list(_raven_marks(path, cells, columns))
    if len(cells) >= 2 and all(_is_number(cell) for cell in cells[:2]):
        return list(_audacity_marks(path, lines, columns))
    raise UserError(
        f"{path}:{lines[0][0]}: an annotation table is Raven's, separated by tabs, with the column "
        f"{_BEGIN!r}, or Audacity's, with begin and end in seconds. "
        f"Received: {lines[0][1][:60]!r}."
    )


def recording_of_table(path: str | Path, folders: Sequence[Path] = ()) -> str:
    """The recording that a table is for by its name: rec1 of rec1.Table.1.selections.txt.

    Args:
        path: of the table.
        folders: the table's path below one of these belongs to the name: site1/rec1.
    """
    path = Path(path)
    stem = _TABLE_ENDING.sub("", path.stem)
    name = Path(stem)
    name = name.stem if name.suffix.lower() in AUDIO_EXTENSIONS else stem
    for folder in folders:
        if path.is_relative_to(folder) and path != folder:
            return (path.relative_to(folder).parent / name).as_posix()
    return name


def _raven_marks(path: Path, header: list[str], columns: TableColumns) -> Iterator[Mark]:
    species_column = _species_column(path, header, columns)
    verdict_column = columns.verdict or ("Verdict" if "Verdict" in header else "")
    required = [_BEGIN, _END, *([columns.verdict] if columns.verdict else [])]
    rows = list(csv_lines(path, required, delimiter="\t"))
    in_spectrogram = {
        row.get("Selection") for _, row in rows if row.get("View", "").startswith("Spectrogram")
    }
    begin_files = {_begin_file(row) for _, row in rows} - {""}
    ids = {_begin_file(row): row["recording_id"] for _, row in rows if row.get("recording_id")}
    of_table = recording_of_table(path, columns.folders)
    file_of: dict[str, str] = {}
    for line, row in rows:
        source = f"{path}:{line}"
        view = row.get("View", "Spectrogram")
        if not view.startswith("Spectrogram") and row.get("Selection") in in_spectrogram:
            # Raven writes a selection once for every view; the waveform has no frequencies.
            continue
        begin_s, end_s = (_number(source, name, row.get(name, "")) for name in (_BEGIN, _END))
        offset = row.get("File Offset (s)", "")
        if offset:
            offset_s = _number(source, "File Offset (s)", offset)
            begin_s, end_s = offset_s, offset_s + end_s - begin_s
        elif len(begin_files) > 1:
            raise UserError(
                f"{source}: a table of several recordings must have the column 'File Offset (s)'; "
                f"{_BEGIN!r} runs on over all of them. Add it in Raven and save the table again."
            )
        file, last = _begin_file(row), _stem(row.get("End Path") or row.get("End File", ""))
        recording = _recording_of_row(source, row, ids, of_table, bool(columns.folders))
        if last and last != (_stem(file) or PurePosixPath(recording).name):
            raise UserError(
                f"{source}: a box must lie in one recording. It begins in {recording} and ends in "
                f"{last}; draw one box for each."
            )
        if file and file_of.setdefault(recording, file) != file:
            raise UserError(
                f"{source}: recordings must differ in their names. Found {file_of[recording]} and "
                f"{file}. Save a table for each, in folders like theirs, and import them with "
                "--recording-ids path."
            )
        present = read_verdict(source, row.get(verdict_column, "")) if verdict_column else True
        species = columns.only_species or row.get(species_column, "")
        if not species and present is not None:
            raise UserError(f"{source}: {species_column!r} must name a species. It is empty.")
        yield Mark(
            source,
            recording,
            species,
            present,
            _text(begin_s),
            _text(end_s),
            row.get(_LOW, ""),
            row.get(_HIGH, ""),
        )


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
    source: str, row: dict[str, str], ids: Mapping[str, str], of_table: str, by_path: bool
) -> str:
    """The recording of a row of Raven's.

    Args:
        source: of the row.
        row: cells by column.
        ids: recording_id by `_begin_file`, as far as rows of the table have one.
        of_table: the recording that the table is for by its name or path.
        by_path: whether recordings are called by their paths.
    """
    file = _begin_file(row)
    # Rows that are drawn in Raven lack a recording_id, but name the same file.
    recording_id, name = row.get("recording_id") or ids.get(file), _stem(file)
    if recording_id:
        return recording_id
    if by_path and name in ("", PurePosixPath(of_table).name):
        return of_table
    if by_path:
        raise UserError(
            f"{source}: with --recording-ids path a table is of one recording, here {of_table} as "
            f"its own path says. Received a row of {name}. Save a table for each recording."
        )
    if ids:
        raise UserError(
            f"{source}: rows must have a recording_id where others have one. Write it, as in "
            f"{next(iter(ids.values()))}."
        )
    return name or of_table


def _begin_file(row: dict[str, str]) -> str:
    return row.get("Begin Path") or row.get("Begin File", "")


def _stem(file: str) -> str:
    # Takes both separators, so that a table may come from another system.
    return PureWindowsPath(file).stem


def _audacity_marks(
    path: Path, lines: list[tuple[int, str]], columns: TableColumns
) -> Iterator[Mark]:
    recording = recording_of_table(path, columns.folders)
    bands = {}
    marks = []
    for number, line in lines:
        source = f"{path}:{number}"
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0] == "\\":
            if not marks or marks[-1][0] in bands or len(cells) != 3:
                raise UserError(
                    f"{source}: a line of frequencies must be \\, low and high, once below its "
                    f"label. Received: {line!r}."
                )
            bands[marks[-1][0]] = [
                # Audacity's -1 is a bound that nobody has set.
                "" if _number(source, "A frequency", cell) == -1 else cell
                for cell in cells[1:]
            ]
            continue
        if len(cells) < 2:
            raise UserError(
                f"{source}: a label must have begin, end and text, separated by tabs. "
                f"Received: {line!r}."
            )
        marks.append((source, cells))
    for source, cells in marks:
        label, _, verdict = " ".join(cells[2:]).partition("|")
        species = columns.only_species or label.strip()
        if not species:
            raise UserError(f"{source}: a label must name a species. It is empty.")
        begin, end = (
            _text(_number(source, name, cell))
            for name, cell in zip(("Begin", "End"), cells[:2], strict=True)
        )
        low, high = bands.get(source, ("", ""))
        present = read_verdict(source, verdict or "TP")
        yield Mark(source, recording, species, present, begin, end, low, high)


def read_verdict(source: str, text: str) -> bool | None:
    """What a verdict says: True present (TP), False absent (FP), None unsure or not judged.

    Raises:
        UserError: naming `source`, if it is none of the known words, in any case of letters.
    """
    word = text.strip().lower()
    if not word or word in _UNSURE:
        return None
    if word in _PRESENT or word in _ABSENT:
        return word in _PRESENT
    raise UserError(
        f"{source}: a verdict must be TP (or {', '.join(sorted(_PRESENT - {'tp'}))}), "
        f"FP (or {', '.join(sorted(_ABSENT - {'fp'}))}), unsure, or empty. Received: {text!r}."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(source: str, name: str, text: str) -> float:
    if not _is_number(text):
        raise UserError(f"{source}: {name} must be a number. Received: {text!r}.")
    return float(text)


def _text(seconds: float) -> str:
    """Seconds to the microsecond, without the digits that a sum of floats leaves."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
