"""Events -> a selection table of Raven Pro.

In one table for several recordings, Begin and End Time run on over the recordings in their order,
as Raven shows a file sequence; File Offset is the time within the recording. `Verdict` is left
empty for whoever checks the events: TP or FP, read by rfcx-tf import-annotations, which takes the
recording from a last column `recording_id` where recordings are called by their paths.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rfcx_tf.events.table import EventRecording, has_band, tab_text

if TYPE_CHECKING:
    import pandas as pd

_HEADER = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
    "Begin Path\tBegin File\tFile Offset (s)\tSpecies\tScore\tProbability\tVerdict"
)


def raven_text(
    events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float
) -> str:
    """The selection table; an event of unknown band reaches from 0 to the highest frequency."""
    begins_s, end_s = {}, 0.0
    for recording in recordings:
        begins_s[recording.recording_id] = end_s
        end_s += recording.duration_s
    # The way back must not depend on folders, which Begin Path has more of.
    called_by_path = any(r.recording_id != Path(r.file).stem for r in recordings)
    header = _HEADER + "\trecording_id" * called_by_path
    rows = []
    for number, event in enumerate(events.itertuples(), start=1):
        begin_s = begins_s[event.recording_id]
        known = has_band(event)
        rows.append(
            [
                str(number),
                "Spectrogram 1",
                "1",
                # Raven places a selection by these; a millisecond could fall into the file before.
                f"{begin_s + event.start_s:.6f}",
                f"{begin_s + event.end_s:.6f}",
                f"{event.low_hz if known else 0:.1f}",
                f"{event.high_hz if known else highest_hz:.1f}",
                os.path.abspath(event.file),
                Path(event.file).name,
                f"{event.start_s:.6f}",
                event.species,
                f"{event.score:.4f}",
                "" if math.isnan(event.probability) else f"{event.probability:.4f}",
                "",
                *([event.recording_id] if called_by_path else []),
            ]
        )
    return f"{header}\n{tab_text(rows)}"
