"""Window scores of a recording -> events: when each species was heard, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError
from rfcx_tf.events.table import EVENT_COLUMNS, EventRecording
from rfcx_tf.scoring.card import ModelCard

# Far less than a sample: events that touch but for rounding are one.
_ROUNDING_S = 1e-9


@dataclass(frozen=True)
class EventRules:
    """When windows make an event.

    Attributes:
        thresholds: float [classes], in units of the values that are searched. A window at or
            above starts an event; a class with NaN or infinity has none.
        low_ratio: the event goes on as long as its windows stay at or above threshold times
            this (hysteresis), so that a dip in the middle of a call does not cut it in two.
        min_s: events are dropped whose windows, from the first to the last, take less than this;
            every window counts as one step of the grid, and gaps that were closed count too.
        merge_gap_s: events of a class that are no further apart than this become one.
    """

    thresholds: np.ndarray
    low_ratio: float = 0.8
    min_s: float = 0.0
    merge_gap_s: float = 0.5

    def __post_init__(self):
        """Raises UserError for rules that make no sense."""
        if not 0 < self.low_ratio <= 1:
            raise UserError(
                "An event goes on above a part of its threshold: more than 0, at most 1. "
                f"Received: low_ratio={self.low_ratio:g}."
            )
        for name in ("min_s", "merge_gap_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise UserError(
                    f"{name} must be a number of seconds, 0 or more. "
                    f"Received: {getattr(self, name):g}."
                )


def find_events(
    recording: EventRecording, window_scores: np.ndarray, card: ModelCard, rules: EventRules
) -> pd.DataFrame:
    """Finds the events of one recording.

    Probabilities are searched if the model is calibrated, else scores. The windows of a class
    that connect (`EventRules.low_ratio`) are an event from the centre of the first to the centre
    of the last, since a window is as sure as the call in its middle. One that is shorter than the
    species' mean box is widened to that on both sides, and cut at the ends of the recording.
    What then overlaps or is nearly adjacent (`EventRules.merge_gap_s`) is one event, so events
    of a class are always further apart than that.

    Args:
        recording: what the table says of it.
        window_scores: float [windows, classes], raw scores.
        card: of the model that gave them: where its windows lie, its calibration, the usual
            length of a call (a window where a species has none) and its band.
        rules: thresholds in the classes' order, and the rest.

    Returns:
        DataFrame of `EVENT_COLUMNS`, by start_s, then in the order of the classes.
    """
    probabilities = card.calibration and card.calibration.probabilities(window_scores)
    values = window_scores if probabilities is None else probabilities
    values = np.asarray(values, np.float64)
    centres_s = card.centres_s(len(values), recording.duration_s)
    rows = []
    for column, (species, threshold) in enumerate(
        zip(card.classes, np.asarray(rules.thresholds, np.float64), strict=True)
    ):
        low_hz, high_hz = card.box_hz[column]
        box_s = card.mean_box_s[column]
        box_s = card.window_s if math.isnan(box_s) else box_s
        runs = _connected_windows(values[:, column], threshold, threshold * rules.low_ratio)
        spans = [
            _span(centres_s[[first, last], column], box_s, recording.duration_s)
            for first, last in runs
        ]
        for (first, last), (start_s, end_s) in _merge(runs, spans, rules.merge_gap_s):
            if (last - first + 1) * card.hop_s < rules.min_s:
                continue
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


def _merge(
    runs: list[tuple[int, int]], spans: list[tuple[float, float]], gap_s: float
) -> list[tuple[tuple[int, int], tuple[float, float]]]:
    """Joins neighbours that are at most `gap_s` apart; both lists are in order of time."""
    merged: list[tuple[tuple[int, int], tuple[float, float]]] = []
    for run, span in zip(runs, spans, strict=True):
        if merged and span[0] - merged[-1][1][1] <= gap_s + _ROUNDING_S:
            (first, _), (start_s, end_s) = merged.pop()
            merged.append(((first, run[1]), (start_s, max(end_s, span[1]))))
        else:
            merged.append((run, span))
    return merged


def _wall_clock(start: datetime | None, seconds: float) -> str:
    if start is None:
        return ""
    return (start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
