"""Activity -> maps of days by hours, with the lines of sunrise and sunset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.report.activity import Activity
from rfcx_tf.report.charts import LINES, RULE, Chart, add_axes, name_axes, new_figure, svg
from rfcx_tf.report.sun import SunTimes

# Pixels.
_WIDTH, _LEFT, _TOP, _HOUR_HEIGHT, _WIDEST_DAY = 340, 28, 8, 5.5, 60
_SHADES = (0.3, 0.53, 0.76, 1.0)


def map_days(activity: Activity) -> list[date]:
    """The days that a map has, from the first to the last of anything; none without clocks."""
    if not activity.of_day:
        return []
    hours = [activity.event_hours["hour"]]
    if activity.day_hours_h is not None:
        hours.append(activity.day_hours_h.index.to_series())
    last = pd.concat(hours).max()
    count = 1 if pd.isna(last) else int(last) // 24 + 1
    return [activity.first_day + timedelta(days=number) for number in range(count)]


def day_maps(
    activity: Activity, days: Sequence[date], names: Mapping[str, str], suns: Iterable[SunTimes]
) -> list[Chart]:
    """Maps of all species together, and of every species that was heard.

    Args:
        activity: with the hours of days.
        days: of `map_days`.
        names: of species, by class column s<id>.
        suns: of these days.
    """
    found, recorded_h = activity.event_hours, activity.day_hours_h
    suns = list(suns)
    totals = found["species_id"].value_counts().sort_index()
    totals = totals.sort_values(ascending=False, kind="stable")
    groups = [("All species", found)]
    groups += [(names[f"s{i}"], found[found["species_id"] == i]) for i in totals.index]
    if len(groups) == 2:
        del groups[0]
    charts = []
    for name, rows in groups:
        values = rows["hour"].value_counts().sort_index().astype(float)
        unit = "events"
        if recorded_h is not None:
            unit = "events per recorded hour"
            values = values / recorded_h.reindex(values.index)
        words = f"no {unit}"
        if len(values):
            day, hour = divmod(int(values.idxmax()), 24)
            words = f"at most {values.max():.4g} {unit}, on {days[day]}, {activity.hour_text(hour)}"
        title = f"{name} by day and hour: {words}"
        charts.append((name, words, _draw(values, unit, recorded_h, days, suns, title)))
    return charts


def _draw(values, unit: str, recorded_h, days, suns: Sequence[SunTimes], title: str):
    """One map: days from left to right, hours upwards."""
    from matplotlib.patches import PathPatch

    day_width = min(_WIDEST_DAY, (_WIDTH - _LEFT - 10) / len(days))
    height = 24 * _HOUR_HEIGHT
    figure = new_figure(_WIDTH, _TOP + height + 20)
    axis = add_axes(figure, _LEFT, _TOP, day_width * len(days), height)
    axis.set(xlim=(0, len(days)), ylim=(0, 24), yticks=range(0, 25, 6))
    ticks = np.unique(np.linspace(0, len(days) - 1, min(5, len(days))).astype(int))
    axis.set_xticks(ticks + 0.5, [f"{days[tick]:%m-%d}" for tick in ticks])
    name_axes(axis)
    words = {}

    def paint(hours, said: str, **style) -> None:
        if len(hours):
            patch = PathPatch(_cells(hours), linewidth=0, clip_on=False, **style)
            patch.set_gid(said)
            words[said] = said
            axis.add_patch(patch)

    if recorded_h is not None:
        paint(recorded_h.index.difference(values.index), "recorded, no events", color=RULE)
    most = values.max()
    shade = np.ceil(len(_SHADES) * values / most).clip(1)
    for number, alpha in enumerate(_SHADES, start=1):
        low, high = (most * step / len(_SHADES) for step in (number - 1, number))
        hours = values.index[shade == number]
        paint(hours, f"{low:.3g} to {high:.3g} {unit}", color=LINES[0], alpha=alpha)
    middles = np.arange(len(days)) + 0.5
    for sun in suns:
        for hours in (sun.rise_h, sun.set_h):
            axis.plot(*_broken(middles, hours), color=LINES[1], linewidth=1.5)
    return svg(figure, title, words)


def _cells(hours):
    """A path of the cells of hours, counted from midnight of the first day."""
    from matplotlib.path import Path

    day, hour = np.divmod(np.asarray(hours, float), 24)
    x, y = day[:, None] + [0, 1, 1, 0, 0], hour[:, None] + [0, 0, 1, 1, 0]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(np.stack([x.ravel(), y.ravel()], axis=1), np.tile(codes, len(day)))


def _broken(middles: np.ndarray, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line that has a gap where it leaves the day at one end and comes back at the other."""
    jumps = np.flatnonzero(np.abs(np.diff(hours)) > 12) + 1
    return np.insert(middles, jumps, np.nan), np.insert(hours, jumps, np.nan)
