"""Arguments of the tables that a prediction writes -> `OutputTables`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rfcx_tf.cli.arguments import add_event_arguments, event_rules
from rfcx_tf.core.errors import UserError

_EVENTS = "what events are"


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--out` and the options of the other tables, for `name_results` and `output_tables`."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="CSV file for the scores")
    where.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="for scores.csv, events.csv, windows.parquet and report.html, a page of them",
    )
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


def name_results(arguments: argparse.Namespace) -> None:
    """Names the tables in the folder of `--results`, if that is given.

    Raises:
        UserError: if one of them is named too.
    """
    if arguments.results is None:
        return
    for name, option in (("events", "--events"), ("window_scores", "--window-scores")):
        if getattr(arguments, name) is not None:
            raise UserError(f"{option} has its place in --results FOLDER. Leave one of them out.")
    if "csv" not in arguments.formats:
        raise UserError("The page of --results is made of events as csv. Add csv to --format.")
    arguments.out = arguments.results / "scores.csv"
    arguments.window_scores = arguments.results / "windows.parquet"
    # Several formats are files of their own.
    alone = arguments.formats == ["csv"]
    arguments.events = arguments.results / ("events.csv" if alone else "events")


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
