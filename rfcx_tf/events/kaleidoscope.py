"""Events -> results that Kaleidoscope opens, with the columns of its cluster.csv.

TOP1DIST is 1 - probability (or score): small is sure, as a distance is. DATE and TIME are those of
the recording's start.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rfcx_tf.core.csv_tables import spreadsheet_text
from rfcx_tf.events.table import EventRecording, has_band

if TYPE_CHECKING:
    import pandas as pd

_HEADER = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,"
    "TOP1MATCH,TOP1DIST,MANUAL ID\n"
)


def kaleidoscope_text(
    events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float
) -> str:
    """The table of results."""
    folders = {r.recording_id: os.path.dirname(os.path.abspath(r.file)) for r in recordings}
    root = os.path.commonpath(folders.values()) if folders else ""
    starts = {r.recording_id: r.start for r in recordings}
    text = io.StringIO()
    text.write(_HEADER)
    table = csv.writer(text, lineterminator="\n")
    for event in events.itertuples():
        low_hz, high_hz = event.low_hz, event.high_hz
        band_hz = [low_hz, (low_hz + high_hz) / 2, high_hz] if has_band(event) else []
        start = starts[event.recording_id]
        clock = ["%Y-%m-%d", "%H:%M:%S", "%H"] if start else []
        value = event.score if math.isnan(event.probability) else event.probability
        folder = os.path.relpath(folders[event.recording_id], root)
        table.writerow(
            [
                root,
                "" if folder == "." else folder,
                Path(event.file).name,
                0,
                f"{event.start_s:.3f}",
                f"{event.end_s - event.start_s:.3f}",
                *([f"{hz:.1f}" for hz in band_hz] or [""] * 3),
                *([f"{start:{part}}" for part in clock] or [""] * 3),
                spreadsheet_text(event.species),
                f"{1 - value:.4f}",
                "",
            ]
        )
    return text.getvalue()
