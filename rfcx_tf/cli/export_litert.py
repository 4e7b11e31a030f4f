"""Exports a run as LiteRT (TensorFlow Lite) models that take waveforms, for field devices.

rfcx-tf export-litert --run runs/rfcx --out exported/rfcx.litert
    -> float32.tflite, float16.tflite, int8.tflite, metadata.json, labels.txt
rfcx-tf export-litert --run runs/rfcx --out exported/rfcx.litert --time \\
    --audio DIR/train --truth DIR/train_truth.csv

One fold is exported unless --folds names more, whose scores are averaged: size and time grow with
every fold. The table says how far each precision's window scores are from those of the SavedModel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.audio.find import find_named_recordings
from rfcx_tf.cli.arguments import add_run_override_argument
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, type=Path, help="run folder")
    parser.add_argument("--out", required=True, type=Path, help="folder for the files")
    parser.add_argument(
        "--folds", nargs="+", type=int, metavar="K", help="default: the first finished one"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="length of the input, which is fixed; default 10",
    )
    parser.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="recordings, or folders of them, to measure differences on; default: synthetic noise",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="CSV",
        help="complete labels of --audio: LWLRAP of what each exported fold held out",
    )
    parser.add_argument(
        "--time", action="store_true", help="also measure what a pass takes of one core"
    )
    add_run_override_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.scoring.score_table import read_truth

    if arguments.truth and not arguments.audio:
        raise UserError("--truth needs the recordings that it describes. Add --audio DIR.")
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

    check_exportable([arguments.run])
    run = RunFolder.open(arguments.run, arguments.overrides)
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
    report = litert_report.format_report(
        {precision: len(content) for precision, content in contents.items()},
        litert_report.score_differences(models, saved, pieces),
        litert_report.seconds_a_piece(models, saved, pieces[0]) if arguments.time else None,
        None
        if truth is None
        else litert_report.out_of_fold_lwlrap(
            run, folds, arguments.seconds, litert.PRECISIONS, truth, recordings
        ),
    )
    print(report)
    print(
        f"Exported fold(s) {', '.join(map(str, folds))} of {arguments.run}, of which "
        f"{', '.join(map(str, run.finished_folds))} are finished. Input: {samples} samples at "
        f"{rate_hz} Hz, {metadata['windows']} windows."
    )
    for path in paths:
        print(f"Wrote {path}.")
    return 0
