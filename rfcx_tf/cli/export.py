"""Exports runs as models that take waveforms: a SavedModel, or LiteRT files for field devices.

    rfcx-tf export --run runs/rfcx --out exported/rfcx               -> exported/rfcx/1
    rfcx-tf export --run runs/a runs/b --weights weights.yaml --out exported/both
    rfcx-tf export --run runs/rfcx --out exported/rfcx.litert --format litert
        -> float32.tflite, float16.tflite, int8.tflite, metadata.json, labels.txt
    rfcx-tf export --run runs/rfcx --out exported/rfcx.litert --format litert --time \\
        --audio DIR/train --truth DIR/train_truth.csv

A SavedModel takes WAV files as well. With a calibration it gives probabilities beside the scores:
that of the run, if it has one, or the file of --calibration.

LiteRT (TensorFlow Lite) files are of one run, and of one fold unless --folds names more, whose
scores are averaged: size and time grow with every fold. A table says how far each precision's
window scores are from those of the SavedModel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.audio.find import find_named_recordings
from rfcx_tf.cli.arguments import (
    add_combination_arguments,
    add_run_override_argument,
    print_next,
)
from rfcx_tf.core.errors import UserError

SAVED_MODEL, LITERT = "savedmodel", "litert"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument("--out", required=True, type=Path, help="folder of the model's versions")
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
    litert.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="recordings, or folders of them, to measure differences on; default: synthetic noise",
    )
    litert.add_argument(
        "--truth",
        type=Path,
        metavar="CSV",
        help="complete labels of --audio: LWLRAP of what each exported fold held out",
    )
    litert.add_argument(
        "--time", action="store_true", help="also measure what a pass takes of one core"
    )


def run(arguments: argparse.Namespace) -> int:
    for name in (SAVED_MODEL, LITERT):
        if name not in arguments.format:
            why = f"is for {name}. Add --format {name}, or leave it out."
            arguments.parser.refuse_group(arguments, name, why)
    if LITERT in arguments.format and len(arguments.run) > 1:
        raise UserError("LiteRT files are of one run. Name one with --run.")
    if arguments.truth and not arguments.audio:
        raise UserError("--truth needs the recordings that it describes. Add --audio DIR.")
    if LITERT in arguments.format:
        _export_litert(arguments)
    if SAVED_MODEL in arguments.format:
        _export_saved_model(arguments)
    return 0


def _export_saved_model(arguments: argparse.Namespace) -> None:
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.scoring.calibration import read_calibration
    from rfcx_tf.scoring.detector import EnsembleModel
    from rfcx_tf.scoring.ensemble import choose_weights, member_names
    from rfcx_tf.scoring.predict import open_runs
    from rfcx_tf.serving.export import check_exportable, export_saved_model

    check_exportable(arguments.run)
    calibration = arguments.calibration
    own = arguments.run[0] / "calibration.yaml"
    if calibration is None and len(arguments.run) == 1 and own.exists():
        calibration = own
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
    print_next("serve", "--model", arguments.out)


def _export_litert(arguments: argparse.Namespace) -> None:
    from rfcx_tf.scoring.score_table import read_truth

    truth = read_truth(arguments.truth) if arguments.truth else None
    recordings = {}
    if arguments.audio:
        named = [] if truth is None else truth["recording_id"]
        recordings = find_named_recordings(arguments.audio, named)
    import tensorflow as tf

    if arguments.time:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.scoring.detector import load_recording_model
    from rfcx_tf.scoring.litert import LiteRtModel
    from rfcx_tf.serving import litert, litert_report
    from rfcx_tf.serving.export import check_exportable

    check_exportable(arguments.run)
    run = RunFolder.open(arguments.run[0], arguments.overrides)
    litert.check_convertible(run, arguments.seconds)
    folds = litert.choose_folds(run, arguments.folds)
    metadata = litert.litert_metadata(run, folds, arguments.seconds)
    saved = load_recording_model(run, folds)
    contents = litert.convert_to_litert(saved, metadata)
    paths = litert.write_litert(contents, metadata, arguments.out)

    models = {precision: LiteRtModel(content) for precision, content in contents.items()}
    samples, rate_hz = metadata["samples"], metadata["sample_rate_hz"]
    if recordings:
        pieces = list(litert_report.middle_pieces(recordings, samples, rate_hz))
    else:
        pieces = list(litert_report.synthetic_pieces(samples, rate_hz))
    lwlrap = None
    if truth is not None:
        lwlrap = litert_report.out_of_fold_lwlrap(
            run, folds, arguments.seconds, litert.PRECISIONS, truth, recordings
        )
    print(
        litert_report.format_report(
            {precision: len(content) for precision, content in contents.items()},
            litert_report.score_differences(models, saved, pieces),
            litert_report.seconds_a_piece(models, saved, pieces[0]) if arguments.time else None,
            lwlrap,
        )
    )
    print(
        f"Exported fold(s) {', '.join(map(str, folds))} of {run.path}, of which "
        f"{', '.join(map(str, run.finished_folds))} are finished. Input: {samples} samples at "
        f"{rate_hz} Hz, {metadata['windows']} windows."
    )
    for path in paths:
        print(f"Wrote {path}.")
