"""Window scores of a recording -> events: when each species was heard, and how surely."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.events.table import EVENT_COLUMNS, MILLISECONDS, EventRecording
from rfcx_tf.scoring.card import ModelCard

# Far less than a sample: events that touch but for rounding are one.
_ROUNDING_S = 1e-9


def find_events(
    recording: EventRecording,
    window_scores: np.ndarray,
    card: ModelCard,
    thresholds: np.ndarray | float,
    *,
    low_ratio: float = 0.8,
    merge_gap_s: float = 0.5,
) -> pd.DataFrame:
    """Finds the events of one recording.

    Probabilities are searched if the model is calibrated, else scores. A window at or above the
    threshold of its class starts an event, which goes on as long as windows stay at or above
    low_ratio times the threshold, so that a dip in the middle of a call does not cut it in two.
    The event reaches from the centre of its first window to that of its last, since a window is
    as sure as the call in its middle. One that is shorter than the species' mean box is widened
    to that on both sides, and cut at the ends of the recording. Events of a class that then
    overlap or are at most merge_gap_s apart become one.

    Args:
        recording: what the table says of it.
        window_scores: float [windows, classes], raw scores.
        card: of the model that gave them: where its windows lie, its calibration, the usual
            length of a call (a window where a species has none) and its band.
        thresholds: float [classes], or one number, in units of the values that are searched; a
            class with NaN or infinity has no events.
        low_ratio: more than 0, at most 1.
        merge_gap_s: 0 or more.

    Returns:
        DataFrame of `EVENT_COLUMNS`, by start_s, then in the order of the classes.
    """
    probabilities = card.calibration and card.calibration.probabilities(window_scores)
    values = window_scores if probabilities is None else probabilities
    values = np.asarray(values, np.float64)
    thresholds = np.broadcast_to(np.asarray(thresholds, np.float64), len(card.classes))
    centres_s = card.centres_s(len(values), recording.duration_s)
    rows = []
    for column, species in enumerate(card.classes):
        low_hz, high_hz = card.box_hz[column]
        box_s = card.mean_box_s[column]
        box_s = card.window_s if math.isnan(box_s) else box_s
        high = thresholds[column]
        merged: list[tuple[int, int, float, float]] = []
        for first, last in _connected_windows(values[:, column], high, high * low_ratio):
            ends_s = centres_s[[first, last], column]
            start_s, end_s = _span(ends_s, box_s, recording.duration_s)
            if merged and start_s - merged[-1][3] <= merge_gap_s + _ROUNDING_S:
                first, _, start_s, before_s = merged.pop()
                end_s = max(before_s, end_s)
            merged.append((first, last, start_s, end_s))
        for first, last, start_s, end_s in merged:
            peak = first + int(np.argmax(values[first : last + 1, column]))
            rows.append(
                {
                    "recording_id": recording.recording_id,
                    "file": recording.file,
                    "species_id": species.species_id,
                    "species": species.name,
                    "start_s": start_s,
                    "end_s": end_s,
                    "low_hz": low_hz,
                    "high_hz": high_hz,
                    "score": window_scores[peak, column],
                    "probability": np.nan if probabilities is None else values[peak, column],
                    "start_time": _wall_clock(recording.start, start_s),
                    "end_time": _wall_clock(recording.start, end_s),
                }
            )
    events = pd.DataFrame(rows, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)
    # Stable: events that begin together stay in the order of the classes.
    return events.sort_values("start_s", kind="stable", ignore_index=True)


def _connected_windows(values: np.ndarray, high: float, low: float) -> list[tuple[int, int]]:
    """First and last window of every stretch at or above `low` that reaches `high` somewhere."""
    above = np.concatenate([[False], values >= low, [False]])
    edges = np.flatnonzero(np.diff(above.astype(np.int8)))
    stretches = zip(edges[::2], edges[1::2] - 1, strict=True)
    return [
        (int(first), int(last))
        for first, last in stretches
        if values[first : last + 1].max() >= high
    ]


def _span(ends_s: np.ndarray, least_s: float, duration_s: float) -> tuple[float, float]:
    """Begin and end of an event, widened to a least length and cut at the recording's ends."""
    margin_s = max(0.0, least_s - (ends_s[1] - ends_s[0])) / 2
    return max(0.0, float(ends_s[0] - margin_s)), min(duration_s, float(ends_s[1] + margin_s))


def _wall_clock(start: datetime | None, seconds: float) -> str:
    """A time of day, to the millisecond that the CSV rounds the seconds to."""
    if start is None:
        return ""
    start_us, ms = start.microsecond, np.round(seconds, MILLISECONDS)
    start += timedelta(milliseconds=round(start_us / 1000)) - timedelta(microseconds=start_us)
    return (start + timedelta(seconds=float(ms))).isoformat(timespec="milliseconds")
