"""Events, scores and window scores -> the sections of a page that has a largest size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import AudioError, duration_s
from rfcx_tf.audio.find import Recordings
from rfcx_tf.audio.start_time import recording_start
from rfcx_tf.core.errors import first_few
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.events.read import recordings_of_events
from rfcx_tf.report.activity import Activity, hourly_activity
from rfcx_tf.report.day_map import day_maps, days_a_column, map_days
from rfcx_tf.report.event_clips import Clips, event_clips
from rfcx_tf.report.event_samples import choose_events
from rfcx_tf.report.event_tables import activity_charts, event_table, species_table, truth_curves
from rfcx_tf.report.page import PageSection, make_section
from rfcx_tf.report.sites import site_table, species_by_site
from rfcx_tf.report.sun import Place, clock_offsets, places_of_recordings, sun_times
from rfcx_tf.report.window_curves import WindowCurves
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.left_out import LEFT_OUT_COLUMNS
from rfcx_tf.scoring.score_table import class_columns

# What a page has beside its sections.
_FRAME_BYTES = 40_000
_MOST_LEFT_OUT = 1000
_NOT_FOUND = "It has events and was not found. Name it, or its folder, with --audio."


@dataclass(frozen=True)
class Prediction:
    """Everything of a prediction that a page is made of.

    Attributes:
        events: of `rfcx_tf.events.read.read_events`.
        names: of the species that were looked for, by class column; those of the events and
            scores are added.
        audio: recordings, or folders of them: all that were searched. None: the files that the
            events name, and rates are not known.
        known_starts: of recordings (`read_start_times`); others as `recording_start` finds them.
        scores: of recordings; then only these were searched.
        left_out: what was not used, or in part (`read_left_out`).
        truth: of the recordings, for scoring only.
        windows: Parquet table of window scores.
        calibration: of the events, for windows and thresholds.
        place: of all recordings, or places by site; None: no sun.
        time_zone: that the recorders' clocks show where names and files do not say it.
    """

    events: pd.DataFrame
    names: Mapping[str, str] = field(default_factory=dict)
    audio: Sequence[Path] | None = None
    known_starts: Mapping[str, datetime] = field(default_factory=dict)
    scores: pd.DataFrame | None = None
    left_out: pd.DataFrame | None = None
    truth: pd.DataFrame | None = None
    windows: Path | None = None
    calibration: Calibration | None = None
    place: Place | Mapping[str, Place] | None = None
    time_zone: tzinfo | None = None


@dataclass(frozen=True)
class PredictionReport:
    """What a page is made of, and what more of it can be asked for.

    Attributes:
        sections: in the order of a page.
        clips: the events among them that are shown and heard.
        failed: a line for everything that could not be read or found.
        recordings: paths by recording_id, of all that were searched and are there.
    """

    sections: list[PageSection]
    clips: Clips
    failed: list[str]
    recordings: Mapping[str, Path]


def prediction_report(
    prediction: Prediction,
    *,
    per_class: int,
    sampled: int,
    max_bytes: int,
    others: Sequence[PageSection] = (),
) -> PredictionReport:
    """Reads what belongs to events, and makes sections of it.

    Args:
        prediction: events and what belongs to them.
        per_class: the most of a species' surest events that are shown and heard.
        sampled: the most at random, and the most near the threshold.
        max_bytes: of the whole page, as far as fewer events can help.
        others: sections that follow these; their size counts too.

    Raises:
        UserError: if a table cannot be used, or there are no recordings in `audio`.
    """
    scores, truth = prediction.scores, prediction.truth
    recordings, skipped = _recordings(prediction)
    durations_s, unread = {}, {}
    if prediction.audio is not None:
        for name, path in recordings.items():
            try:
                durations_s[name] = duration_s(path)
            except AudioError as error:
                unread[name] = str(error)
    starts = {
        name: recording_start(name, path, prediction.known_starts)
        for name, path in recordings.items()
    }
    starts = {name: at for name, at in starts.items() if at is not None}
    names = _all_names(prediction.names, prediction.events, scores)
    # What events are ranked by.
    events = prediction.events
    events = events.assign(value=events["probability"].fillna(events["score"]))
    chosen = choose_events(events, per_class, sampled, _thresholds(prediction.calibration))
    windows = prediction.windows and WindowCurves(
        prediction.windows, chosen["recording_id"], prediction.calibration
    )
    has_truth = scores is not None and truth is not None
    evaluation = evaluate_scores(scores, truth, names) if has_truth else None
    activity = hourly_activity(events, starts, durations_s)
    is_calibrated = events["probability"].notna().any()
    left_out = _left_out(prediction, recordings, skipped, unread)
    sites = site_table(
        events,
        recordings,
        durations_s,
        starts,
        left_out["recording_id"][left_out["used"] != "whole"],
    )
    sections = [
        make_section(
            "overview",
            "Overview",
            events=events,
            is_calibrated=is_calibrated,
            names=names,
            durations_s=durations_s,
            days=sorted({at.date().isoformat() for at in starts.values()}),
            evaluation=evaluation,
            left_out=left_out,
        ),
        make_section(
            "species-list",
            "Species",
            species=species_table(events, names, activity, scores, evaluation),
        ),
        make_section(
            "activity",
            "Activity by hour",
            activity=activity,
            figures=activity_charts(activity, names),
        ),
        *_day_section(prediction, activity, names),
        *_site_section(events, names, sites),
        make_section(
            "all-events",
            "All events",
            shown=event_table(events),
            events=len(events),
            is_calibrated=is_calibrated,
        ),
    ]
    if evaluation is not None:
        curves = truth_curves(scores, truth, names)
        sections.append(
            make_section("truth", "Scores against the truth", recordings=len(truth), figures=curves)
        )
    used = _FRAME_BYTES + sum(len(s.content.encode()) for s in (*sections, *others))
    used += left_out.map(len).to_numpy().sum() if len(left_out) else 0
    clips = event_clips(chosen, names, recordings, windows, max_bytes - used)
    clips_section = make_section(
        "best-events",
        "Events to see and hear",
        clips=clips,
        has_curves=windows is not None,
        has_thresholds=prediction.calibration is not None,
    )
    sections.insert(2, clips_section)
    left_out = _left_out(prediction, recordings, skipped, unread | clips.failed)
    if len(left_out):
        shown = left_out[:_MOST_LEFT_OUT]
        section = make_section("left-out", "Left out", left_out=shown, lines=len(left_out))
        sections.insert(1, section)
    failed = [*recordings.left_out, *unread.values()]
    if lost := _lost(events, recordings):
        failed.append(
            f"{len(lost)} recordings with events were not found, such as {lost[0]}. Name them, or "
            "their folder, with --audio."
        )
    return PredictionReport(sections, clips, [*failed, *clips.failed.values()], recordings)


def _recordings(prediction: Prediction) -> tuple[Recordings, list[str]]:
    """The recordings that were searched, and ids of those that are there and were not."""
    events, scores = prediction.events, prediction.scores
    named = set() if scores is None else set(scores["recording_id"])
    if prediction.left_out is not None:
        named |= set(prediction.left_out["recording_id"]) - {""}
    found = recordings_of_events(events, prediction.audio, named)
    if prediction.audio is None or scores is None:
        return found, []
    searched = set(events["recording_id"]) | set(scores["recording_id"])
    paths = {name: path for name, path in found.items() if name in searched}
    return Recordings(paths, found.left_out), sorted(found.keys() - searched - named)


def _left_out(
    prediction: Prediction,
    recordings: Recordings,
    skipped: Sequence[str],
    unread: Mapping[str, str],
) -> pd.DataFrame:
    """The prediction's own list, and what was found since: a row for everything."""
    known = prediction.left_out
    if known is None:
        known = pd.DataFrame(columns=LEFT_OUT_COLUMNS, dtype=str)
    listed = set(known["recording_id"]) | set(known["why"])
    rows = [(name, "no", why) for name, why in unread.items() if name not in listed]
    rows += [("", "no", line) for line in recordings.left_out if line not in listed]
    rows += [(name, "no", _NOT_FOUND) for name in _lost(prediction.events, recordings)]
    if skipped:
        rows.append(("", "no", f"Recordings that have no scores: {first_few(skipped, 20)}."))
    return pd.concat([known, pd.DataFrame(rows, columns=LEFT_OUT_COLUMNS, dtype=str)])


def _lost(events: pd.DataFrame, recordings: Iterable[str]) -> list[str]:
    return sorted(set(events["recording_id"]) - set(recordings))


def _thresholds(calibration: Calibration | None) -> dict[int, float]:
    if calibration is None:
        return {}
    columns = zip(calibration.columns, calibration.thresholds, strict=True)
    return {int(column[1:]): float(threshold) for column, threshold in columns}


def _day_section(
    prediction: Prediction, activity: Activity | None, names: Mapping[str, str]
) -> list[PageSection]:
    """Maps of days by hours, where there are two days."""
    days = map_days(activity) if activity is not None else []
    if len(days) < 2:
        return []
    suns = []
    place = prediction.place
    if place is not None:
        starts = activity.starts
        places = [place] if isinstance(place, Place) else places_of_recordings(starts, place)
        offsets = clock_offsets(days, starts.values(), prediction.time_zone)
        suns = sun_times(places, days, offsets)
    figures = day_maps(activity, days, names, suns)
    return [
        make_section(
            "days",
            "Days and hours",
            activity=activity,
            days=days,
            step=days_a_column(days),
            suns=suns,
            figures=figures,
        )
    ]


def _site_section(
    events: pd.DataFrame, names: Mapping[str, str], sites: pd.DataFrame
) -> list[PageSection]:
    if not len(sites):
        return []
    species = species_by_site(events, names, sites)
    return [make_section("sites", "Sites", sites=sites.reset_index(), species=species)]


def _all_names(
    names: Mapping[str, str], events: pd.DataFrame, scores: pd.DataFrame | None
) -> dict[str, str]:
    """Names by class column: those given, then what events and scores have besides."""
    found = dict(names)
    own = events.drop_duplicates("species_id").sort_values("species_id")
    for species_id, name in zip(own["species_id"], own["species"], strict=True):
        found.setdefault(f"s{species_id}", name)
    for column in class_columns(scores) if scores is not None else []:
        found.setdefault(column, column)
    return found
