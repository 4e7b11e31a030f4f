"""Events, and what belongs to them -> the sections of their page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pandas as pd
from markupsafe import Markup

from rfcx_tf.evaluation.precision_recall import precision_recall
from rfcx_tf.evaluation.recordings import Evaluation
from rfcx_tf.report.activity import Activity
from rfcx_tf.report.charts import bar_chart
from rfcx_tf.report.event_clips import clock_text, date_and_time
from rfcx_tf.report.page import Column, data_table, render
from rfcx_tf.report.run_sections import precision_recall_charts
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
    Column(
        "busiest", "Busiest hour", "with most events per recorded hour", sort_key="busiest_hour"
    ),
    Column("mean_score", "Mean score", "of all scored recordings", 3),
    Column("positives", "In truth", "recordings that the truth has it in"),
    Column("lwlrap", "LWLRAP", "mean precision in the ranking of the recordings it is in", 3),
    Column("average_precision", "AP", "average precision over recordings", 3),
]


def overview(
    events: pd.DataFrame,
    species: int,
    durations_s: Mapping[str, float],
    starts: Mapping[str, datetime],
    evaluation: Evaluation | None,
) -> Markup:
    """The figures at the top.

    Args:
        events: a table of `EVENT_COLUMNS`.
        species: how many were looked for.
        durations_s: lengths of all recordings that were searched; empty if unknown.
        starts: when recordings began.
        evaluation: of scores against the truth.
    """
    is_calibrated = events["probability"].notna().any()
    with_events = events["recording_id"].nunique()
    figures = [
        (
            "Events",
            len(events),
            "calibrated probabilities" if is_calibrated else "scores, not calibrated",
        ),
        (
            "Species heard",
            f"{events['species_id'].nunique()} of {species}",
            "with at least one event",
        ),
        ("Recordings", len(durations_s) or with_events, f"{with_events} of them with events"),
    ]
    hours = sum(durations_s.values()) / 3600
    if hours:
        figures.append(("Sound", f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min", ""))
    days = sorted({at.date().isoformat() for at in starts.values()})
    if days:
        remark = f"to {days[-1]}, {len(days)} days" if len(days) > 1 else ""
        figures.append(("Recorded on", days[0], remark))
    if evaluation is not None:
        remark = f"{evaluation.recordings} recordings; chance {evaluation.chance:.3f}"
        figures.append(("LWLRAP", f"{evaluation.lwlrap:.3f}", remark))
    return render("overview.html", figures=figures)


def species_table(
    events: pd.DataFrame,
    names: Mapping[str, str],
    activity: Activity | None,
    scores: pd.DataFrame | None,
    evaluation: Evaluation | None,
) -> Markup:
    """The table of species, the most often heard first.

    Args:
        events: a table of `EVENT_COLUMNS`, and `value`, by which events are ranked.
        names: of all species that were looked for, by class column s<id>.
        activity: by hour; None if it is not known when anything was.
        scores: of recordings.
        evaluation: of these scores against the truth.
    """
    ids = [int(column[1:]) for column in names]
    found = (
        events.assign(minutes=(events["end_s"] - events["start_s"]) / 60)
        .groupby("species_id")
        .agg(
            events=("value", "size"),
            recordings=("recording_id", "nunique"),
            minutes=("minutes", "sum"),
            best=("value", "max"),
            middle=("value", "median"),
        )
        .reindex(ids)
        .fillna({"events": 0, "recordings": 0, "minutes": 0.0})
        .astype({"events": int, "recordings": int})
    )
    rows = pd.DataFrame({"class": list(names), "name": list(names.values())}, ids).join(found)
    if activity is not None and len(activity.counts):
        busiest = activity.shown.idxmax(axis=1)
        rows["busiest_hour"] = busiest.reindex(ids)
        rows["busiest"] = [activity.hour_text(busiest[i]) if i in busiest else None for i in ids]
    if scores is not None:
        rows["mean_score"] = scores[class_columns(scores)].mean().reindex(names).to_numpy()
    if evaluation is not None:
        of = evaluation.per_class.set_index("class")
        rows = rows.join(of[["positives", "lwlrap", "average_precision"]], on="class")
    return data_table(
        "species-found",
        f"{len(rows)} species that were looked for",
        rows.sort_values(["events", "name"], ascending=[False, True], kind="stable"),
        _SPECIES,
        filter_label="Filter by species",
        filter_keys=("name", "class"),
    )


def activity_charts(activity: Activity | None, names: Mapping[str, str]) -> Markup:
    """Bars by hour: what was recorded, and every species that was heard."""
    if activity is None:
        return render("activity.html", activity=None)
    hours = activity.counts.shape[1]
    bars = [activity.hour_text(hour) for hour in range(hours)]
    ticks = range(0, hours + 1, 6 if activity.of_day else max(1, hours // 6))
    recorded_h = activity.recorded_h
    figures = []
    unit, missing = "events", None
    if recorded_h is not None:
        unit, missing = "events per recorded hour", recorded_h == 0
        name, unit_recorded = "Minutes recorded by hour", "minutes recorded"
        chart = bar_chart(recorded_h * 60, bars, name, unit=unit_recorded, ticks=ticks)
        figures.append(("Minutes recorded", f"{recorded_h.sum() * 60:.0f} in all", chart))
    totals = activity.counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    for species_id, count in totals.items():
        name, values = names[f"s{species_id}"], activity.shown.loc[species_id]
        words = f"{name}: {unit} by hour; most at {activity.hour_text(values.idxmax())}"
        chart = bar_chart(values, bars, words, unit=unit, ticks=ticks, missing=missing)
        figures.append((name, "1 event" if count == 1 else f"{count} events", chart))
    return render("activity.html", activity=activity, figures=figures)


def event_table(events: pd.DataFrame) -> Markup:
    """All events, or the surest of very many; `events` have a column `value` to rank them by."""
    shown = events.nlargest(_MOST_ROWS, "value").sort_index()
    shown = shown.assign(
        at=shown["start_s"].map(clock_text),
        seconds=shown["end_s"] - shown["start_s"],
    )
    if (shown["start_time"] != "").any():
        shown["time"] = [date_and_time(text) or None for text in shown["start_time"]]
    is_calibrated = events["probability"].notna().any()
    columns = [
        Column("species", "Species"),
        Column("value", "Probability" if is_calibrated else "Score", digits=3),
        Column("recording_id", "Recording"),
        Column("time", "Time"),
        Column("at", "Begins at", "from the beginning of the recording", sort_key="start_s"),
        Column("seconds", "Seconds", digits=1),
    ]
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


def truth_curves(scores: pd.DataFrame, truth: pd.DataFrame, names: Mapping[str, str]) -> Markup:
    """Precision and recall of recordings' scores, where there is a truth."""
    columns = class_columns(truth)
    present = truth[columns].to_numpy(bool)
    values = scores.set_index("recording_id").loc[truth["recording_id"], columns].to_numpy(float)
    curves = precision_recall(present, np.full(present.shape, True), values)
    return render(
        "precision_recall.html",
        of=f"the scores of {len(truth)} recordings",
        counted="recordings",
        figures=precision_recall_charts(curves, [names.get(c, c) for c in columns]),
        without=[],
    )
