"""Window scores of a recording -> events: when each species was heard, and how surely."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from rfcx_tf.events.table import EVENT_COLUMNS, MILLISECONDS, EventRecording
from rfcx_tf.scoring.card import ModelCard

# Far less than a sample: events that touch but for rounding are one.
_ROUNDING_S = 1e-9


# Boxes that share more than this part of both together are of one call.
_SAME_CALL_IOU = 0.3


class _Found(NamedTuple):
    """What was found of one class: an event on its way.

    Attributes:
        start_s, end_s: in the recording.
        peak: the window with the highest value.
        value: of that.
        band_hz: low and high.
        weight: of the band, when events become one.
    """

    start_s: float
    end_s: float
    peak: int
    value: float
    band_hz: np.ndarray
    weight: float


def find_events(
    recording: EventRecording,
    window_scores: np.ndarray,
    card: ModelCard,
    thresholds: np.ndarray | float,
    *,
    window_boxes: np.ndarray | None = None,
    low_ratio: float = 0.8,
    merge_gap_s: float = 0.2,
) -> pd.DataFrame:
    """Finds the events of one recording.

    Probabilities are searched if the model is calibrated, else scores. Windows from low_ratio times
    the threshold of their class on are taken together where they hear the same call, and are an
    event if one of them reaches the threshold.

    Where the model says in which box a call lies, windows hear the same call whose boxes share
    more than three tenths of what they cover together, and the event is the mean of their boxes,
    weighted by their values.

    Where it does not, windows in a row hear the same call, so a dip in the middle of a call does
    not cut it in two. They do so as long as half of the call lies in them: from the centre of the
    first to that of the last window is as long as a window if the call is alone. So the event is
    that less what a window is longer than the species' mean box, but at least as long as that box,
    and has the species' usual band.

    Events end with the recording. Events of a class that overlap or are at most merge_gap_s apart
    become one. Of those that are means of boxes, one that is less than low_ratio times as sure as
    the one that it touches is left out: else one would grow the more, the lower the threshold.

    Args:
        recording: what the table says of it.
        window_scores: float [windows, classes], raw scores.
        card: of the model that gave them: where its windows lie, its calibration, the usual
            length of a call (a window where a species has none) and its band.
        thresholds: float [classes], or one number, in units of the values that are searched; a
            class with NaN or infinity has no events.
        window_boxes: float [windows, classes, 4], see `RecordingScores`; None, or NaN: unknown.
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
        own, high = values[:, column], thresholds[column]
        low = high * low_ratio
        box_s, band_hz = card.mean_box_s[column], np.array(card.box_hz[column])
        box_s = card.window_s if math.isnan(box_s) else box_s
        found: list[_Found] = []
        if window_boxes is not None:
            boxes = window_boxes[:, column].astype(np.float64)
            has_box = np.isfinite(boxes).all(axis=1)
            of_boxes = _events_of_boxes(np.where(has_box, own, 0.0), high, low, boxes, card)
            found += _merged(of_boxes, recording.duration_s, merge_gap_s, low_ratio)
            own = np.where(has_box, 0.0, own)
        found += _events_of_windows(
            own, high, low, centres_s[:, column], card.window_s, box_s, band_hz
        )
        for event in _merged(found, recording.duration_s, merge_gap_s):
            rows.append(
                {
                    "recording_id": recording.recording_id,
                    "file": recording.file,
                    "species_id": species.species_id,
                    "species": species.name,
                    "start_s": event.start_s,
                    "end_s": event.end_s,
                    "low_hz": event.band_hz[0],
                    "high_hz": event.band_hz[1],
                    "score": window_scores[event.peak, column],
                    "probability": np.nan if probabilities is None else event.value,
                    "start_time": _wall_clock(recording.start, event.start_s),
                    "end_time": _wall_clock(recording.start, event.end_s),
                }
            )
    events = pd.DataFrame(rows, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)
    # Stable: events that begin together stay in the order of the classes.
    return events.sort_values("start_s", kind="stable", ignore_index=True)


def _events_of_boxes(
    values: np.ndarray, high: float, low: float, boxes: np.ndarray, card: ModelCard
) -> Iterator[_Found]:
    """Events of windows whose boxes are known; the surest window first, whose box others share."""
    begin, end = (np.arange(len(boxes)) * card.hop_s + boxes[:, n] for n in (0, 1))
    left = values >= low
    # Windows that hear one call lie no further from each other than a window is long.
    reach = math.ceil(card.window_s / card.hop_s)
    for seed in np.argsort(-values, kind="stable"):
        if not values[seed] >= high:
            break
        if not left[seed]:
            continue
        near = slice(max(0, seed - reach), seed + reach + 1)
        shared = np.minimum(end[near], end[seed]) - np.maximum(begin[near], begin[seed])
        both = np.maximum(end[near], end[seed]) - np.minimum(begin[near], begin[seed])
        same = near.start + np.flatnonzero(left[near] & (shared > _SAME_CALL_IOU * both))
        same = np.union1d(same, seed)
        left[same] = False
        weights = values[same]
        mean = np.average(
            np.column_stack([begin[same], end[same], boxes[same, 2:]]), axis=0, weights=weights
        )
        yield _Found(*mean[:2], int(seed), values[seed], mean[2:], weights.sum())


def _events_of_windows(
    values: np.ndarray,
    high: float,
    low: float,
    centres_s: np.ndarray,
    window_s: float,
    box_s: float,
    band_hz: np.ndarray,
) -> Iterator[_Found]:
    """Events of windows of which nothing but their values is known."""
    for first, last in _connected_windows(values, high, low):
        length_s = centres_s[last] - centres_s[first] - max(0.0, window_s - box_s)
        middle_s, half_s = (centres_s[first] + centres_s[last]) / 2, max(length_s, box_s) / 2
        peak = first + int(np.argmax(values[first : last + 1]))
        yield _Found(middle_s - half_s, middle_s + half_s, peak, values[peak], band_hz, 1.0)


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


def _merged(
    found: Iterable[_Found], duration_s: float, gap_s: float, low_ratio: float = 0.0
) -> list[_Found]:
    """Events inside the recording that neither overlap nor nearly do so, in order.

    The surest comes first. One that touches it becomes a part of it, if it is at least low_ratio
    times as sure; else it is left out. So what is found of a sure call does not depend on how low
    the threshold is.
    """
    kept: list[_Found] = []
    for event in sorted(found, key=lambda event: -event.value):
        start_s, end_s = max(0.0, event.start_s), min(duration_s, event.end_s)
        if end_s - start_s <= _ROUNDING_S:
            continue
        event = event._replace(start_s=start_s, end_s=end_s)
        apart = gap_s + _ROUNDING_S
        touched = [
            other
            for other in kept
            if event.start_s - other.end_s <= apart and other.start_s - event.end_s <= apart
        ]
        if any(event.value < low_ratio * other.value for other in touched):
            continue
        for other in touched:
            kept.remove(other)
            event = _joined(other, event)
        kept.append(event)
    return sorted(kept, key=lambda event: event.start_s)


def _joined(one: _Found, other: _Found) -> _Found:
    weight = one.weight + other.weight
    return max(one, other, key=lambda event: event.value)._replace(
        start_s=min(one.start_s, other.start_s),
        end_s=max(one.end_s, other.end_s),
        band_hz=(one.weight * one.band_hz + other.weight * other.band_hz) / weight,
        weight=weight,
    )


def _wall_clock(start: datetime | None, seconds: float) -> str:
    """A time of day, to the millisecond that the CSV rounds the seconds to."""
    if start is None:
        return ""
    start_us, ms = start.microsecond, np.round(seconds, MILLISECONDS)
    start += timedelta(milliseconds=round(start_us / 1000)) - timedelta(microseconds=start_us)
    return (start + timedelta(seconds=float(ms))).isoformat(timespec="milliseconds")
