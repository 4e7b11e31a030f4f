"""Finds events in window scores that `predict --window-scores` kept, without hearing again.

    rfcx-tf predict --run runs/rfcx --audio FIELD --out scores.csv --window-scores windows.parquet
    rfcx-tf events --window-scores windows.parquet --out events.csv --threshold 0.7
    rfcx-tf events --window-scores windows.parquet --out owls.csv --species "Megascops nudipes" \\
        --calibration field.yaml --min-s 0.5

Events are those of `predict --events` with the same options, but for the rounding of the kept
scores (by 0.002 at most). Thresholds are of probabilities where there is a calibration, the
model's own or that of --calibration, else of scores.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rfcx_tf.cli.arguments import add_event_arguments, event_rules, print_next
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files, lock_folder
from rfcx_tf.events.write import writes_one_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window-scores", required=True, type=Path, metavar="PARQUET", help="of `predict`"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="PATH", help="a file or a folder for the events"
    )
    add_event_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    out = arguments.out
    if os.path.realpath(out) == os.path.realpath(arguments.window_scores):
        raise UserError("--out and --window-scores must name different places.")
    in_file = any(writes_one_file(out, name) for name in arguments.formats)
    with lock_files([out], "events") if in_file else lock_folder(out, "events"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.audio.start_time import read_start_times
    from rfcx_tf.events.output import check_events, write_found_events
    from rfcx_tf.events.window_table import open_window_table

    times = arguments.recording_times
    starts = read_start_times(times) if times else {}
    with open_window_table(arguments.window_scores, starts) as table:
        check_events(arguments.out, arguments.formats, table.count_recordings())
        rules = event_rules(arguments).of_model(table.card)
        if not table.has_recordings:
            print(
                f"{arguments.window_scores} is of an earlier version: events name no files, and "
                "recordings end with their last window."
            )
        write_found_events(arguments.out, arguments.formats, rules, table.recordings())
    print_next("review", "pick", "--events", arguments.out, "--out", "review")
    return 0
