"""Places and days -> when the sun rises and sets there, on the recorders' clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from rfcx_tf.core.csv_tables import read_csv, read_number
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.report.sites import site_of


@dataclass(frozen=True)
class Place:
    """Degrees, north and east positive."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class SunTimes:
    """Attributes:
    rise_h, set_h: float [days], hours of the clock's day; NaN where the sun does not.
    """

    rise_h: np.ndarray
    set_h: np.ndarray


def make_place(latitude: float, longitude: float, where: str) -> Place:
    """A place on Earth; `where` its numbers stand begins the error for others."""
    for name, value, most in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        if not -most <= value <= most:
            raise UserError(
                f"{where}: a {name} is from -{most} to {most} degrees. Received: {value:g}."
            )
    return Place(latitude, longitude)


def read_sites(path: Path) -> dict[str, Place]:
    """Places by site, from a CSV with the columns site, latitude and longitude.

    Raises:
        UserError: naming file and line, if it cannot be read, or a site comes twice.
    """
    columns = ("site", "latitude", "longitude")
    places: dict[str, Place] = {}
    for where, cells in read_csv(path, columns, numbers=columns[1:]).rows:
        if cells["site"] in places:
            raise UserError(f"{where}: a site has one place. {cells['site']} has one above.")
        numbers = [read_number(where, name, cells[name]) for name in columns[1:]]
        places[cells["site"]] = make_place(*numbers, where)
    return places


def places_of_recordings(recordings: Iterable[str], sites: Mapping[str, Place]) -> list[Place]:
    """The places of the recordings' sites.

    Raises:
        UserError: if a site has none.
    """
    found = {site_of(name) for name in recordings}
    if found <= {""}:
        raise UserError(
            "A table of sites is for recordings that are called by their paths (--recording-ids "
            "path of predict). These have no folder in their ids. Name --latitude and --longitude."
        )
    if lacking := sorted(found - sites.keys()):
        raise UserError(
            "A table of sites names every site of the recordings. It lacks "
            f"{first_few(name or 'recordings without a folder' for name in lacking)}. Add a row."
        )
    return [sites[name] for name in sorted(found)]


def read_time_zone(name: str) -> tzinfo:
    """A time zone by its name, such as UTC or America/Puerto_Rico; UserError for others."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UserError(
            "A time zone is one of the IANA list, such as UTC, Etc/GMT+4 or America/Puerto_Rico. "
            f"Received: {name}."
        ) from None


def clock_offsets(
    days: Sequence[date], starts: Iterable[datetime], zone: tzinfo | None
) -> list[timedelta]:
    """How far the recorders' clocks were ahead of UTC on each day.

    Args:
        days: in their order.
        starts: of recordings, on their clocks.
        zone: that the clocks show; None: that of the starts.

    Raises:
        UserError: if there is no zone and a start does not say it.
    """
    if zone is not None:
        return [datetime.combine(day, time(12), zone).utcoffset() for day in days]
    starts = sorted(starts, key=lambda at: at.replace(tzinfo=None))
    unknown = [at for at in starts if at.tzinfo is None]
    if unknown:
        raise UserError(
            "The sun needs to know what the recorders' clocks show. The start of "
            f"{len(unknown)} recordings, such as {unknown[0].isoformat(' ')}, has no offset from "
            "UTC. Add --time-zone, such as UTC or America/Puerto_Rico."
        )
    offsets, place = [], 0
    for day in days:
        while place + 1 < len(starts) and starts[place + 1].date() <= day:
            place += 1
        offsets.append(starts[place].utcoffset())
    return offsets


def sun_times(places: Iterable[Place], days: Sequence[date], offsets) -> list[SunTimes]:
    """When the sun rises and sets; places that lie within a tenth of a degree are one.

    Args:
        places: of the recorders.
        days: of their clocks.
        offsets: of `clock_offsets`.
    """
    from astral import Observer
    from astral.sun import sunrise, sunset

    def hour(event, observer, day, offset) -> float:
        try:
            at = event(observer, day, timezone(offset))
        except ValueError:  # It stays up or below all day.
            return np.nan
        return at.hour + at.minute / 60 + at.second / 3600

    tenths = sorted({(round(p.latitude, 1), round(p.longitude, 1)) for p in places})
    times = []
    for latitude, longitude in tenths:
        observer = Observer(latitude, longitude)
        rise_h, set_h = (
            np.array([hour(event, observer, *at) for at in zip(days, offsets, strict=True)])
            for event in (sunrise, sunset)
        )
        times.append(SunTimes(rise_h, set_h))
    return times
