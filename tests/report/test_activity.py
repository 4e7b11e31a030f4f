"""Events fall into their hours, and hours of sound are counted to the second."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.core.errors import UserError
from rfcx_tf.report.activity import hourly_activity


def events(*rows):
    columns = ["recording_id", "species_id", "start_s", "end_s", "start_time"]
    return pd.DataFrame(rows, columns=columns).astype({"start_time": str})


def test_events_of_recordings_over_the_hour_and_over_midnight():
    found = events(
        ("evening", 1, 60.0, 61.0, "2023-04-01T23:46:00.000"),
        ("evening", 1, 1000.0, 1001.0, "2023-04-02T00:01:40.000"),
        ("dawn", 2, 0.0, 1.0, ""),
        ("nobody knows", 2, 5.0, 6.0, ""),
    )
    starts = {"dawn": datetime(2023, 4, 1, 5, 30, tzinfo=UTC)}
    durations_s = {"evening": 1800.0, "dawn": 3600.0, "silent": 60.0, "nobody knows": 60.0}
    starts["silent"] = datetime(2023, 4, 3, 5, 0)
    activity = hourly_activity(found, starts, durations_s)
    assert activity.of_day
    assert activity.left_out == 1
    counts = activity.counts.loc[1]
    assert (counts[23], counts[0], counts.sum()) == (1, 1, 2)
    assert activity.counts.loc[2, 5] == 1
    wanted = np.zeros(24)
    wanted[[23, 0, 5, 6]] = 0.25, 0.25, 0.5 + 1 / 60, 0.5
    assert activity.recorded_h == pytest.approx(wanted)
    assert activity.shown.loc[1, 23] == pytest.approx(4)
    assert np.isnan(activity.shown.loc[1, 12])
    assert activity.offsets == ["", "+0000"]


@settings(max_examples=25)
@given(
    st.datetimes(datetime(2023, 1, 1), datetime(2024, 1, 1)).map(
        lambda t: t.replace(microsecond=0)
    ),
    st.integers(1, 3000),
)
def test_hours_recorded_are_the_minutes_counted_one_by_one(start, minutes):
    start = start.replace(microsecond=0)
    activity = hourly_activity(events(), {"r": start}, {"r": minutes * 60.0})
    seconds = start.hour * 3600 + start.minute * 60 + start.second + 60 * np.arange(minutes)
    first = np.bincount(seconds // 3600 % 24, minlength=24)
    # Of a minute that crosses the hour, its seconds behind.
    behind = np.where(seconds % 3600 > 3540, seconds % 3600 - 3540, 0)
    moved = np.bincount(seconds // 3600 % 24, behind / 60, minlength=24)
    assert activity.recorded_h * 60 == pytest.approx(first - moved + np.roll(moved, 1), abs=1e-6)


def test_without_clocks_hours_of_long_recordings_are_counted():
    found = events(("long", 1, 100.0, 101.0, ""), ("long", 1, 7300.0, 7301.0, ""))
    activity = hourly_activity(found, {}, {"long": 9000.0, "short": 1800.0})
    assert not activity.of_day
    assert activity.counts.loc[1].tolist() == [1, 0, 1]
    assert activity.recorded_h == pytest.approx([1.5, 1, 0.5])
    assert hourly_activity(found[:1], {}, {"long": 1800.0}) is None


def test_rates_are_not_made_up():
    found = events(("a", 1, 0.0, 1.0, "2023-04-01T05:00:00"))
    assert hourly_activity(found, {}, {}).recorded_h is None
    with pytest.raises(UserError, match="a at 0 s has 'dawn'"):
        hourly_activity(found.assign(start_time="dawn"), {}, {})


def test_a_recording_begun_at_seven_is_counted_at_seven_whatever_tables_round():
    # 12.3456 s are 12.346 in the table's seconds; its time of day may have been cut to 12.345.
    rows = [(s, f"2023-04-01T07:00:{s:06.3f}") for s in (12.345, 12.346, 3.0005, 59.9)]
    found = events(
        *[("a", 1, s + ms, s + 1.0, at) for s, at in rows for ms in (-0.001, -0.0004, 0.0, 0.001)]
    )
    activity = hourly_activity(found, {}, {"a": 60.0})
    assert activity.counts.loc[1, 7] == len(found)
    assert np.flatnonzero(activity.recorded_h).tolist() == [7]
    assert activity.shown.loc[1, 7] == pytest.approx(len(found) * 60)


def test_a_moment_beyond_the_hour_is_not_an_hour_that_was_recorded():
    found = events(("a", 1, 3600.05, 3600.1, ""), ("a", 1, 10.0, 11.0, ""))
    activity = hourly_activity(found, {"a": datetime(2023, 4, 1, 7)}, {"a": 3600.12})
    assert np.flatnonzero(activity.recorded_h).tolist() == [7]
    assert activity.shown.loc[1].dropna().to_dict() == {7: 2.0}
