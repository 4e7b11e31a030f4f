"""Arguments of the tables that a prediction writes -> `OutputTables`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rfcx_tf.events.write import FORMATS

_EVENTS = "what events are"


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--out` and the options of the other tables."""
    parser.add_argument("--out", required=True, type=Path, help="CSV file for the scores")
    parser.add_argument(
        "--like", type=Path, metavar="SUBMISSION", help="a sample_submission.csv to keep to"
    )
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="YAML",
        help="of `prior-shift`: shift scores by its offsets (not those of windows)",
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
    events = parser.add_argument_group(_EVENTS)
    events.add_argument(
        "--format",
        dest="formats",
        default=["csv"],
        nargs="+",
        choices=tuple(FORMATS),
        metavar="F",
        help=f"{', '.join(FORMATS)}; default: csv",
    )
    events.add_argument(
        "--calibration",
        type=Path,
        metavar="YAML",
        help="of `calibrate`; default: the model's own (of a single run: "
        "calibration.yaml in it), if it has one",
    )
    events.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="from which a window starts an event, for all species; default: those of the "
        "calibration, or a score of 0.5",
    )
    events.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the files and their names",
    )


def output_tables(arguments: argparse.Namespace):
    """The `OutputTables` of the arguments; UserError for an option of events without `--events`."""
    from rfcx_tf.events.output import OutputTables

    if not arguments.events:
        why = "is for events. Add --events PATH, or leave it out."
        arguments.parser.refuse_group(arguments, _EVENTS, why)
    names = [field.name for field in dataclasses.fields(OutputTables)]
    return OutputTables(**{name: getattr(arguments, name) for name in names})
