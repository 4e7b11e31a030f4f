"""Events -> Audacity labels, with the frequency range where it is known.

Behind the label stands the score, as in BirdNET's labels. Audacity reads three cells and passes it
over; by it an import tells what a model heard from what a person drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rfcx_tf.events.table import EventRecording, has_band, tab_text

if TYPE_CHECKING:
    import pandas as pd


def audacity_text(
    events: pd.DataFrame, recordings: Sequence[EventRecording], highest_hz: float
) -> str:
    """The labels of one recording, whose name they do not say."""
    rows = []
    for event in events.itertuples():
        times = [f"{event.start_s:.6f}", f"{event.end_s:.6f}"]
        rows.append([*times, event.species, f"{event.score:.4f}"])
        if has_band(event):
            rows.append(["\\", f"{event.low_hz:.6f}", f"{event.high_hz:.6f}"])
    return tab_text(rows)
