"""Makes probabilities and thresholds of scores, from what runs held out or from verdicts.

    rfcx-tf calibrate --run runs/rfcx           -> runs/rfcx/calibration.yaml, .md, .png
    rfcx-tf calibrate --run runs/a runs/b --weights weights.yaml --out both.yaml
    rfcx-tf calibrate --run runs/rfcx --verdicts sample/review.csv --events events.csv \\
        --out field.yaml                        -> field.yaml, .md, .csv

From what runs held out, a probability says how likely a candidate box of an annotator is a TP, if
TP and FP mix as in the annotations. In continuous recordings most windows hold no candidate, so
precision is lower. All figures are of crops that took no part in the fit. The truth is used for
scoring only.

From verdicts on a random sample of events (`review pick --sample`), a probability says how likely
an event in these recordings is right, and thresholds are for these recordings. --events names the
events that the sample was drawn from. The report says precision, recall and the number of right
events of every species with 95 % intervals, the CSV at every threshold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import (
    add_number,
    add_weights_argument,
    print_next,
    print_next_prediction,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files

_HELD_OUT, _VERDICTS = "from what runs held out", "from verdicts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--wanted",
        default="precision=0.9",
        metavar="precision=P|recall=R|f1",
        help="what thresholds are chosen for; default: precision=0.9",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="YAML",
        help="default, for one run without verdicts: its calibration.yaml",
    )
    parser.add_argument(
        "--verdicts",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="judged reviews of `review pick --sample`; the run says the species",
    )
    verdicts = parser.add_argument_group(_VERDICTS)
    verdicts.add_argument(
        "--events", type=Path, help="events that the sample was drawn from, csv or parquet"
    )
    add_number(verdicts, "--seed", 0, "of the intervals", or_zero=True)
    held_out = parser.add_argument_group(_HELD_OUT)
    add_weights_argument(held_out)
    held_out.add_argument(
        "--truth", metavar="CSV", help="complete truth: also figures of recordings"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.verdicts:
        why = "is for what runs held out. Leave it out with --verdicts."
        arguments.parser.refuse_group(arguments, _HELD_OUT, why)
        return _from_verdicts(arguments)
    why = "goes with --verdicts. Add --verdicts review.csv, or leave it out."
    arguments.parser.refuse_group(arguments, _VERDICTS, why)
    return _from_held_out(arguments)


def _from_verdicts(arguments: argparse.Namespace) -> int:
    if not arguments.events:
        raise UserError(
            "Verdicts on a sample stand for the events that it was drawn from. Name these with "
            "--events."
        )
    if not arguments.out:
        raise UserError(
            "A calibration by verdicts is of these recordings, not of a run. Name a file with "
            "--out."
        )
    out = arguments.out
    paths = (out, out.with_suffix(".md"), out.with_suffix(".csv"))
    if out in paths[1:]:
        raise UserError(
            f"--out names the YAML file; {paths[1]} and {paths[2]} are for report and curves."
        )
    with lock_files(paths, "calibrate"):
        _calibrate_by_verdicts(arguments, *paths)
    print(f"Wrote {out}, {paths[1]} and {paths[2]}.")
    print_next(
        *("events", "--window-scores", "windows.parquet", "--calibration", out),
        *("--out", "field_events.csv"),
    )
    return 0


def _calibrate_by_verdicts(
    arguments: argparse.Namespace, out: Path, report_path: Path, curve_path: Path
) -> None:
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.core.species import check_same_classes
    from rfcx_tf.evaluation.field_calibration import fit_field_calibration
    from rfcx_tf.evaluation.thresholds import parse_wanted
    from rfcx_tf.events.read import read_events
    from rfcx_tf.review.sample_verdicts import read_sample_verdicts
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.calibration import write_calibration

    wanted = parse_wanted(arguments.wanted)
    runs = [open_run(path) for path in arguments.run]
    check_same_classes([(run.path, run.info.classes) for run in runs])
    events = read_events(arguments.events)
    sample = read_sample_verdicts(arguments.verdicts, events)
    found = fit_field_calibration(
        events, sample.verdicts, runs[0].info.classes, wanted, seed=arguments.seed
    )
    atomic_write_text(report_path, found.text)
    atomic_write_text(curve_path, found.curve_csv())
    write_calibration(found.calibration, out)
    print(found.text)
    print(
        f"{len(sample.verdicts)} events are judged; {sample.open} rows without a verdict or unsure "
        f"were left out, and {sample.not_drawn} that were not drawn at random."
    )


def _from_held_out(arguments: argparse.Namespace) -> int:
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
    print_next_prediction(arguments.run, *(["--calibration", out] if arguments.out else []))
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
