"""Arguments of the tables that a prediction writes -> `OutputTables`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rfcx_tf.cli.arguments import add_event_arguments, event_rules

_EVENTS = "what events are"


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--out` and the options of the other tables."""
    parser.add_argument("--out", required=True, type=Path, help="CSV file for the scores")
    parser.add_argument(
        "--like", type=Path, metavar="SUBMISSION", help="a sample_submission.csv to keep to"
    )
    parser.add_argument(
        "--names",
        action="store_true",
        help="call the columns of --out by the species' names; other verbs read s0, s1, ...",
    )
    parser.add_argument(
        "--tidy",
        type=Path,
        metavar="CSV",
        help="also write a row for every recording and species: score, and probability of the "
        "surest window",
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
    add_event_arguments(parser.add_argument_group(_EVENTS))


def output_tables(arguments: argparse.Namespace):
    """The `OutputTables` of the arguments; UserError for an option of events without `--events`."""
    from rfcx_tf.events.output import OutputTables

    if not arguments.events:
        why = "is for events. Add --events PATH, or leave it out."
        arguments.parser.refuse_group(arguments, _EVENTS, why)
    names = {field.name for field in dataclasses.fields(OutputTables)} - {"rules"}
    return OutputTables(
        **{name: getattr(arguments, name) for name in names}, rules=event_rules(arguments)
    )
