"""Events, scores and window scores -> the sections of a page that has a largest size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.decode import AudioError, duration_s
from rfcx_tf.audio.start_time import recording_start
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.events.read import recordings_of_events
from rfcx_tf.report.activity import hourly_activity
from rfcx_tf.report.event_clips import Clips, best_events, event_clips
from rfcx_tf.report.event_tables import activity_charts, event_table, species_table, truth_curves
from rfcx_tf.report.page import PageSection, make_section
from rfcx_tf.report.window_curves import WindowCurves
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.score_table import class_columns

# What a page has beside its sections.
_FRAME_BYTES = 30_000


def prediction_report(
    events: pd.DataFrame,
    names: Mapping[str, str],
    audio: Sequence[Path] | None,
    *,
    known_starts: Mapping[str, datetime],
    scores: pd.DataFrame | None,
    truth: pd.DataFrame | None,
    windows: Path | None,
    calibration: Calibration | None,
    per_class: int,
    max_bytes: int,
    others: Sequence[PageSection] = (),
) -> tuple[list[PageSection], Clips]:
    """Reads what belongs to events, and makes sections of it.

    Args:
        events: of `rfcx_tf.events.read.read_events`.
        names: of the species that were looked for, by class column; those of the events and
            scores are added.
        audio: recordings, or folders of them: all that were searched. None: the files that the
            events name, and rates are not known.
        known_starts: of recordings (`read_start_times`); others as `recording_start` finds them.
        scores: of recordings; then only these were searched.
        truth: of the same recordings, for scoring only.
        windows: Parquet table of window scores.
        calibration: of the events, for windows.
        per_class: the most events of a species that are shown and heard.
        max_bytes: of the whole page, as far as fewer events can help.
        others: sections that follow these; their size counts too.

    Returns:
        The sections in the order of a page, and the clips among them; `failed` of these has a line
        for everything that could not be read or found.

    Raises:
        UserError: if a table cannot be used, or there are no recordings in `audio`.
    """
    durations_s = {}
    with_events = set(events["recording_id"])
    scored = set() if scores is None else set(scores["recording_id"])
    recordings = recordings_of_events(events, audio, scored)
    failed = recordings.left_out
    if audio is not None:
        if scores is not None:
            searched = with_events | scored
            recordings = {name: path for name, path in recordings.items() if name in searched}
        for name, path in recordings.items():
            try:
                durations_s[name] = duration_s(path)
            except AudioError as error:
                failed.append(str(error))
    lost = sorted(with_events - recordings.keys())
    if lost:
        failed.append(
            f"{len(lost)} recordings with events were not found, such as {lost[0]}. Name them, or "
            "their folder, with --audio."
        )
    starts = {name: recording_start(name, path, known_starts) for name, path in recordings.items()}
    starts = {name: at for name, at in starts.items() if at is not None}
    names = _all_names(names, events, scores)
    # What events are ranked by.
    events = events.assign(value=events["probability"].fillna(events["score"]))
    best = best_events(events, per_class)
    window_curves = windows and WindowCurves(windows, best["recording_id"], calibration)
    has_truth = scores is not None and truth is not None
    evaluation = evaluate_scores(scores, truth, names) if has_truth else None
    activity = hourly_activity(events, starts, durations_s)
    is_calibrated = events["probability"].notna().any()
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
    clips = event_clips(best, names, recordings, window_curves, max_bytes - used)
    has_curves = window_curves is not None
    surest = make_section("best-events", "Surest events", clips=clips, has_curves=has_curves)
    sections.insert(3, surest)
    return sections, replace(clips, failed=failed + clips.failed)


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
