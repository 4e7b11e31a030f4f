"""Events -> the files that people and other programs open, one for all recordings or one each.

A new format is a module like `raven` and a line in `FORMATS`. Files are written whole or not at
all, and with their header also where there are no events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rfcx_tf.audio.find import path_for_recording
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.events.audacity import audacity_text
from rfcx_tf.events.kaleidoscope import kaleidoscope_text
from rfcx_tf.events.raven import raven_text
from rfcx_tf.events.table import EventRecording, csv_text, parquet_bytes

if TYPE_CHECKING:
    import pandas as pd


class EventFormat(NamedTuple):
    """One kind of file.

    Attributes:
        ending: of the file of one recording, behind its recording_id, which may name subfolders.
        content: makes it of events, their recordings, and the highest frequency in Hz.
        of_one_recording: whether it does not say which recording an event is in.
    """

    ending: str
    content: Callable[[pd.DataFrame, Sequence[EventRecording], float], str | bytes]
    of_one_recording: bool = False


FORMATS = {
    "csv": EventFormat(".events.csv", csv_text),
    "parquet": EventFormat(".events.parquet", parquet_bytes),
    "raven": EventFormat(".Table.1.selections.txt", raven_text),
    "audacity": EventFormat(".txt", audacity_text, of_one_recording=True),
    "kaleidoscope": EventFormat(".kaleidoscope.csv", kaleidoscope_text),
}


def writes_one_file(out: str | Path, format: str) -> bool:
    """Whether `out` is a file for all recordings (it has the format's extension), or a folder."""
    return Path(out).suffix.lower() == Path(f"all{FORMATS[format].ending}").suffix


def check_events_out(out: str | Path, format: str, recordings: int) -> None:
    """Finds out before long work whether events of so many recordings can be written like this.

    Raises:
        UserError: for several recordings in one file of a format that names no recording.
    """
    if FORMATS[format].of_one_recording and recordings != 1 and writes_one_file(out, format):
        raise UserError(
            f"{format.capitalize()} labels name no recording, so a file of them is for one. "
            f"Received: {recordings} recordings and the file {out}. Name a folder instead."
        )


def write_events(
    events: pd.DataFrame,
    recordings: Sequence[EventRecording],
    out: str | Path,
    format: str,
    *,
    highest_hz: float,
) -> list[Path]:
    """Writes events in one of `FORMATS`.

    Args:
        events: table of events (`find_events`) of these recordings.
        recordings: all recordings that were searched, also those without events, in the order
            that a table of several keeps.
        out: a file for all where it has the format's extension (.csv, .parquet, .txt), else a
            folder with a file for every recording.
        format: a key of `FORMATS`.
        highest_hz: upper bound of boxes where the species' own is not known (half the model's
            sample rate); their lower one is 0. Only Raven's need one.

    Returns:
        The files, in the order of the recordings.

    Raises:
        UserError: if they cannot be written, or as `check_events_out`.
    """
    check_events_out(out, format, len(recordings))
    out = Path(out)
    order = {recording.recording_id: number for number, recording in enumerate(recordings)}
    events = events.sort_values(
        "recording_id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True
    )

    def write(own: pd.DataFrame, own_recordings: Sequence[EventRecording], path: Path) -> Path:
        content = FORMATS[format].content(own, own_recordings, highest_hz)
        with atomic_file(path) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    if writes_one_file(out, format):
        return [write(events, recordings, out)]
    of_recording = dict(list(events.groupby("recording_id", sort=False)))
    return [
        write(
            of_recording.get(recording.recording_id, events.iloc[:0]),
            [recording],
            path_for_recording(out, recording.recording_id, FORMATS[format].ending),
        )
        for recording in recordings
    ]
