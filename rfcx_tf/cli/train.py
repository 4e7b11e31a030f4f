"""Trains a detector on shards, one fold or several. Run it again to go on after a stop.

    rfcx-tf train --config configs/rfcx.yaml --tfrecords tfrecords/rfcx --run runs/rfcx
    rfcx-tf train --run runs/all --join runs/part_a runs/part_b
    tensorboard --logdir runs

Over several machines: the same command on each, with TensorFlow's TF_CONFIG in the environment,
such as {"cluster": {"worker": ["a:9000", "b:9000"]}, "task": {"type": "worker", "index": 0}}.
Worker 0 writes the run folder and needs the recordings; all need the shards.

--join copies the finished folds of runs into one, instead of training. They must have one recipe
and the same shards, wherever these lie. Run it again when a run has finished more folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import (
    add_config_argument,
    add_override_argument,
    list_left_out,
    load_recipe,
    print_next,
    read_folds,
)
from rfcx_tf.core.errors import UserError

_TRAINING = "training"


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
        "--fold", default="0", help="fold to hold out, several as in 1,3, or `all` (default: 0)"
    )
    training.add_argument(
        "--pseudo",
        type=Path,
        metavar="DIR",
        help="labels of `pseudo-label`, OUT/round1/labels, to train on as well",
    )
    training.add_argument(
        "--start", type=Path, metavar="RUN", help="run whose weights the folds begin with"
    )
    training.add_argument(
        "--data", type=Path, help="the recordings, if they moved since the shards were made"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.join:
        arguments.parser.refuse_group(arguments, _TRAINING, "is for training. Leave it out.")
        return _join(arguments)
    if arguments.tfrecords is None:
        raise UserError("Training needs shards of `make-tfrecords`. Add --tfrecords DIR.")
    return _train(arguments)


def _train(arguments: argparse.Namespace) -> int:

    config = load_recipe(arguments)
    folds = read_folds(arguments.fold, config.training.folds)
    from rfcx_tf.training.multi_worker import read_worker
    from rfcx_tf.training.run import train_run

    worker = read_worker()
    summaries = train_run(
        config,
        arguments.tfrecords,
        arguments.run,
        folds,
        pseudo=arguments.pseudo,
        start=arguments.start,
        data_dir=arguments.data,
    )
    if not worker.is_chief:
        print(f"Worker {worker.number} of {worker.count} did its part; worker 0 wrote the run.")
        return 0
    print((arguments.run / "summary.md").read_text(encoding="utf-8"))
    print(
        f"Wrote {arguments.run}: weights, history, out-of-fold scores, summary.md, logs for "
        "TensorBoard."
    )
    print_next("evaluate", "--run", arguments.run)
    failed = [text for summary in summaries for text in summary["recordings_failed"]]
    return list_left_out("Recordings without out-of-fold scores", failed)


def _join(arguments: argparse.Namespace) -> int:
    from rfcx_tf.evaluation.fold_summary import write_summary
    from rfcx_tf.runs.join import join_folds
    from rfcx_tf.runs.run import RunFolder

    joined = join_folds([RunFolder.open(path) for path in arguments.join], arguments.run)
    print(write_summary(joined))
    print(f"Wrote {joined.path}: folds, out-of-fold scores, summary.md.")
    print_next("evaluate", "--run", joined.path)
    return 0
