"""Makes probabilities and thresholds of scores, from what runs held out.

    rfcx-tf calibrate --run runs/rfcx           -> runs/rfcx/calibration.yaml, .md, .png
    rfcx-tf calibrate --run runs/a runs/b --weights weights.yaml --out both.yaml

A probability says how likely a candidate box of an annotator is a TP, if TP and FP mix as in the
annotations. In continuous recordings most windows hold no candidate, so precision is lower. All
figures are of crops that took no part in the fit. The truth is used for scoring only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_weights_argument, print_next
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    add_weights_argument(parser)
    parser.add_argument(
        "--wanted",
        default="precision=0.9",
        metavar="precision=P|recall=R|f1",
        help="what thresholds are chosen for; default: precision=0.9",
    )
    parser.add_argument("--truth", metavar="CSV", help="complete truth: also figures of recordings")
    parser.add_argument(
        "--out", type=Path, metavar="YAML", help="default, for one run: its calibration.yaml"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.out is None and len(arguments.run) > 1:
        raise UserError(
            "A calibration of several runs belongs to none of their folders. Name a file with "
            "--out."
        )
    out = arguments.out or arguments.run[0] / "calibration.yaml"
    paths = (out, out.with_suffix(".md"), out.with_suffix(".png"))
    if out in paths[1:]:
        raise UserError(
            f"--out names the YAML file; {paths[1]} and {paths[2]} are for report and figure."
        )
    from rfcx_tf.evaluation.thresholds import parse_wanted
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.score_table import read_truth

    wanted = parse_wanted(arguments.wanted)
    truth = read_truth(arguments.truth) if arguments.truth else None
    runs = [open_run(path) for path in arguments.run]
    with lock_files(paths, "calibrate"):
        _calibrate(arguments, runs, wanted, truth, *paths)
    print(f"Wrote {out}, {paths[1]} and {paths[2]}.")
    print_next(
        *("predict", "--run", *arguments.run, "--audio", "FOLDER", "--out", "scores.csv"),
        *("--events", "events.csv", *(["--calibration", out] if arguments.out else [])),
    )
    return 0


def _calibrate(
    arguments: argparse.Namespace, runs, wanted, truth, out: Path, report_path: Path, figure: Path
) -> None:
    from rfcx_tf.core.files import atomic_file, atomic_write_text
    from rfcx_tf.evaluation.calibration_figure import draw_reliability
    from rfcx_tf.evaluation.calibration_report import report_calibration
    from rfcx_tf.evaluation.held_out import read_held_out
    from rfcx_tf.scoring.calibration import write_calibration
    from rfcx_tf.scoring.ensemble_weights import choose_weights

    held_out = read_held_out(runs, choose_weights(arguments.weights, arguments.run))
    report = report_calibration(held_out, wanted, truth)
    png = draw_reliability(held_out, report)
    atomic_write_text(report_path, report.text)
    with atomic_file(figure) as temporary:
        temporary.write_bytes(png)
    write_calibration(report.calibration, out)
    print(report.text)
