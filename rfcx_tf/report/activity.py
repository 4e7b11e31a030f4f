"""Events and recordings -> how often each species was heard, hour by hour.

Where the start times of recordings are known, an hour is one of the day on the recorder's clock.
Else hours count from the beginning of a recording. Recorders do not run equally in all hours, so
events are also given per hour of sound. A recording covers whole seconds: what it has of an hour
beyond them is too little to divide by, and events in it count in the hour beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError


@dataclass(frozen=True)
class Activity:
    """Events by species and hour.

    Attributes:
        of_day: True: hours of the day. False: hours from the beginning of recordings.
        counts: DataFrame of species_id by hour (0, 1, ...): events that begin in the hour.
        recorded_h: float [hours], hours of sound; None if the length of a recording is unknown.
        left_out: events whose time is not known.
        offsets: UTC offsets of the clocks; "" for a clock without one.
        starts: when recordings began, by recording_id; empty where that is not known of any.
        event_hours: DataFrame species_id, hour: the hour of every event that has one, counted
            from midnight of `first_day`.
        day_hours_h: Series of the hours of sound in every such hour that has any; None as
            `recorded_h`.
    """

    of_day: bool
    counts: pd.DataFrame
    recorded_h: np.ndarray | None
    left_out: int
    offsets: list[str]
    starts: Mapping[str, datetime]
    event_hours: pd.DataFrame
    day_hours_h: pd.Series | None

    @property
    def first_day(self) -> date | None:
        """The day of the earliest start."""
        return min((at.date() for at in self.starts.values()), default=None)

    @property
    def shown(self) -> pd.DataFrame:
        """Events per recorded hour, NaN in hours that were not recorded; else counts."""
        if self.recorded_h is None:
            return self.counts
        return self.counts / np.where(self.recorded_h > 0, self.recorded_h, np.nan)

    def hour_text(self, hour: int) -> str:
        """An hour in words."""
        if self.of_day:
            return f"{hour:02d}:00 to {(hour + 1) % 24:02d}:00"
        return f"hour {hour + 1}"


def hourly_activity(
    events: pd.DataFrame, starts: Mapping[str, datetime], durations_s: Mapping[str, float]
) -> Activity | None:
    """Counts events by hour.

    Args:
        events: a table of `EVENT_COLUMNS`. Its `start_time` overrules `starts`.
        starts: start times by recording_id.
        durations_s: lengths of all searched recordings by recording_id; empty if unknown.

    Returns:
        None if no start time is known and no recording is longer than an hour.

    Raises:
        UserError: if a start_time is not ISO 8601.
    """
    known = dict(starts)
    for row in events[events["start_time"] != ""].itertuples():
        try:
            at = datetime.fromisoformat(row.start_time)
            begin = _tenth(at - timedelta(seconds=row.start_s))
        except (ValueError, OverflowError):
            raise UserError(
                f"start_time of an event must be ISO 8601. {row.recording_id} at {row.start_s:g} "
                f"s has {row.start_time!r}."
            ) from None
        known[row.recording_id] = begin
    hours = 24
    first_day = min((at.date() for at in known.values()), default=None)
    begin_h = {name: 24 * (at.date() - first_day).days + _hour(at) for name, at in known.items()}
    if not known:
        longest_s = max([*durations_s.values(), *events["end_s"]], default=0.0)
        hours = int(np.ceil(longest_s / 3600))
        if hours < 2:
            return None
        begin_h = dict.fromkeys([*durations_s, *events["recording_id"]], 0.0)
    placed = events[events["recording_id"].isin(begin_h.keys())]
    own_begin_h, own_s = (placed["recording_id"].map(known) for known in (begin_h, durations_s))
    at_h = own_begin_h + placed["start_s"] / 3600
    # Of a recording of unknown length the end is nowhere.
    first_s, last_s = _whole_seconds(own_begin_h, own_s.astype(float).fillna(np.inf))
    at_h = at_h.clip(first_s / 3600, np.maximum(first_s, last_s - 0.5) / 3600)
    hour = np.floor(at_h).astype(int)
    of_day = pd.crosstab(placed["species_id"], hour % hours)
    counts = of_day.reindex(columns=range(hours), fill_value=0)
    recorded_h = day_hours_h = None
    if set(events["recording_id"]) <= durations_s.keys():
        stretches = [
            _hours_covered(begin_h[name], duration_s)
            for name, duration_s in durations_s.items()
            if name in begin_h
        ] or [([], [])]
        edges, covered_h = (np.concatenate([[], *parts]) for parts in zip(*stretches, strict=True))
        day_hours_h = pd.Series(covered_h, edges.astype(int)).groupby(level=0).sum()
        recorded_h = np.bincount(day_hours_h.index % hours, day_hours_h, hours)
    return Activity(
        of_day=bool(known),
        counts=counts,
        recorded_h=recorded_h,
        left_out=len(events) - len(placed),
        offsets=sorted({at.strftime("%z") for at in known.values()}),
        starts=known,
        event_hours=pd.DataFrame({"species_id": placed["species_id"], "hour": hour}),
        day_hours_h=day_hours_h,
    )


def _hour(at: datetime) -> float:
    """Hours since midnight."""
    return at.hour + at.minute / 60 + (at.second + at.microsecond / 1e6) / 3600


def _tenth(at: datetime) -> datetime:
    """A start to a tenth of a second: tables round an event's seconds and time of day by parts of
    milliseconds, and a recording must not begin in the hour before its own.
    """
    tenths = round(at.microsecond / 1e5)
    return at + timedelta(seconds=tenths / 10) - timedelta(microseconds=at.microsecond)


def _whole_seconds(begin_h, duration_s):
    """The first second of a recording and the one after its last, counted from midnight."""
    return np.round(begin_h * 3600), np.round(begin_h * 3600 + duration_s)


def _hours_covered(begin_h: float, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """The hours that a stretch touches, and how much of it falls into each, in hours."""
    first_s, last_s = _whole_seconds(begin_h, duration_s)
    edges = np.arange(first_s // 3600, np.ceil(last_s / 3600) + 1).astype(int)
    covered_s = np.diff(np.clip(edges * 3600, first_s, last_s))
    return edges[:-1], covered_s / 3600
