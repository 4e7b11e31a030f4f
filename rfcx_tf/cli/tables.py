"""Arguments of the tables that a prediction writes -> `WantedTables`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.core.errors import UserError
from rfcx_tf.events.write import FORMATS


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--out` and all that says which tables to write."""
    parser.add_argument("--out", required=True, type=Path, help="CSV file for the scores")
    parser.add_argument(
        "--like", type=Path, metavar="SUBMISSION", help="a sample_submission.csv to keep to"
    )
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="YAML",
        help="of prior_shift.py: shift scores by its offsets (not those of windows)",
    )
    parser.add_argument(
        "--window-scores",
        type=Path,
        metavar="PARQUET",
        help="also write the scores of all windows, a Parquet table",
    )
    parser.add_argument(
        "--events", type=Path, metavar="PATH", help="also write events, a file or a folder"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=tuple(FORMATS),
        metavar="F",
        help=f"of events: {', '.join(FORMATS)}; default: csv",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="YAML",
        help="of calibrate.py, for events; default: the model's own (of a single run: "
        "calibration.yaml in it), if it has one",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="from which a window starts an event, for all species; default: those of the "
        "calibration, or a score of 0.5",
    )
    parser.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the names of files",
    )


def wanted_tables(arguments: argparse.Namespace):
    """What `add_table_arguments` says, a `WantedTables`.

    Raises:
        UserError: if something for events is given without `--events`.
    """
    from rfcx_tf.events.output import WantedTables

    for name in ("format", "calibration", "threshold", "recording_times"):
        if not arguments.events and getattr(arguments, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} is for events. Add --events PATH, or leave it out."
            )
    return WantedTables(
        out=arguments.out,
        like=arguments.like,
        prior=arguments.prior,
        window_scores=arguments.window_scores,
        events=arguments.events,
        formats=arguments.format or ("csv",),
        calibration=arguments.calibration,
        threshold=arguments.threshold,
        recording_times=arguments.recording_times,
    )
