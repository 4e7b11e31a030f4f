"""Trains what a recipe describes. Run it again to go on after a stop.

    rfcx-tf train --config my.yaml --data DIR --run runs/my
    rfcx-tf train --config configs/rfcx.yaml --tfrecords tfrecords/rfcx --run runs/rfcx
    rfcx-tf train --config configs/listeners/birdnet.yaml --model MODEL \\
        --tfrecords tfrecords/rfcx --run runs/birdnet
    rfcx-tf train --config configs/rfcx.yaml --set kind=baseline --tfrecords tfrecords/rfcx \\
        --run runs/rfcx-baseline
    rfcx-tf train --run runs/all --join runs/part_a runs/part_b
    tensorboard --logdir runs

With --data alone it does all that lies between a data folder and predictions: makes shards
(runs/my.tfrecords), trains all folds and calibrates. With --tfrecords it trains one fold, or those
of --fold, on shards of make-tfrecords.

A recipe says its kind:

    detector   (the default) a network, one fold or several
    listener   regressions on the embeddings of a model that you have, a TFLite file or the folder
               of a SavedModel; all folds. With another --set c=0.01 it only fits anew.
    baseline   regressions on pooled statistics of the detector's crops, without a network. A
               detector that scores no better has learned nothing about the shape of calls.

A run of each goes where the others go: predict, evaluate, ensemble, and as a teacher into
pseudo-label. A listener with --pseudo learns from all windows of the recordings, not only from
those with rows; with labels made --per-fold its out-of-fold scores are clean.

Over several machines: the same command on each, with TensorFlow's TF_CONFIG in the environment,
such as {"cluster": {"worker": ["a:9000", "b:9000"]}, "task": {"type": "worker", "index": 0}}.
Worker 0 writes the run folder and needs the recordings; all need the shards.

--join copies the finished folds of runs into one, instead of training. They must have one recipe
and the same shards, wherever these lie. Run it again when a run has finished more folds.
"""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

from rfcx_tf.cli.arguments import (
    add_config_argument,
    add_override_argument,
    find_recipe,
    list_left_out,
    print_next,
    read_folds,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_folder

_TRAINING = "training"
_DEFAULT_FOLDS = {"detector": "0", "baseline": "all"}
# What goes with some kinds of recipes only.
_OPTIONS = {
    "detector": {"fold", "pseudo", "start"},
    "listener": {"model", "pseudo"},
    "baseline": {"fold"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, type=Path, help="folder for the results")
    source = parser.add_mutually_exclusive_group(required=True)
    add_config_argument(source)
    source.add_argument(
        "--join", nargs="+", type=Path, metavar="RUN", help="runs whose folds are joined"
    )
    training = parser.add_argument_group(_TRAINING)
    add_override_argument(training, "change one value of the recipe, such as training.epochs=3")
    training.add_argument("--tfrecords", type=Path, help="folder of shards")
    training.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="without --tfrecords: the data folder, of which shards are made first; else the "
        "recordings, if they moved since the shards were made",
    )
    training.add_argument(
        "--fold",
        help="fold to hold out, several as in 1,3, or `all` (default: 0, of a baseline or without "
        "--tfrecords all)",
    )
    training.add_argument(
        "--pseudo",
        type=Path,
        metavar="DIR",
        help="labels of `pseudo-label`, OUT/round1/labels, to train on as well",
    )
    training.add_argument(
        "--start", type=Path, metavar="RUN", help="run whose weights a detector's folds begin with"
    )
    training.add_argument(
        "--model", type=Path, help="of a listener: TFLite file, folder of a SavedModel, or weights"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.join:
        arguments.parser.refuse_group(arguments, _TRAINING, "is for training. Leave it out.")
        return _join(arguments)
    if arguments.tfrecords is None and arguments.data is None:
        raise UserError(
            "Training needs a data folder, or shards of `make-tfrecords`. Add --data DIR or "
            "--tfrecords DIR."
        )
    from rfcx_tf.core.config import load_recipe_of_any_kind

    recipe = load_recipe_of_any_kind(find_recipe(arguments.config), arguments.overrides)
    _refuse_options(arguments, recipe.kind)
    status, from_data = 0, arguments.tfrecords is None
    if from_data:
        if "TF_CONFIG" in os.environ:
            raise UserError(
                "Several workers train on shards that are there. TF_CONFIG is set. Make them first "
                "with rfcx-tf make-tfrecords, and add --tfrecords DIR."
            )
        from rfcx_tf.cli.steps import make_shards_for

        arguments.tfrecords, status = make_shards_for(
            arguments.run, find_recipe(arguments.config), arguments.data, arguments.overrides
        )
        arguments.fold = arguments.fold or "all"
    if recipe.kind == "listener":
        left_out = _train_listener(recipe, arguments)
    else:
        folds = read_folds(arguments.fold or _DEFAULT_FOLDS[recipe.kind], recipe.training.folds)
        train = _train_detector if recipe.kind == "detector" else _train_baseline
        left_out = train(recipe, folds, arguments)
    if left_out is None:
        return status
    if from_data:
        from rfcx_tf.cli.steps import calibrate_run

        calibrate_run(arguments.run)
    else:
        print_next("evaluate", "--run", arguments.run)
    failed, cut = left_out
    status |= list_left_out("Recordings without out-of-fold scores", failed)
    return status | list_left_out("Listened to as far as they go", cut)


def _refuse_options(arguments: argparse.Namespace, kind: str) -> None:
    for option in sorted(set().union(*_OPTIONS.values()) - _OPTIONS[kind]):
        if getattr(arguments, option) is not None:
            raise UserError(f"--{option} does not go with a {kind}'s recipe. Leave it out.")
    if kind == "listener" and arguments.tfrecords is None:
        raise UserError("A listener has no crops to cut. Add --tfrecords DIR, a detector's shards.")
    if kind == "listener" and arguments.model is None:
        raise UserError(
            "A listener needs its model, a TFLite file or SavedModel. Add --model PATH."
        )


def _train_detector(
    recipe, folds: list[int], arguments: argparse.Namespace
) -> tuple[list[str], list[str]] | None:
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.shards.pseudo_folder import PseudoLabels
    from rfcx_tf.training.multi_worker import read_worker
    from rfcx_tf.training.run import train_run

    worker = read_worker()
    with lock_folder(arguments.run, "train") if worker.is_chief else nullcontext():
        run = train_run(
            recipe,
            arguments.tfrecords,
            arguments.run,
            folds,
            pseudo=PseudoLabels(arguments.pseudo) if arguments.pseudo else None,
            start=RunFolder.open(arguments.start) if arguments.start and worker.is_chief else None,
            data_dir=arguments.data,
        )
    if run is None:
        print(f"Worker {worker.number} of {worker.count} did its part; worker 0 wrote the run.")
        return None
    print((run.path / "summary.md").read_text(encoding="utf-8"))
    print(f"Wrote {run.path}: weights, history, out-of-fold scores, summary.md, TensorBoard logs.")
    return _left_out(run, folds)


def _train_listener(recipe, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    from rfcx_tf.shards.pseudo_folder import PseudoLabels
    from rfcx_tf.training.listener import train_listener

    pseudo = PseudoLabels(arguments.pseudo) if arguments.pseudo else None
    with lock_folder(arguments.run, "train"):
        run, *left_out = train_listener(
            *(arguments.model, recipe, arguments.tfrecords, arguments.run, arguments.data),
            pseudo=pseudo,
        )
    print(f"Wrote {run.path}: regressions, out-of-fold scores, embeddings.")
    return tuple(left_out)


def _train_baseline(
    recipe, folds: list[int], arguments: argparse.Namespace
) -> tuple[list[str], list[str]]:
    from rfcx_tf.training.baseline import train_baseline

    with lock_folder(arguments.run, "train"):
        run = train_baseline(
            recipe, arguments.tfrecords, arguments.run, folds, data_dir=arguments.data
        )
    print(f"Wrote {run.path}: regressions, out-of-fold scores.")
    return _left_out(run, folds)


def _left_out(run, folds: list[int]) -> tuple[list[str], list[str]]:
    """A line for every held-out recording without scores, and for every one that was cut short."""
    figures = [run.figures(fold) for fold in folds]
    # Earlier versions did not keep the second.
    names = ("recordings_failed", "recordings_cut")
    return tuple([text for own in figures for text in own.get(name, [])] for name in names)


def _join(arguments: argparse.Namespace) -> int:
    from rfcx_tf.evaluation.fold_summary import write_summary
    from rfcx_tf.runs.join import join_folds
    from rfcx_tf.runs.run import RunFolder

    with lock_folder(arguments.run, "train --join"):
        joined = join_folds([RunFolder.open(path) for path in arguments.join], arguments.run)
        print(write_summary(joined))
    print(f"Wrote {joined.path}: folds, out-of-fold scores, summary.md.")
    print_next("evaluate", "--run", joined.path)
    return 0
