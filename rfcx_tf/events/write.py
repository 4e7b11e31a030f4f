"""Events -> the files that people and other programs open, one for all recordings or one each.

    csv           the table of events as it is (`rfcx_tf.events.find`, version 1)
    parquet       the same with its types; the version is in the file's metadata
    raven         selection table of Raven Pro. In one table for several recordings, Begin and End
                  Time run on over the recordings in their order, as Raven shows a file sequence;
                  File Offset is the time within the recording. `Verdict` is left empty for
                  whoever checks the events: TP or FP, read by scripts/import_annotations.py,
                  which takes the recording from a last column `recording_id` where recordings
                  are called by their paths
    audacity      labels, with the frequency range where it is known. Labels name no file, so
                  every recording has its own
    kaleidoscope  results that Kaleidoscope opens, with the columns of its cluster.csv. TOP1DIST is
                  1 - probability (or score): small is sure, as a distance is. DATE and TIME
                  are those of the recording's start

Files are written whole or not at all, and with their header also where there are no events.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.find import path_for_recording
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.events.find import EVENT_COLUMNS, EVENT_TABLE_VERSION, EventRecording

# How the file of one recording is called, behind its recording_id, which may name subfolders.
_ENDINGS = {
    "csv": ".events.csv",
    "parquet": ".events.parquet",
    "raven": ".Table.1.selections.txt",
    "audacity": ".txt",
    "kaleidoscope": ".kaleidoscope.csv",
}
EVENT_FORMATS = tuple(_ENDINGS)
_RAVEN_COLUMNS = [
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin Path",
    "Begin File",
    "File Offset (s)",
    "Species",
    "Score",
    "Probability",
    "Verdict",
]
_KALEIDOSCOPE_COLUMNS = [
    "INDIR",
    "FOLDER",
    "IN FILE",
    "CHANNEL",
    "OFFSET",
    "DURATION",
    "Fmin",
    "Fmean",
    "Fmax",
    "DATE",
    "TIME",
    "HOUR",
    "TOP1MATCH",
    "TOP1DIST",
    "MANUAL ID",
]


def writes_one_file(out: str | Path, format: str) -> bool:
    """Whether `out` is a file for all recordings (it has the format's extension), or a folder."""
    return Path(out).suffix.lower() == Path(f"all{_ENDINGS[format]}").suffix


def check_events_out(out: str | Path, format: str, recordings: int) -> None:
    """Finds out before long work whether events of so many recordings can be written like this.

    Raises:
        UserError: for Audacity labels of several recordings in one file.
    """
    if format == "audacity" and recordings != 1 and writes_one_file(out, format):
        raise UserError(
            "Audacity labels name no recording, so a file of them is for one. Received: "
            f"{recordings} recordings and the file {out}. Name a folder instead."
        )


def write_events(
    events: pd.DataFrame,
    recordings: Sequence[EventRecording],
    out: str | Path,
    format: str,
    *,
    highest_hz: float,
) -> list[Path]:
    """Writes events in one of `EVENT_FORMATS`.

    Args:
        events: table of events (`find_events`) of these recordings.
        recordings: all recordings that were searched, also those without events, in the order
            that a table of several keeps.
        out: a file for all where it has the format's extension (.csv, .parquet, .txt), else a
            folder with a file for every recording.
        format: one of `EVENT_FORMATS`.
        highest_hz: upper bound of boxes where the species' own is not known (half the model's
            sample rate); their lower one is 0. Only Raven's need one.

    Returns:
        The files, in the order of the recordings.

    Raises:
        UserError: if they cannot be written, or for Audacity labels of several recordings in
            one file.
    """
    check_events_out(out, format, len(recordings))
    out = Path(out)
    order = {recording.recording_id: i for i, recording in enumerate(recordings)}
    place = events["recording_id"].map(order)
    events = events.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)

    def write(own: pd.DataFrame, own_recordings: Sequence[EventRecording], path: Path) -> Path:
        if format == "parquet":
            _write_parquet(own, path)
        elif format == "csv":
            atomic_write_text(path, _csv(own))
        elif format == "raven":
            atomic_write_text(path, _raven(own, own_recordings, highest_hz))
        elif format == "audacity":
            atomic_write_text(path, _audacity(own))
        else:
            atomic_write_text(path, _kaleidoscope(own, own_recordings))
        return path

    if writes_one_file(out, format):
        return [write(events, recordings, out)]
    of_recording = dict(list(events.groupby("recording_id", sort=False)))
    return [
        write(
            of_recording.get(recording.recording_id, events.iloc[:0]),
            [recording],
            path_for_recording(out, recording.recording_id, _ENDINGS[format]),
        )
        for recording in recordings
    ]


def _csv(events: pd.DataFrame) -> str:
    # Milliseconds and tenths of a Hertz; more digits would not mean more.
    digits = dict.fromkeys(("start_s", "end_s"), 3) | dict.fromkeys(("low_hz", "high_hz"), 1)
    table = events[list(EVENT_COLUMNS)].round(digits | {"score": 6, "probability": 6})
    return table.to_csv(index=False, lineterminator="\n")


def _write_parquet(events: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    arrow = {str: pa.string(), np.int64: pa.int64(), np.float64: pa.float64()}
    schema = pa.schema(
        [(name, arrow[kind]) for name, kind in EVENT_COLUMNS.items()],
        metadata={"rfcx_tf.event_table_version": str(EVENT_TABLE_VERSION)},
    )
    table = pa.Table.from_pandas(events[list(EVENT_COLUMNS)], schema, preserve_index=False)
    # Pandas adds its own metadata, which would hide ours.
    table = table.replace_schema_metadata(schema.metadata)
    with atomic_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _raven(events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float) -> str:
    lengths_s = np.array([recording.duration_s for recording in recordings])
    begins_s = dict(
        zip((r.recording_id for r in recordings), np.cumsum(lengths_s) - lengths_s, strict=True)
    )
    # The way back must not depend on folders, which Begin Path has more of.
    called_by_path = any(r.recording_id != Path(r.file).stem for r in recordings)
    rows = []
    for number, event in enumerate(events.itertuples(), start=1):
        begin_s = begins_s[event.recording_id]
        known = _known_band(event)
        rows.append(
            (
                str(number),
                "Spectrogram 1",
                "1",
                # Raven places a selection by these; a millisecond could fall into the file before.
                f"{begin_s + event.start_s:.6f}",
                f"{begin_s + event.end_s:.6f}",
                f"{event.low_hz if known else 0:.1f}",
                f"{event.high_hz if known else highest_hz:.1f}",
                _plain(os.path.abspath(event.file)),
                _plain(Path(event.file).name),
                f"{event.start_s:.6f}",
                _plain(event.species),
                f"{event.score:.4f}",
                "" if np.isnan(event.probability) else f"{event.probability:.4f}",
                "",
                *([event.recording_id] if called_by_path else []),
            )
        )
    header = [*_RAVEN_COLUMNS, *(["recording_id"] if called_by_path else [])]
    return _lines([header, *rows])


def _audacity(events: pd.DataFrame) -> str:
    rows = []
    for event in events.itertuples():
        rows.append((f"{event.start_s:.6f}", f"{event.end_s:.6f}", _plain(event.species)))
        if _known_band(event):
            rows.append(("\\", f"{event.low_hz:.6f}", f"{event.high_hz:.6f}"))
    return _lines(rows)


def _kaleidoscope(events: pd.DataFrame, recordings: Sequence[EventRecording]) -> str:
    folders = {r.recording_id: os.path.dirname(os.path.abspath(r.file)) for r in recordings}
    root = os.path.commonpath(folders.values()) if folders else ""
    starts = {r.recording_id: r.start for r in recordings}
    rows = []
    for event in events.itertuples():
        known = _known_band(event)
        value = event.score if np.isnan(event.probability) else event.probability
        folder = os.path.relpath(folders[event.recording_id], root)
        rows.append(
            (
                root,
                "" if folder == "." else folder,
                Path(event.file).name,
                0,
                f"{event.start_s:.3f}",
                f"{event.end_s - event.start_s:.3f}",
                f"{event.low_hz:.1f}" if known else "",
                f"{(event.low_hz + event.high_hz) / 2:.1f}" if known else "",
                f"{event.high_hz:.1f}" if known else "",
                *_date_and_time(starts[event.recording_id]),
                event.species,
                f"{1 - value:.4f}",
                "",
            )
        )
    return pd.DataFrame(rows, columns=_KALEIDOSCOPE_COLUMNS).to_csv(
        index=False, lineterminator="\n"
    )


def _date_and_time(start: datetime | None) -> tuple[str, str, str]:
    """DATE, TIME and HOUR as Kaleidoscope writes them."""
    if start is None:
        return "", "", ""
    return f"{start:%Y-%m-%d}", f"{start:%H:%M:%S}", f"{start:%H}"


def _known_band(event) -> bool:
    return not (np.isnan(event.low_hz) or np.isnan(event.high_hz))


def _plain(text: str) -> str:
    """Text for a format that separates by tabs and lines and knows no quotes."""
    return re.sub(r"[\t\r\n]", " ", text)


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)
