"""Rows of another detector's tables -> a table of events, candidates for a review."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rfcx_tf.core.names import readable
from rfcx_tf.events.table import EVENT_COLUMNS
from rfcx_tf.labels.annotation_import import Detection


def events_of_detections(detections: Sequence[Detection]) -> pd.DataFrame:
    """A table of `EVENT_COLUMNS`, a row a detection; its confidence is the score."""
    rows = [
        {
            "recording_id": mark.recording_id,
            "file": readable(file) if file else "",
            "species_id": species.species_id,
            "species": species.name,
            "start_s": float(mark.t_min),
            "end_s": float(mark.t_max),
            # Without an upper bound nothing is known of the band.
            "low_hz": float(mark.f_min) if mark.f_max else math.nan,
            "high_hz": float(mark.f_max or math.nan),
            "score": mark.confidence,
            "probability": math.nan,
            "start_time": "",
            "end_time": "",
        }
        for mark, species, file in detections
    ]
    return pd.DataFrame(rows, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)
