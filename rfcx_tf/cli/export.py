"""Exports a run, or several as one, as a SavedModel that takes waveforms or WAV files.

rfcx-tf export --run runs/rfcx --out exported/rfcx      -> exported/rfcx/1
rfcx-tf export --run runs/a runs/b --weights weights.yaml --out exported/both

With a calibration it gives probabilities beside the scores: that of the run, if it has one, or
the file of --calibration.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_combination_arguments, add_run_override_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument("--out", required=True, type=Path, help="folder of the model's versions")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="of calibrate.py; default: calibration.yaml in the folder of a single run",
    )
    parser.add_argument(
        "--warmup-seconds",
        nargs="*",
        type=float,
        default=[60.0],
        metavar="S",
        help="lengths of recordings that a server tries before it is ready; default: 60",
    )
    add_combination_arguments(parser)
    add_run_override_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.scoring.calibration import read_calibration
    from rfcx_tf.scoring.detector import EnsembleModel
    from rfcx_tf.scoring.ensemble import choose_weights, member_names
    from rfcx_tf.scoring.predict import open_runs
    from rfcx_tf.serving.export import check_exportable, export_saved_model

    check_exportable(arguments.run)
    calibration = arguments.calibration
    own = arguments.run[0] / "calibration.yaml"
    if calibration is None and len(arguments.run) == 1:
        calibration = own if own.exists() else None
    weights = choose_weights(arguments.weights, arguments.run)
    models = open_runs(arguments.run, arguments.overrides)
    if len(models) == 1 and arguments.combine == "mean":
        model = models[0]
    else:
        model = EnsembleModel(models, member_names(arguments.run), weights, arguments.combine)
    version = export_saved_model(
        model,
        arguments.out,
        info=RunFolder.open(arguments.run[0]).info,
        calibration=read_calibration(calibration) if calibration else None,
        warmup_s=arguments.warmup_seconds,
    )
    for path in arguments.run:
        folds = RunFolder.open(path).finished_folds
        print(f"Exported fold(s) {', '.join(map(str, folds))} of {path}.")
    if calibration:
        print(f"Probabilities are by {calibration}.")
    else:
        print("Without a calibration: scores only, no probabilities.")
    print(f"Wrote {version}. To look at it: saved_model_cli show --dir {version} --all")
    return 0
