"""Fits weights of an ensemble on what its runs held out, and reports what each run adds.

    rfcx-tf ensemble --run runs/a runs/b runs/c --out weights.yaml \\
        --truth DIR/train_truth.csv                         -> weights.yaml, weights.md

--windows also reports the highest mean of the runs' windows (predict --combine window). Runs keep
no window scores, so they score again what they held out.

The truth is used for scoring only. predict and export take the weights: --weights FILE.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_number, print_next
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", required=True, type=Path, help="YAML file for the weights")
    parser.add_argument("--truth", metavar="CSV", help="complete truth: also report LWLRAP")
    shrinkage_help = "nats a label that must be gained before one run gets all the weight"
    add_number(parser, "--shrinkage", 0.01, shrinkage_help, or_zero=True)
    parser.add_argument(
        "--windows", action="store_true", help="also try the highest mean of windows"
    )
    parser.add_argument("--data", type=Path, help="the recordings, if they moved; for --windows")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.score_table import read_truth

    if arguments.windows and not arguments.truth:
        raise UserError("--windows is about whole recordings, which take a --truth.")
    if arguments.data and not arguments.windows:
        raise UserError("--data is where --windows finds recordings. Leave it out.")
    report_path = arguments.out.with_suffix(".md")
    if report_path == arguments.out:
        raise UserError(f"--out names the YAML file; {report_path} is for the report.")
    truth = read_truth(arguments.truth) if arguments.truth else None
    runs = [open_run(path) for path in arguments.run]
    with lock_files((arguments.out, report_path), "ensemble"):
        _ensemble(arguments, runs, truth, report_path)
    print(f"Wrote {arguments.out} and {report_path}.")
    print_next(
        *("predict", "--run", *arguments.run, "--weights", arguments.out),
        *("--audio", "FOLDER", "--out", "scores.csv"),
    )
    return 0


def _ensemble(arguments: argparse.Namespace, runs, truth, report_path: Path) -> None:
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.evaluation.ensemble_report import report_ensemble
    from rfcx_tf.evaluation.held_out import read_held_out
    from rfcx_tf.evaluation.held_out_windows import held_out_windows
    from rfcx_tf.scoring.ensemble_weights import write_weights

    held_out = read_held_out(runs)
    windows = None
    if arguments.windows:
        windows = held_out_windows(runs, held_out.recordings["recording_id"], arguments.data)
    weights, _, text = report_ensemble(held_out, truth, arguments.shrinkage, windows)
    write_weights(arguments.out, weights["member"], weights["weight"])
    atomic_write_text(report_path, text)
    print(text)
