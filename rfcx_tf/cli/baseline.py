"""Out-of-fold scores of a baseline: logistic regression on pooled spectrogram statistics.

    rfcx-tf baseline --config configs/rfcx.yaml --tfrecords tfrecords/rfcx \\
        --out runs/rfcx-baseline [--truth DIR/train_truth.csv]

A network that scores no better has learned nothing about the shape of calls. The truth is
used for scoring held-out recordings only.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rfcx_tf.cli.arguments import add_config_arguments, list_left_out, load_recipe, read_folds
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--tfrecords", required=True, type=Path, help="folder of shards")
    parser.add_argument("--out", required=True, type=Path, help="folder for oof_scores.csv")
    parser.add_argument(
        "--fold", default="all", help="fold to hold out, several as in 1,3, or `all` (default: all)"
    )
    parser.add_argument(
        "--data", type=Path, help="the recordings, if they moved since the shards were made"
    )
    parser.add_argument("--truth", metavar="CSV", help="complete truth, 1 present, 0 absent")
    # scikit-learn's default: the truth is for scoring, so nothing is chosen by it.
    parser.add_argument(
        "--c",
        type=float,
        default=1.0,
        help="inverse strength of the L2 regularisation, scikit-learn's C (default: 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.files import check_writable
    from rfcx_tf.evaluation.recordings import evaluate_scores, format_evaluation
    from rfcx_tf.scoring.score_table import read_truth, write_scores

    config = load_recipe(arguments)
    folds = read_folds(arguments.fold, config.training.folds)
    truth = read_truth(arguments.truth) if arguments.truth else None
    path = arguments.out / "oof_scores.csv"
    check_writable(path)
    from rfcx_tf.training.baseline import cross_validate

    began = time.perf_counter()
    predictions = cross_validate(
        config, arguments.tfrecords, folds, c=arguments.c, data_dir=arguments.data
    )
    scores = predictions.scores
    write_scores(scores, path)
    seconds = time.perf_counter() - began
    print(f"Wrote {path}: {len(scores)} recordings in {seconds:.0f} s.")
    if truth is not None:
        # Recordings of other folds, and those that could not be read, have no scores.
        scored = truth[truth["recording_id"].isin(set(scores["recording_id"]))]
        if scored.empty:
            raise UserError(
                f"The truth must name recordings that were scored. None of its {len(truth)} is "
                f"among the {len(scores)} in {path}."
            )
        print(format_evaluation(evaluate_scores(scores, scored)))
    return list_left_out("Recordings without scores", predictions.failed)
