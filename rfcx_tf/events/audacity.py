"""Events -> Audacity labels, with the frequency range where it is known."""

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
        rows.append([f"{event.start_s:.6f}", f"{event.end_s:.6f}", event.species])
        if has_band(event):
            rows.append(["\\", f"{event.low_hz:.6f}", f"{event.high_hz:.6f}"])
    return tab_text(rows)
