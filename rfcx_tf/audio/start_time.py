"""When a recording began: from a table, from what its file says, or from the file's name.

Names that recorders give:

    20230401_053000.WAV              AudioMoth, also with T behind (triggered)
    5B2E3F10.WAV                     AudioMoth before 2020: Unix seconds, hexadecimal
    SITE1_20230401_053000.wav        Song Meter; _0+1_ and the like may stand between, and $ for _
                                     where a GPS set the clock
    SITE1_20230401_053000+0200.wav   with the offset from UTC; Z is UTC, T may stand for _

A name without an offset gives a time without a time zone: the recorder's own clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath

from rfcx_tf.audio.file_start import start_from_file
from rfcx_tf.core.csv_tables import read_csv
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.names import one_form, readable

# Digits of a longer number, or a letter at either end, are not a time. The T behind is
# AudioMoth's mark of a triggered recording. Some recorders write a space for a leading zero, and
# people and phones put signs between: 2022-08-30_12-08-00.
_DATE_AND_TIME = re.compile(
    r"(?<![0-9A-Za-z])(?P<year>\d{4})(?P<in_date>[-_.]?)(?P<month>[ \d]\d)(?P=in_date)"
    r"(?P<day>[ \d]\d)[_T$ -](?P<hour>\d\d)(?P<in_time>[-_.:]?)(?P<minute>\d\d)(?P=in_time)"
    r"(?P<second>\d\d)(?P<offset>Z|[+-]\d\d:?\d\d(?!\d))?T?(?![0-9A-Za-z])"
)
_YEARS = range(1990, 2100)
# AudioMoth writes capitals; names drawn at random usually have small letters. Digits alone are
# more often a serial number than a time.
_HEXADECIMAL = re.compile(r"(?=.*[A-F])[0-9A-F]{8}")
_HEXADECIMAL_YEARS = range(2015, 2038)


def start_from_name(name: str) -> datetime | None:
    """The start of a recording from its file's name, with or without folder and extension.

    None where the name has no time, an impossible one, or several that differ: better no time
    than a wrong one. A hexadecimal name must be 8 digits and nothing else, one of them a letter,
    and mean a year in which such recorders were about.
    """
    path = PureWindowsPath(name)
    if _HEXADECIMAL.fullmatch(path.stem):
        start = datetime.fromtimestamp(int(path.stem, 16), UTC)
        return start if start.year in _HEXADECIMAL_YEARS else None
    found = (match.groupdict("") for match in _DATE_AND_TIME.finditer(path.name))
    starts = {_possible_start(**parts) for parts in found} - {None}
    return starts.pop() if len(starts) == 1 else None


def _possible_start(
    year: str, month: str, day: str, hour: str, minute: str, second: str, offset: str, **_signs: str
) -> datetime | None:
    """A start out of the digits of its parts; None where the calendar or a recorder has no such."""
    zone = "+0000" if offset == "Z" else offset
    text = f"{year}{month}{day}{hour}{minute}{second}".replace(" ", "0") + zone
    try:
        start = datetime.strptime(text, "%Y%m%d%H%M%S%z" if zone else "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return _plausible(start)


def _plausible(start: datetime) -> datetime | None:
    """A start as it is, unless no clock of a recorder shows it: one that was never set."""
    # Zones end at 14 hours and lie on quarters; anything else is a number of another kind.
    minutes = (start.utcoffset() or timedelta()) // timedelta(minutes=1)
    is_zone = abs(minutes) < 15 * 60 and minutes % 15 == 0
    return start if start.year in _YEARS and is_zone else None


def read_start_times(path: str | Path) -> dict[str, datetime]:
    """Reads the starts of recordings from a CSV table.

    Args:
        path: a table with the column `recording_id`, or `file` (path or name, with extension),
            and `start_time` in ISO 8601, such as 2023-04-01T05:30:00+02:00.

    Returns:
        Starts, for `recording_start`: by recording_id, or by the file's path without extension
        and by every end of it (card1/a and a, of card1/a.wav) that means one start.

    Raises:
        UserError: naming file and line, if the table cannot be read, lacks a column, has a
            start_time that is none, or names a recording or file with two different ones.
    """
    starts: dict[str, datetime] = {}
    by_end: dict[str, set[datetime]] = {}
    for place, cells in read_csv(path, ["start_time"]).rows:
        recording_id = cells.get("recording_id")
        names = [recording_id] if recording_id else _ends_of_path(cells.get("file", ""))
        if not names:
            raise UserError(f"{place}: a row must have a recording_id or a file.")
        name = names[0]
        text = cells["start_time"]
        try:
            # A date alone would pass as midnight.
            start = datetime.fromisoformat(text) if re.search(r"\d[T ]\d", text) else None
        except ValueError:
            start = None
        if start is None:
            raise UserError(
                f"{place}: start_time must be a date with a time, such as "
                f"2023-04-01T05:30:00+02:00. Received: {text!r}."
            )
        if starts.setdefault(name, start) != start:
            raise UserError(
                f"{place}: a recording must begin once. {name} began at "
                f"{starts[name].isoformat()} above, at {start.isoformat()} here."
            )
        for end in names[1:]:
            by_end.setdefault(end, set()).add(start)
    return {end: min(found) for end, found in by_end.items() if len(found) == 1} | starts


def recording_start(
    recording_id: str, path: str | Path, known: Mapping[str, datetime]
) -> datetime | None:
    """The start of a recording: by the table where that names it, else as its file says
    (`start_from_file`), else by the file's name.

    Of a table's files the one counts that shares most of the path, and at least the recording's
    id: site1/a.wav is not site2/a where recordings are called by their paths.

    Args:
        recording_id: its file's name or path without extension.
        path: of the sound file.
        known: of `read_start_times`, or empty.
    """
    ends = _ends_of_path(str(path))
    for name in (*ends[: len(ends) - recording_id.count("/")], recording_id):
        if name in known:
            return known[name]
    own = start_from_file(path)
    # A clock that was never set shows 1970.
    return (own and _plausible(own)) or start_from_name(Path(path).name)


def _ends_of_path(file: str) -> list[str]:
    """A file's path without extension, then without its first folder, ..., last its name."""
    path = PureWindowsPath(one_form(readable(file)))
    parts = (*path.parent.parts, path.stem) if path.stem else ()
    return [PureWindowsPath(*parts[k:]).as_posix() for k in range(len(parts))]
