"""Events and recordings -> how often each species was heard, hour by hour.

Hours are those of the day where it is known when recordings began, as their own clock has it;
else hours from a recording's beginning. Since recorders do not run at all hours alike, counts
are also given per hour that was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError


@dataclass(frozen=True)
class Activity:
    """Events by species and hour.

    Attributes:
        of_day: whether hours are those of the day; else from the beginning of recordings.
        counts: DataFrame, a row for every species_id, a column for every hour from 0 on: events
            that begin in it.
        recorded_h: float [hours], hours of sound; None if the length of a recording is unknown.
        left_out: events of recordings whose begin is unknown, where it is known of others.
        offsets: UTC offsets of the clocks, "" for one that does not say.
    """

    of_day: bool
    counts: pd.DataFrame
    recorded_h: np.ndarray | None
    left_out: int
    offsets: list[str]

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
    events: pd.DataFrame,
    starts: Mapping[str, datetime],
    durations_s: Mapping[str, float],
) -> Activity | None:
    """Counts events by hour.

    Args:
        events: a table of `EVENT_COLUMNS`. Its `start_time` comes before `starts`.
        starts: when recordings began, by recording_id.
        durations_s: lengths of all recordings that were searched, with events or without; empty
            if unknown.

    Returns:
        None if no recording's begin is known and none is longer than an hour: then there is
        nothing to tell hours apart by.

    Raises:
        UserError: if a start_time is no time.
    """
    known = dict(starts)
    for row in events[events["start_time"] != ""].itertuples():
        try:
            begin = datetime.fromisoformat(row.start_time) - timedelta(seconds=row.start_s)
        except (ValueError, OverflowError):
            raise UserError(
                f"start_time of an event must be ISO 8601. {row.recording_id} at {row.start_s:g} "
                f"s has {row.start_time!r}."
            ) from None
        known[row.recording_id] = begin
    of_day = bool(known)
    ids = events["recording_id"]
    if of_day:
        placed = events[ids.isin(known)]
        begin_h = placed["recording_id"].map({name: _hour(at) for name, at in known.items()})
        hours = 24
    else:
        placed, begin_h = events, 0.0
        longest_s = max([*durations_s.values(), *events["end_s"]], default=0.0)
        hours = int(np.ceil(longest_s / 3600))
        if hours < 2:
            return None
    hour = ((begin_h + placed["start_s"] / 3600) // 1).astype(int) % hours
    counts = pd.crosstab(placed["species_id"], hour).reindex(columns=range(hours), fill_value=0)
    recorded_h = None
    if set(ids) <= durations_s.keys():
        recorded_h = np.zeros(hours)
        for name, duration_s in durations_s.items():
            if not of_day or name in known:
                begin = _hour(known[name]) if of_day else 0.0
                recorded_h += _hours_covered(begin, duration_s / 3600, hours)
    offsets = sorted({at.strftime("%z") for at in known.values()})
    return Activity(of_day, counts, recorded_h, len(events) - len(placed), offsets)


def _hour(at: datetime) -> float:
    """Hours since midnight."""
    return at.hour + at.minute / 60 + (at.second + at.microsecond / 1e6) / 3600


def _hours_covered(begin_h: float, length_h: float, hours: int) -> np.ndarray:
    """How much of each of so many hours a stretch covers; behind the last comes the first."""
    edges = np.arange(int(begin_h), int(np.ceil(begin_h + length_h)) + 1)
    covered = np.diff(np.clip(edges, begin_h, begin_h + length_h))
    return np.bincount(edges[:-1] % hours, covered, minlength=hours)
