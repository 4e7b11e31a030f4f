"""Puts the parts of one prediction together, which `predict --part` left.

    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv --events events.csv --part 1/3
    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv --events events.csv --part 2/3
    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv --events events.csv --part 3/3
    rfcx-tf gather --out scores.csv

All tables that were asked for with the parts are written, as one process would have written them.
Parts that are missing are named, and then nothing is written. So it is where parts had other
settings or another model, or have not found the same recordings. Such parts are run again, with
the same command; what is kept of them is not scored again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rfcx_tf.cli.arguments import print_notes
from rfcx_tf.cli.main import parser_of
from rfcx_tf.cli.predict import FOLDER
from rfcx_tf.cli.predicted import locked_tables, report_and_next, write_predictions
from rfcx_tf.cli.tables import name_results, output_tables
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="the --out of the parts")
    where.add_argument("--results", type=Path, metavar="FOLDER", help="the --results of the parts")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.scoring.gather import gather, read_parts, remove_parts
    from rfcx_tf.scoring.parts import parts_folder

    out = arguments.results / "scores.csv" if arguments.results else arguments.out
    folder = parts_folder(out)
    records = read_parts(folder)
    predicted = _arguments_of_parts(records[0].settings, out)
    with locked_tables(predicted, "gather"):
        gathered = gather(folder, records)
        print_notes(gathered.recordings.notes)
        tables = output_tables(predicted)
        tables.check(len(gathered.recordings))
        tables.check_model(gathered.card, gathered.recordings)
        status = write_predictions(
            *(predicted, tables, gathered.card, gathered.recordings, gathered.predictions),
            gathered.results,
            f"Parts {gathered.to_repeat} try these again, then gather again. {folder} has the "
            "others.",
        )
        if not gathered.predictions.failed:
            remove_parts(folder)
    return status | report_and_next(predicted)


def _arguments_of_parts(settings: Mapping[str, Any], out: Path) -> argparse.Namespace:
    """The arguments of `predict` that the parts had.

    Raises:
        UserError: in a folder from which their paths lead elsewhere.
    """
    folder = settings.get(FOLDER)
    if folder and folder != os.getcwd():
        raise UserError(
            f"Parts and gather must be run in one folder, where paths are given from there. The "
            f"parts were run in {folder}. Run gather there."
        )
    arguments = parser_of("predict")[1].from_plain_values(settings)
    if not arguments.results:
        arguments.out = out
    name_results(arguments)
    return arguments
