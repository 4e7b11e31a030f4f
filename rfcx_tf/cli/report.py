"""Makes one HTML page of a run, or of predictions, that needs nothing else to be read.

    rfcx-tf report --run runs/rfcx --truth DIR/train_truth.csv --out report.html
    rfcx-tf report --events events.csv --audio DIR --scores scores.csv \\
        --window-scores windows.parquet --run runs/rfcx --out report.html

The page of a run shows figures of what its folds did not see, tables of species, reliability and
precision-recall curves, training, configuration. The page of events shows the surest of each
species, a random sample and those nearest the threshold with spectrogram, window scores and sound,
activity by hour of day and by day, tables, and what was left out; --run adds the sections of the
run. The page holds its pictures and sounds and loads nothing. Every table has a button that saves
it as CSV, every chart as SVG and PNG. With --events, --truth is for the recordings of --scores.

Where recordings are called by their paths (site1/20210101_050000), sites are compared. Sunrise and
sunset are drawn into the maps of days by hours where a place is given: --latitude and --longitude,
or --sites with a row for every site. --time-zone says what the recorders' clocks show, if the
recordings' times do not.

--serve shows the page in a browser on this machine. There every row of the table of events has a
button for its picture and sound; the page that is written holds those of --per-class and --samples.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from rfcx_tf.cli.arguments import add_number, list_left_out
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_file
from rfcx_tf.core.storage import as_path

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
        type=as_path,
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
    events.add_argument(
        "--left-out",
        type=Path,
        metavar="CSV",
        help="of `predict`: what it could not use; default: that beside --scores, if there",
    )
    degrees = {"type": float, "metavar": "DEGREES"}
    events.add_argument("--latitude", help="of the recorders, north positive", **degrees)
    events.add_argument("--longitude", help="of the recorders, east positive", **degrees)
    events.add_argument(
        "--sites", type=Path, metavar="CSV", help="site, latitude and longitude, instead"
    )
    events.add_argument(
        "--time-zone", metavar="ZONE", help="of the recorders' clocks: UTC, America/Puerto_Rico"
    )
    add_number(
        events, "--per-class", 5, "surest events of a species, with picture and sound", or_zero=True
    )
    add_number(
        events,
        "--samples",
        2,
        "of a species at random, and as many near the threshold",
        or_zero=True,
    )
    add_number(events, "--max-mb", 10.0, "MB of the page, or fewer pictures and sounds")
    events.add_argument(
        "--serve",
        action="store_true",
        help="then show the page at an address of this machine, with picture and sound of every "
        "row of the table of events",
    )
    events.add_argument("--port", type=int, default=8600, help="of --serve; 0: any free one")


def run(arguments: argparse.Namespace) -> int:
    if not (arguments.run or arguments.events):
        raise UserError("A report is of a run or of events. Add --run DIR or --events CSV.")
    if not arguments.events:
        why = "is for events. Add --events CSV, or leave it out."
        arguments.parser.refuse_group(arguments, _EVENTS, why)
    if arguments.events and arguments.truth and not arguments.scores:
        raise UserError("With --events the truth is of recordings' scores. Add --scores CSV.")
    if (arguments.latitude is None) != (arguments.longitude is None):
        raise UserError("A place has --latitude and --longitude. Add the other one.")
    if arguments.sites and arguments.latitude is not None:
        raise UserError("A place is in --sites or in --latitude and --longitude. Leave one out.")
    if arguments.serve:
        if not 0 <= arguments.port < 2**16:
            raise UserError(f"--port must be a port, 0 to 65535. Received: {arguments.port}.")
        importlib.import_module("aiohttp")  # Whether it is installed shows before any work.
    with lock_file(arguments.out, "report"):
        status, served = _write(arguments)
    if arguments.serve:
        import asyncio

        from rfcx_tf.report.server import serve_report

        asyncio.run(serve_report(*served, arguments.port))
    return status


def _write(arguments: argparse.Namespace) -> tuple[int, tuple]:
    """Writes the page; the exit status, and what `serve_report` serves."""
    from rfcx_tf.audio.start_time import read_start_times
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.scoring.score_table import read_scores, read_truth

    truth = read_truth(arguments.truth) if arguments.truth else None
    scores = read_scores(arguments.scores) if arguments.scores else None
    starts = read_start_times(arguments.recording_times) if arguments.recording_times else {}
    from rfcx_tf.report.page import report_page
    from rfcx_tf.runs.open import open_run

    run = open_run(arguments.run) if arguments.run else None
    sections, failed, served = [], [], ()
    if run is not None:
        from rfcx_tf.report.run_sections import run_sections

        sections = run_sections(run, None if arguments.events else truth)
        title, subtitle = f"Run {run.path.resolve().name}", "What its folds did not see"
    if arguments.events:
        from rfcx_tf.report.prediction_report import prediction_report

        prediction = _prediction(arguments, run, scores, truth, starts)
        report = prediction_report(
            prediction,
            per_class=arguments.per_class,
            sampled=arguments.samples,
            max_bytes=round(arguments.max_mb * 1e6),
            others=sections,
        )
        sections, failed, clips = report.sections + sections, report.failed, report.clips
        title = f"Events of {arguments.events.name}"
        subtitle = f"Found by the run {run.path.resolve().name}" if run else ""
        left_out = f", {clips.left_out} left out for its size" if clips.left_out else ""
        print(
            f"{len(prediction.events)} events, {clips.shown} of them with picture and "
            f"sound{left_out}."
        )
    page = (arguments.title or title, subtitle, sections, arguments.command_line)
    html = report_page(*page)
    atomic_write_text(arguments.out, html)
    print(f"Wrote {arguments.out}: {len(html.encode()) / 1e6:.2f} MB, {len(sections)} sections.")
    if arguments.serve:
        served = report_page(*page, served=True), prediction.events, report.recordings
    return list_left_out("Could not be read", failed), served


def _prediction(arguments, run, scores, truth, starts):
    """The `Prediction` of the arguments."""
    from rfcx_tf.events.read import read_events
    from rfcx_tf.report.prediction_report import Prediction
    from rfcx_tf.report.sun import make_place, read_sites, read_time_zone
    from rfcx_tf.scoring.calibration import read_calibration
    from rfcx_tf.scoring.left_out import left_out_path, read_left_out

    calibration = arguments.calibration
    if calibration is None and run is not None and (run.path / "calibration.yaml").exists():
        calibration = run.path / "calibration.yaml"
    left_out = arguments.left_out
    if left_out is None and scores is not None and left_out_path(arguments.scores).exists():
        left_out = left_out_path(arguments.scores)
    place = read_sites(arguments.sites) if arguments.sites else None
    if arguments.latitude is not None:
        place = make_place(arguments.latitude, arguments.longitude, "--latitude, --longitude")
    events = read_events(arguments.events)
    # Where events are of scores, so is what is drawn below them.
    use_calibration = calibration is not None and events["probability"].notna().any()
    return Prediction(
        events=events,
        names={c.column: c.name for c in run.info.classes} if run else {},
        audio=arguments.audio,
        known_starts=starts,
        scores=scores,
        left_out=read_left_out(left_out) if left_out else None,
        truth=truth,
        windows=arguments.window_scores,
        calibration=read_calibration(calibration) if use_calibration else None,
        place=place,
        time_zone=read_time_zone(arguments.time_zone) if arguments.time_zone else None,
    )
