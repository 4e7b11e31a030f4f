"""Makes one HTML page of a run, or of predictions, that needs nothing else to be read.

    rfcx-tf report --run runs/rfcx --truth DIR/train_truth.csv --out report.html
    rfcx-tf report --events events.csv --audio DIR --scores scores.csv \\
        --window-scores windows.parquet --run runs/rfcx --out report.html

The page of a run shows figures of what its folds did not see, tables of species, reliability and
precision-recall curves, training, configuration. The page of events shows the surest of each
species with spectrogram, window scores and sound, activity by hour of day, tables; --run adds the
sections of the run. The page holds its pictures and sounds and loads nothing. With --events,
--truth is for the recordings of --scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_number, list_left_out
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_file

_EVENTS = "a report of events"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, help="run folder")
    parser.add_argument(
        "--events", type=Path, help="events of `predict`, csv or parquet, a file or a folder"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="HTML", help="the page")
    parser.add_argument("--truth", type=Path, metavar="CSV", help="complete truth, for scoring")
    parser.add_argument("--title", help="of the page")
    events = parser.add_argument_group(_EVENTS)
    events.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="all recordings that were searched, or folders of them, as `predict` was given them; "
        "default: the files that the events name",
    )
    events.add_argument("--scores", type=Path, metavar="CSV", help="of `predict` --out")
    events.add_argument(
        "--window-scores", type=Path, metavar="PARQUET", help="of `predict`: curves below events"
    )
    events.add_argument(
        "--calibration",
        type=Path,
        metavar="YAML",
        help="that events were found with; default: that of the run, if there",
    )
    events.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the files and their names",
    )
    add_number(events, "--per-class", 5, "events of a species with picture and sound", or_zero=True)
    add_number(events, "--max-mb", 10.0, "MB of the page, or fewer pictures and sounds")


def run(arguments: argparse.Namespace) -> int:
    if not (arguments.run or arguments.events):
        raise UserError("A report is of a run or of events. Add --run DIR or --events CSV.")
    if not arguments.events:
        why = "is for events. Add --events CSV, or leave it out."
        arguments.parser.refuse_group(arguments, _EVENTS, why)
    if arguments.events and arguments.truth and not arguments.scores:
        raise UserError("With --events the truth is of recordings' scores. Add --scores CSV.")
    with lock_file(arguments.out, "report"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.audio.start_time import read_start_times
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.scoring.score_table import read_scores, read_truth

    truth = read_truth(arguments.truth) if arguments.truth else None
    scores = read_scores(arguments.scores) if arguments.scores else None
    starts = read_start_times(arguments.recording_times) if arguments.recording_times else {}
    from rfcx_tf.report.page import report_page
    from rfcx_tf.runs.open import open_run

    run = open_run(arguments.run) if arguments.run else None
    sections, failed = [], []
    if run is not None:
        from rfcx_tf.report.run_sections import run_sections

        sections = run_sections(run, None if arguments.events else truth)
        title, subtitle = f"Run {run.path.resolve().name}", "What its folds did not see"
    if arguments.events:
        from rfcx_tf.events.read import read_events
        from rfcx_tf.report.prediction_report import prediction_report
        from rfcx_tf.scoring.calibration import read_calibration

        path = arguments.calibration
        if path is None and run is not None and (run.path / "calibration.yaml").exists():
            path = run.path / "calibration.yaml"
        events = read_events(arguments.events)
        # Where events are of scores, so is what is drawn below them.
        use_calibration = path is not None and events["probability"].notna().any()
        of_events, clips = prediction_report(
            events,
            {c.column: c.name for c in run.info.classes} if run else {},
            arguments.audio,
            known_starts=starts,
            scores=scores,
            truth=truth,
            windows=arguments.window_scores,
            calibration=read_calibration(path) if use_calibration else None,
            per_class=arguments.per_class,
            max_bytes=round(arguments.max_mb * 1e6),
            others=sections,
        )
        sections, failed = of_events + sections, clips.failed
        title = f"Events of {arguments.events.name}"
        subtitle = f"Found by the run {run.path.resolve().name}" if run else ""
        left_out = f", {clips.left_out} left out for its size" if clips.left_out else ""
        print(f"{len(events)} events, {clips.shown} of them with picture and sound{left_out}.")
    html = report_page(arguments.title or title, subtitle, sections, arguments.command_line)
    atomic_write_text(arguments.out, html)
    print(f"Wrote {arguments.out}: {len(html.encode()) / 1e6:.2f} MB, {len(sections)} sections.")
    return list_left_out("Could not be read", failed)
