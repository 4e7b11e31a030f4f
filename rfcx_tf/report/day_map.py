"""Activity -> maps of days by hours, with the lines of sunrise and sunset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from rfcx_tf.report.activity import Activity
from rfcx_tf.report.charts import LINES, RULE, Chart, add_axes, name_axes, new_figure, svg
from rfcx_tf.report.sun import SunTimes

# Pixels.
_WIDTH, _LEFT, _RIGHT, _TOP, _HOUR_HEIGHT, _WIDEST_DAY = 340, 28, 18, 8, 5.5, 60
_MOST_COLUMNS = 150
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
    first = activity.first_day
    return [first + timedelta(days=number) for number in range(count)]


def days_a_column(days: Sequence[date]) -> int:
    """How many days a column of a map has: more than one where columns would be too narrow."""
    return math.ceil(len(days) / _MOST_COLUMNS)


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
    step, suns = days_a_column(days), list(suns)

    def cell(hour):
        """Cells are numbered as hours are, but by columns."""
        return hour // (24 * step) * 24 + hour % 24

    found = found.assign(cell=cell(found["hour"]))
    if recorded_h is not None:
        recorded_h = recorded_h.groupby(cell(recorded_h.index)).sum()
    totals = found["species_id"].value_counts().sort_index()
    totals = totals.sort_values(ascending=False, kind="stable")
    groups = [("All species", found)]
    groups += [(names[f"s{i}"], found[found["species_id"] == i]) for i in totals.index]
    if len(groups) == 2:
        del groups[0]
    charts = []
    for name, rows in groups:
        values = rows["cell"].value_counts().sort_index().astype(float)
        unit = "events"
        if recorded_h is not None:
            unit = "events per recorded hour"
            values = values / recorded_h.reindex(values.index)
        words = f"no {unit}"
        if len(values):
            column, hour = divmod(int(values.idxmax()), 24)
            at = f"{'on' if step == 1 else 'from'} {days[column * step]}"
            words = f"at most {values.max():.4g} {unit}, {at}, {activity.hour_text(hour)}"
        title = f"{name} by day and hour: {words}"
        charts.append((name, words, _draw(values, unit, recorded_h, days, suns, title)))
    return charts


def _draw(values, unit: str, recorded_h, days, suns: Sequence[SunTimes], title: str):
    """One map: days from left to right, hours upwards."""
    from matplotlib.patches import PathPatch

    step = days_a_column(days)
    columns = math.ceil(len(days) / step)
    width = columns * min(_WIDEST_DAY, (_WIDTH - _LEFT - _RIGHT) / columns)
    figure = new_figure(_WIDTH, _TOP + 24 * _HOUR_HEIGHT + 20)
    axis = add_axes(figure, _LEFT, _TOP, width, 24 * _HOUR_HEIGHT)
    axis.set(xlim=(0, columns), ylim=(0, 24), yticks=range(0, 25, 6))
    ticks = np.unique(np.linspace(0, columns - 1, min(5, columns)).astype(int))
    axis.set_xticks(ticks + 0.5, [f"{days[tick * step]:%m-%d}" for tick in ticks])
    name_axes(axis)
    words = {}

    def paint(cells, said: str, **style) -> None:
        if len(cells):
            patch = PathPatch(_outline(cells), linewidth=0, clip_on=False, **style)
            patch.set_gid(said)
            words[said] = said
            # It needs no limits, which take long to find.
            axis.add_artist(patch)

    if recorded_h is not None:
        paint(recorded_h.index.difference(values.index), "recorded, no events", color=RULE)
    most = values.max()
    shade = np.ceil(len(_SHADES) * values / most).clip(1)
    for number, alpha in enumerate(_SHADES, start=1):
        low, high = (most * part / len(_SHADES) for part in (number - 1, number))
        cells = values.index[shade == number]
        paint(cells, f"{low:.3g} to {high:.3g} {unit}", color=LINES[0], alpha=alpha)
    middles = (np.arange(len(days)) + 0.5) / step
    for sun in suns:
        for hours in (sun.rise_h, sun.set_h):
            axis.plot(*_broken(middles, hours), color=LINES[1], linewidth=1.5)
    return svg(figure, title, words)


def _outline(cells):
    """A path around cells; those above each other are one rectangle."""
    from matplotlib.path import Path

    cells = np.sort(np.asarray(cells, int))
    first = np.diff(cells, prepend=-2) != 1
    first |= cells % 24 == 0
    last = np.append(first[1:], True)
    column, low = np.divmod(cells[first], 24)
    high = cells[last] % 24 + 1
    x = column[:, None] + [0, 1, 1, 0, 0]
    y = np.stack([low, low, high, high, low], axis=1)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(np.stack([x.ravel(), y.ravel()], axis=1), np.tile(codes, len(x)))


def _broken(middles: np.ndarray, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line that has a gap where it leaves the day at one end and comes back at the other."""
    jumps = np.flatnonzero(np.abs(np.diff(hours)) > 12) + 1
    return np.insert(middles, jumps, np.nan), np.insert(hours, jumps, np.nan)
