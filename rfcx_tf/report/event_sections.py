"""Events, and what belongs to them -> the sections of their page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from rfcx_tf.evaluation.recordings import Evaluation, evaluate_scores
from rfcx_tf.report.activity import Activity
from rfcx_tf.report.charts import bar_chart
from rfcx_tf.report.data_table import Column, data_table
from rfcx_tf.report.event_choice import event_values
from rfcx_tf.report.event_picture import clock_text
from rfcx_tf.report.markup import Html, element, join
from rfcx_tf.report.page import tiles
from rfcx_tf.report.precision_recall import draw_curves, precision_recall
from rfcx_tf.report.run_sections import shown_columns
from rfcx_tf.scoring.score_table import class_columns

# More rows than this make a page slow on a phone; the file has them all.
_MOST_ROWS = 1000

_SPECIES = [
    Column("name", "Species"),
    Column("class", "Class"),
    Column("events", "Events"),
    Column("recordings", "Recordings", "in which there are events"),
    Column("minutes", "Minutes", "that the events last together", 1),
    Column("best", "Surest", "highest probability of an event, or score where uncalibrated", 3),
    Column("middle", "Median", "of the events' probabilities, or scores", 3),
    Column("busiest", "Busiest hour", "with most events per recorded hour"),
    Column("mean_score", "Mean score", "of all scored recordings", 3),
    Column("positives", "In truth", "recordings that the truth has it in"),
    Column("lwlrap", "LWLRAP", "mean precision in the ranking of the recordings it is in", 3),
    Column("average_precision", "AP", "average precision over recordings", 3),
]


@dataclass(frozen=True)
class Found:
    """Events and what is known around them.

    Attributes:
        events: a table of `EVENT_COLUMNS`.
        names: of all species that were looked for, by class column s<id>.
        durations_s: lengths of all recordings that were searched.
        starts: when recordings began.
        activity: by hour; None if it is not known when anything was.
        scores: of recordings; None if not given.
        truth: of the same recordings; None if not given.
    """

    events: pd.DataFrame
    names: dict[str, str]
    durations_s: Mapping[str, float]
    starts: Mapping[str, datetime]
    activity: Activity | None
    scores: pd.DataFrame | None = None
    truth: pd.DataFrame | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether events have probabilities."""
        return bool(self.events["probability"].notna().any())

    def evaluation(self) -> Evaluation | None:
        """Scores against truth, where there are both."""
        if self.scores is None or self.truth is None:
            return None
        return evaluate_scores(self.scores, self.truth, self.names)


def overview(found: Found, evaluation: Evaluation | None) -> Html:
    """The figures at the top."""
    events = found.events
    hours = sum(found.durations_s.values()) / 3600
    kind = "calibrated probabilities" if found.is_calibrated else "scores, not calibrated"
    figures = [
        ("Events", str(len(events)), kind),
        (
            "Species heard",
            f"{events['species_id'].nunique()} of {len(found.names)}",
            "with at least one event",
        ),
        (
            "Recordings",
            str(len(found.durations_s) or events["recording_id"].nunique()),
            f"{events['recording_id'].nunique()} of them with events",
        ),
    ]
    if hours:
        figures.append(("Sound", _length_text(hours), ""))
    days = sorted({at.date().isoformat() for at in found.starts.values()})
    if days:
        remark = f"to {days[-1]}, {len(days)} days" if len(days) > 1 else ""
        figures.append(("Recorded on", days[0], remark))
    if evaluation is not None:
        remark = f"{evaluation.recordings} recordings; chance {evaluation.chance:.3f}"
        figures.append(("LWLRAP", f"{evaluation.lwlrap:.3f}", remark))
    return tiles(figures)


def species_rows(found: Found, evaluation: Evaluation | None) -> pd.DataFrame:
    """A row for every species: what `_SPECIES` says of it."""
    events = found.events.assign(value=event_values(found.events))
    events["seconds"] = events["end_s"] - events["start_s"]
    by_id = events.groupby("species_id")
    ids = [int(column[1:]) for column in found.names]
    rows = pd.DataFrame({"class": list(found.names), "name": list(found.names.values())}, ids)
    rows["events"] = by_id.size().reindex(ids, fill_value=0)
    rows["recordings"] = by_id["recording_id"].nunique().reindex(ids, fill_value=0)
    rows["minutes"] = by_id["seconds"].sum().reindex(ids, fill_value=0.0) / 60
    rows["best"], rows["middle"] = by_id["value"].max(), by_id["value"].median()
    if found.activity is not None and len(found.activity.counts):
        activity = found.activity
        rates = activity.counts if activity.recorded_h is None else activity.rates
        busiest = rates.idxmax(axis=1)
        rows["busiest_hour"] = busiest.reindex(ids)
        rows["busiest"] = [_hour_text(activity, busiest[i]) if i in busiest else None for i in ids]
    if found.scores is not None:
        mean = found.scores[class_columns(found.scores)].mean()
        rows["mean_score"] = mean.reindex(found.names).to_numpy()
    if evaluation is not None:
        of = evaluation.per_class.set_index("class")
        rows = rows.join(of[["positives", "lwlrap", "average_precision"]], on="class")
    return rows.sort_values(["events", "name"], ascending=[False, True], kind="stable")


def species_table(found: Found, evaluation: Evaluation | None) -> Html:
    """The table of species, the most often heard first."""
    rows = species_rows(found, evaluation)
    columns = [
        Column("busiest", c.title, c.about, sort_key="busiest_hour") if c.key == "busiest" else c
        for c in shown_columns(_SPECIES, rows)
    ]
    return data_table(
        "species-found",
        f"{len(rows)} species that were looked for",
        rows,
        columns,
        filter_label="Filter by species",
        filter_keys=("name", "class"),
    )


def activity_charts(found: Found) -> Html:
    """Bars by hour: what was recorded, and every species that was heard."""
    activity = found.activity
    if activity is None:
        words = (
            "It is not known when these recordings began: their names give no date and time, and "
            "no table of start times was given (--recording-times)."
        )
        return element("p", words)
    hours = range(activity.counts.shape[1])
    ticks = range(0, len(hours) + 1, 6 if activity.of_day else max(1, len(hours) // 6))
    bars = [_hour_text(activity, hour) for hour in hours]
    words = ["Hours of the day, as the recorders' clocks have them"]
    if not activity.of_day:
        words = ["Hours from the beginning of a recording, since it is not known when they began"]
    elif activity.offsets != [""]:
        words.append(f" (UTC offsets: {', '.join(o or 'not given' for o in activity.offsets)})")
    words.append(". An event counts in the hour in which it begins.")
    recorded_h = activity.recorded_h
    if activity.left_out:
        words.append(f" {activity.left_out} events are left out: their time is not known.")
    figures = []
    if recorded_h is None:
        words.append(" Counts, since it is not known how much was recorded in each hour.")
        values, unit, missing = activity.counts, "events", None
    else:
        words.append(" Events per recorded hour; hours without a recording are grey.")
        values, unit, missing = activity.rates, "events per recorded hour", recorded_h == 0
        chart = bar_chart(
            recorded_h * 60, bars, "Minutes recorded by hour", unit="minutes recorded", ticks=ticks
        )
        figures.append(_figure("Minutes recorded", f"{recorded_h.sum() * 60:.0f} in all", chart))
    totals = activity.counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    for species_id in totals.index:
        name = found.names[f"s{species_id}"]
        chart = bar_chart(
            values.loc[species_id].to_numpy(float),
            bars,
            f"{name}: {unit} by hour; most at {_hour_text(activity, _peak(values, species_id))}",
            unit=unit,
            ticks=ticks,
            missing=missing,
        )
        count = totals[species_id]
        figures.append(_figure(name, "1 event" if count == 1 else f"{count} events", chart))
    return join([element("p", *words), element("div", *figures, class_="charts")])


def event_table(found: Found) -> Html:
    """All events, or the surest of very many."""
    events = found.events.assign(value=event_values(found.events))
    shown = events.nlargest(_MOST_ROWS, "value").sort_index()
    shown = shown.assign(
        at=[clock_text(s) for s in shown["start_s"]],
        time=[text[:19].replace("T", " ") or None for text in shown["start_time"]],
        seconds=shown["end_s"] - shown["start_s"],
    )
    columns = [
        Column("species", "Species"),
        Column("value", "Probability" if found.is_calibrated else "Score", digits=3),
        Column("recording_id", "Recording"),
        Column("at", "Begins at", "from the beginning of the recording", sort_key="start_s"),
        Column("seconds", "Seconds", digits=1),
    ]
    if shown["time"].notna().any():
        columns.insert(3, Column("time", "Time"))
    caption = f"{len(shown)} events"
    if len(shown) < len(events):
        caption = f"The {len(shown)} surest of {len(events)} events"
    return data_table(
        "events",
        caption,
        shown,
        columns,
        filter_label="Filter by species or recording",
        filter_keys=("species", "recording_id"),
    )


def truth_curves(found: Found) -> Html:
    """Precision and recall of recordings' scores, where there is a truth."""
    columns = class_columns(found.truth)
    truth = found.truth.set_index("recording_id")[columns]
    scores = found.scores.set_index("recording_id").reindex(truth.index)[columns]
    known = np.full(truth.shape, True)
    curves = precision_recall(
        truth.to_numpy(bool),
        known,
        scores.to_numpy(float),
        [found.names.get(column, column) for column in columns],
    )
    words = (
        f"Precision (upwards) by recall of {len(truth)} recordings' scores against the truth. AP "
        "is average precision, then in how many of them the species is. The dashed line is chance."
    )
    return join([element("p", words), draw_curves(curves)])


def _figure(name: str, words: str, chart: Html) -> Html:
    caption = element("figcaption", element("strong", name), f" {words}")
    return element("figure", caption, chart)


def _peak(values: pd.DataFrame, species_id: int) -> int:
    return int(values.loc[species_id].idxmax())


def _hour_text(activity: Activity, hour: int) -> str:
    if activity.of_day:
        return f"{hour:02d}:00 to {(hour + 1) % 24:02d}:00"
    return f"hour {hour + 1}"


def _length_text(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
