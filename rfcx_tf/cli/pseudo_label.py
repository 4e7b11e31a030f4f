"""Rounds of pseudo-labels: runs label all windows, a student learns from them, and teaches next.

    rfcx-tf pseudo-label --config configs/rfcx.yaml --tfrecords tfrecords/rfcx \\
        --run runs/rfcx runs/b0 --audio DIR/test --rounds 3 --out pseudo/rfcx

Every annotated recording is labelled by the detectors that held it out. But what a student of a
fold is tested on has taught them, so the students' out-of-fold scores are flattered. With
--per-fold, as with a single --fold, every student is taught by its own fold's detectors alone, and
its scores mean what they say, if those of the teachers did; the labels take as many times the space
as there are folds.

Rounds end early when the students get worse. The same command again goes on after a stop. The last
student is an ordinary run, OUT/round3/run. A truth file is for the report only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rfcx_tf.audio.find import Recordings, find_recordings
from rfcx_tf.cli.arguments import (
    add_config_arguments,
    add_number,
    add_recording_ids_argument,
    list_left_out,
    load_recipe,
    print_next,
    print_notes,
    read_folds,
)
from rfcx_tf.core.lock import lock_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--tfrecords", required=True, type=Path, help="annotated shards")
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="first teachers")
    parser.add_argument(
        "--keep", nargs="+", type=Path, default=[], help="runs that teach in every round as well"
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="W",
        help="of --run and --keep in the first round, or a file",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for all rounds")
    add_number(parser, "--rounds", 3, "at most so many")
    parser.add_argument(
        "--fold",
        default="all",
        help="fold to train, several as in 1,3 with --per-fold, or `all` (the default)",
    )
    parser.add_argument(
        "--per-fold",
        action="store_true",
        help="label once for every fold, by its own detectors alone: clean out-of-fold scores",
    )
    parser.add_argument(
        "--audio", nargs="+", type=Path, default=[], help="recordings without annotations"
    )
    add_recording_ids_argument(parser)
    parser.add_argument(
        "--warm", action="store_true", help="students begin with their teacher's weights"
    )
    tolerance_help = "rounds end when the out-of-fold LWLRAP falls by more"
    add_number(parser, "--tolerance", 0.005, tolerance_help, or_zero=True)
    parser.add_argument("--data", type=Path, help="the annotated recordings, if they moved")
    parser.add_argument("--truth", metavar="CSV", help="complete truth: also report LWLRAP")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.audio.decode import AudioSource
    from rfcx_tf.scoring.score_table import read_truth

    config = load_recipe(arguments)
    folds = read_folds(arguments.fold, config.training.folds)
    truth = read_truth(arguments.truth) if arguments.truth else None
    found = Recordings()
    if arguments.audio:
        found = find_recordings(arguments.audio, arguments.recording_ids)
        print_notes(found.notes)
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.ensemble_weights import choose_weights
    from rfcx_tf.training.pseudo.rounds import run_rounds

    with lock_folder(arguments.out, "pseudo-label"):
        rounds = run_rounds(
            config,
            arguments.tfrecords,
            [open_run(path) for path in arguments.run],
            arguments.out,
            rounds=arguments.rounds,
            folds=folds,
            keep=[open_run(path) for path in arguments.keep],
            weights=choose_weights(arguments.weights, [*arguments.run, *arguments.keep]),
            extra={name: AudioSource(path) for name, path in found.items()},
            per_fold=arguments.per_fold,
            warm=arguments.warm,
            tolerance=arguments.tolerance,
            truth=truth,
            data_dir=arguments.data,
        )
    best = max(rounds, key=lambda one: one.masked_lwlrap)
    print(f"Wrote {arguments.out}/rounds.csv. Best: {arguments.out}/round{best.number}/run.")
    print_next("calibrate", "--run", arguments.out / f"round{best.number}" / "run")
    status = list_left_out("Could not be searched", found.left_out)
    if rounds[-1].left_out:
        print(
            f"Recordings that could not be read, or not to their ends: {rounds[-1].left_out}, see "
            "above.",
            file=sys.stderr,
        )
        return 1
    return status
