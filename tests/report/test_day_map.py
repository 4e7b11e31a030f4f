"""Maps of days by hours: cells lie where events were, lines where almanacs have the sun."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from page_reader import Page, points

from rfcx_tf.core.errors import UserError
from rfcx_tf.report.activity import hourly_activity
from rfcx_tf.report.day_map import day_maps, days_a_column, map_days
from rfcx_tf.report.sun import (
    Place,
    SunTimes,
    clock_offsets,
    places_of_recordings,
    read_sites,
    read_time_zone,
    sun_times,
)

STARTS = {"a": datetime(2023, 4, 1, 5), "b": datetime(2023, 4, 2, 23, 30)}


def events(*rows):
    columns = ["recording_id", "species_id", "start_s", "end_s"]
    return pd.DataFrame(rows, columns=columns).assign(start_time="")


def cells(chart, colour):
    """Day and hour of every cell of a colour, on a map of three days."""
    found = []
    for path in Page(chart).of("path"):
        if path["fill"] == colour:
            corners = points(path).reshape(-1, 4, 2)
            # 28 on the left, 8 above; a day is 60 wide and an hour 5.5 high.
            day = (corners[..., 0].min(axis=1) - 28) / 60
            first = 24 - (corners[..., 1].max(axis=1) - 8) / 5.5
            last = 24 - (corners[..., 1].min(axis=1) - 8) / 5.5
            for d, low, high in np.stack([day, first, last], axis=1).round().astype(int).tolist():
                found += [(d, hour) for hour in range(low, high)]
    return sorted(found)


def test_cells_are_the_hours_that_were_heard_and_recorded():
    found = events(("a", 1, 60.0, 61.0), ("a", 1, 90.0, 91.0), ("b", 2, 2000.0, 2001.0))
    activity = hourly_activity(found, STARTS, {"a": 7200.0, "b": 3600.0})
    days = map_days(activity)
    # The recording of the second day goes on after midnight.
    assert days == [date(2023, 4, day) for day in (1, 2, 3)]
    sun = SunTimes(np.array([6.0, 6.0, np.nan]), np.array([18.0] * 3))
    both, one, two = day_maps(activity, days, {"s1": "one", "s2": "two"}, [sun])
    assert [both[0], one[0], two[0]] == ["All species", "one", "two"]
    assert one[1] == "at most 2 events per recorded hour, on 2023-04-01, 05:00 to 06:00"
    # Half an hour of that hour was recorded.
    assert two[1] == "at most 2 events per recorded hour, on 2023-04-03, 00:00 to 01:00"
    assert cells(one[2], "var(--line0)") == [(0, 5)]
    assert cells(one[2], "var(--rule)") == [(0, 6), (1, 23), (2, 0)]
    assert cells(both[2], "var(--line0)") == [(0, 5), (2, 0)]
    lines = [points(p) for p in Page(one[2]).of("path") if p.get("stroke") == "var(--line1)"]
    # Sunrise ends where it is not known.
    wanted = [[58, 107], [118, 107]], [[58, 41], [118, 41], [178, 41]]
    for line, expected in zip(lines, wanted, strict=True):
        assert line == pytest.approx(np.array(expected, float), abs=0.11)


def test_many_days_share_columns():
    starts = {
        "a": datetime(2021, 1, 1, 22),
        "b": datetime(2021, 1, 2, 23),
        "c": datetime(2021, 12, 31),
    }
    found = events(("a", 1, 60.0, 61.0), ("b", 1, 60.0, 61.0))
    activity = hourly_activity(found, starts, dict.fromkeys(starts, 7200.0))
    days = map_days(activity)
    assert (len(days), days_a_column(days)) == (365, 3)
    (chart,) = day_maps(activity, days, {"s1": "one"}, [])
    # An event in two hours of sound that both recordings have from 23:00 on.
    assert chart[1] == "at most 1 events per recorded hour, from 2021-01-01, 22:00 to 23:00"
    page = Page(chart[2])
    shades = {
        p.get("opacity", "1"): points(p) for p in page.of("path") if p["fill"] == "var(--line0)"
    }
    assert sorted(shades) == ["0.53", "1"]
    # The first column of 122; 23:00 lies above 22:00.
    width = 294 / 122
    for shade, hour in (("1", 22), ("0.53", 23)):
        corners = shades[shade]
        assert corners[:, 0].min() == pytest.approx(28, abs=0.11)
        assert np.ptp(corners[:, 0]) == pytest.approx(width, abs=0.11)
        assert corners[:, 1].max() == pytest.approx(8 + 5.5 * (24 - hour), abs=0.11)


def test_without_lengths_counts_are_shown_and_without_clocks_nothing():
    activity = hourly_activity(events(("a", 1, 60.0, 61.0), ("b", 1, 60.0, 61.0)), STARTS, {})
    (chart,) = day_maps(activity, map_days(activity), {"s1": "one"}, [])
    assert chart[1] == "at most 1 events, on 2023-04-01, 05:00 to 06:00"
    assert cells(chart[2], "var(--line0)") == [(0, 5), (1, 23)]
    assert map_days(hourly_activity(events(("a", 1, 5000.0, 5001.0)), {}, {})) == []


@pytest.mark.parametrize(
    ("place", "day", "offset_h", "rise", "set_"),
    [
        # HM Nautical Almanac Office, London: 21 June 2021, 04:43 and 21:21 BST.
        (Place(51.51, -0.13), date(2021, 6, 21), 1, "04:43", "21:21"),
        # US Naval Observatory, San Juan: 21 June, 05:50 and 19:03 AST; on a clock of UTC the sun
        # sets shortly before midnight.
        (Place(18.47, -66.11), date(2021, 6, 21), -4, "05:50", "19:03"),
        (Place(18.47, -66.11), date(2021, 6, 21), 0, "09:50", "23:03"),
    ],
)
def test_the_sun_is_where_almanacs_have_it(place, day, offset_h, rise, set_):
    (sun,) = sun_times(
        [place, Place(place.latitude, place.longitude + 0.01)], [day], [timedelta(hours=offset_h)]
    )
    for hours, text in ((sun.rise_h, rise), (sun.set_h, set_)):
        hour, minute = map(int, text.split(":"))
        assert hours == pytest.approx([hour + minute / 60], abs=2 / 60)


def test_there_is_no_sunset_in_the_polar_summer():
    (sun,) = sun_times([Place(78.2, 15.6)], [date(2021, 6, 21)], [timedelta(hours=2)])
    assert np.isnan(sun.rise_h).all() and np.isnan(sun.set_h).all()


def test_clocks_are_those_of_the_starts_or_of_the_zone():
    days = [date(2021, 3, 27), date(2021, 3, 29)]
    zone = read_time_zone("Europe/Berlin")
    assert clock_offsets(days, [], zone) == [timedelta(hours=1), timedelta(hours=2)]
    summer = timezone(timedelta(hours=2))
    starts = [datetime(2021, 3, 28, 5, tzinfo=summer), datetime(2021, 3, 27, 5, tzinfo=UTC)]
    assert clock_offsets(days, starts, None) == [timedelta(0), timedelta(hours=2)]
    with pytest.raises(UserError, match=r"start of 1 recordings, such as 2021-03-28 05:00:00.*--t"):
        clock_offsets(days, [starts[1], datetime(2021, 3, 28, 5)], None)
    with pytest.raises(UserError, match=r"IANA list.*Received: Mars"):
        read_time_zone("Mars")


def test_sites_have_places(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("site;latitude;longitude\nnorth;18,4;-66,1\nsouth;17,9;-66,2\n")
    sites = read_sites(path)
    assert sites == {"north": Place(18.4, -66.1), "south": Place(17.9, -66.2)}
    assert places_of_recordings(["south/a", "south/b"], sites) == [sites["south"]]
    with pytest.raises(UserError, match=r"lacks 1 \(east\)"):
        places_of_recordings(["east/a", "north/b"], sites)
    with pytest.raises(UserError, match="called by their paths"):
        places_of_recordings(["a"], sites)
    path.write_text("site,latitude,longitude\nnorth,-66.1,18.4\nsouth,98,1\n")
    with pytest.raises(UserError, match=r"sites\.csv:3: a latitude is from -90 to 90 .*: 98"):
        read_sites(path)
    path.write_text("site,latitude,longitude\nnorth,8,1\nnorth,8,2\n")
    with pytest.raises(UserError, match=r"sites\.csv:3: a site has one place"):
        read_sites(path)
