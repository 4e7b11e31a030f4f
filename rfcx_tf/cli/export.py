"""Exports runs as models that take waveforms: a SavedModel, or LiteRT files for field devices.

    rfcx-tf export --run runs/rfcx --out exported/rfcx               -> exported/rfcx/1
    rfcx-tf export --run runs/a runs/b --weights weights.yaml --out exported/both
    rfcx-tf export --run runs/rfcx --out exported/rfcx.litert --format litert
        -> float32.tflite, float16.tflite, int8.tflite, metadata.json, labels.txt

A SavedModel takes WAV files as well. With a calibration, the run's own or the file of
--calibration, it gives probabilities beside the scores.

LiteRT (TensorFlow Lite) files hold one run, and one fold of it: size and time grow with every fold.
--folds names several, whose scores are averaged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import (
    add_combination_arguments,
    add_run_override_argument,
    print_next,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_folder

SAVED_MODEL, LITERT = "savedmodel", "litert"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--out", required=True, type=Path, help="folder of the model's versions, or of the files"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=(SAVED_MODEL, LITERT),
        default=[SAVED_MODEL],
        metavar="F",
        help="savedmodel (the default), litert, or both",
    )
    add_run_override_argument(parser)
    saved_model = parser.add_argument_group(SAVED_MODEL)
    add_combination_arguments(saved_model)
    saved_model.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="of `calibrate`; default: calibration.yaml in the folder of a single run",
    )
    saved_model.add_argument(
        "--warmup-seconds",
        nargs="*",
        type=float,
        default=[60.0],
        metavar="S",
        help="lengths of recordings that a server tries before it is ready; default: 60",
    )
    litert = parser.add_argument_group(LITERT)
    litert.add_argument(
        "--folds", nargs="+", type=int, metavar="K", help="default: the first finished one"
    )
    litert.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="length of the input, which is fixed; default: 10",
    )


def run(arguments: argparse.Namespace) -> int:
    for name in (SAVED_MODEL, LITERT):
        if name not in arguments.format:
            why = f"is for {name}. Add --format {name}, or leave it out."
            arguments.parser.refuse_group(arguments, name, why)
    if LITERT in arguments.format and len(arguments.run) > 1:
        raise UserError("LiteRT files are of one run. Name one with --run.")
    from rfcx_tf.runs.open import open_runs
    from rfcx_tf.serving.export import check_exportable

    runs = open_runs(arguments.run, arguments.overrides)
    check_exportable(runs, litert=LITERT in arguments.format)
    with lock_folder(arguments.out, "export"):
        if LITERT in arguments.format:
            _export_litert(arguments, runs[0])
        if SAVED_MODEL in arguments.format:
            _export_saved_model(arguments, runs)
    return 0


def _export_saved_model(arguments: argparse.Namespace, runs) -> None:
    from rfcx_tf.scoring.calibration import read_calibration
    from rfcx_tf.scoring.ensemble_weights import choose_weights
    from rfcx_tf.scoring.load import load_together
    from rfcx_tf.serving.export import export_saved_model

    weights = choose_weights(arguments.weights, arguments.run)
    scorer = load_together(runs, weights, arguments.combine)
    calibration = arguments.calibration
    if calibration:
        chosen = read_calibration(calibration, scorer.card.columns)
        scorer.card = scorer.card.replace(calibration=chosen)
    elif scorer.card.calibration:
        calibration = arguments.run[0] / "calibration.yaml"
    version = export_saved_model(scorer, arguments.out, warmup_s=arguments.warmup_seconds)
    for run in runs:
        print(f"Exported fold(s) {', '.join(map(str, run.finished_folds))} of {run.path}.")
    if calibration:
        print(f"Probabilities are by {calibration}.")
    else:
        print("Without a calibration: scores only, no probabilities.")
    print(f"Wrote {version}. To look at it: saved_model_cli show --dir {version} --all")
    print_next("serve", "--model", arguments.out)


def _export_litert(arguments: argparse.Namespace, run) -> None:
    from rfcx_tf.serving.litert import (
        choose_folds,
        convert_to_litert,
        litert_metadata,
        load_convertible,
        write_litert,
    )

    folds = choose_folds(run, arguments.folds)
    scorer = load_convertible(run, folds, arguments.seconds)
    metadata = litert_metadata(scorer, folds, arguments.seconds)
    paths = write_litert(convert_to_litert(scorer, metadata), metadata, arguments.out)
    print(
        f"Exported fold(s) {', '.join(map(str, folds))} of {run.path}, of which "
        f"{', '.join(map(str, run.finished_folds))} are finished. Input: {metadata['samples']} "
        f"samples at {scorer.card.sample_rate_hz} Hz, {metadata['windows']} windows."
    )
    for path in paths:
        print(f"Wrote {path}.")
