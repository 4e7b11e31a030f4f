"""Events, and what belongs to them -> the tables and charts of their page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rfcx_tf.evaluation.precision_recall import precision_recall
from rfcx_tf.evaluation.recordings import Evaluation
from rfcx_tf.report.activity import Activity
from rfcx_tf.report.charts import Chart, bar_chart
from rfcx_tf.report.event_clips import clock_text, date_and_time
from rfcx_tf.report.held_out_charts import precision_recall_charts
from rfcx_tf.scoring.score_table import class_columns

# More rows than this make a page slow on a phone; the file has them all.
_MOST_ROWS = 1000


def species_table(
    events: pd.DataFrame,
    names: Mapping[str, str],
    activity: Activity | None,
    scores: pd.DataFrame | None,
    evaluation: Evaluation | None,
) -> pd.DataFrame:
    """A row for every species, the most often heard first; columns as in species-list.html.

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
    return rows.sort_values(["events", "name"], ascending=[False, True], kind="stable")


def activity_charts(activity: Activity | None, names: Mapping[str, str]) -> list[Chart]:
    """Bars by hour: what was recorded, and every species that was heard."""
    if activity is None:
        return []
    hours = activity.counts.shape[1]
    bars = [activity.hour_text(hour) for hour in range(hours)]
    ticks = range(0, hours + 1, 6 if activity.of_day else max(1, hours // 6))
    figures = []
    unit, missing = "events", None
    if activity.recorded_h is not None:
        unit, missing = "events per recorded hour", activity.recorded_h == 0
        minutes, words = activity.recorded_h * 60, "Minutes recorded by hour"
        chart = bar_chart(minutes, bars, words, unit="minutes recorded", ticks=ticks)
        figures.append(("Minutes recorded", f"{minutes.sum():.0f} in all", chart))
    totals = activity.counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    for species_id, count in totals.items():
        name, values = names[f"s{species_id}"], activity.shown.loc[species_id]
        words = f"{name}: {unit} by hour; most at {activity.hour_text(values.idxmax())}"
        chart = bar_chart(values, bars, words, unit=unit, ticks=ticks, missing=missing)
        figures.append((name, "1 event" if count == 1 else f"{count} events", chart))
    return figures


def event_table(events: pd.DataFrame) -> pd.DataFrame:
    """Events, or the surest of very many; columns as in all-events.html, and `row`, their index.

    Args:
        events: a table of `EVENT_COLUMNS`, and `value`, by which events are ranked.
    """
    shown = events.nlargest(_MOST_ROWS, "value").sort_index()
    shown = shown.assign(
        row=shown.index,
        at=shown["start_s"].map(clock_text),
        seconds=shown["end_s"] - shown["start_s"],
    )
    if (shown["start_time"] != "").any():
        shown["time"] = [date_and_time(text) or None for text in shown["start_time"]]
    return shown


def truth_curves(
    scores: pd.DataFrame, truth: pd.DataFrame, names: Mapping[str, str]
) -> list[Chart]:
    """Precision-recall charts of the scores of recordings against their truth."""
    columns = class_columns(truth)
    present = truth[columns].to_numpy(bool)
    values = scores.set_index("recording_id").loc[truth["recording_id"], columns].to_numpy(float)
    curves = precision_recall(present, np.full(present.shape, True), values)
    return precision_recall_charts(curves, [names.get(column, column) for column in columns])
