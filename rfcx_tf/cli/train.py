"""Trains a detector on shards, one fold or several. Run it again to go on after a stop.

rfcx-tf train --config configs/rfcx.yaml --tfrecords tfrecords/rfcx --run runs/rfcx
tensorboard --logdir runs

Over several machines: the same command on each, with TensorFlow's TF_CONFIG in the environment,
such as {"cluster": {"worker": ["a:9000", "b:9000"]}, "task": {"type": "worker", "index": 0}}.
Worker 0 writes the run folder and needs the recordings; all need the shards.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rfcx_tf.cli.arguments import add_config_arguments, read_folds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--tfrecords", required=True, type=Path, help="folder of shards")
    parser.add_argument("--run", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--fold", default="0", help="fold to hold out, several as in 1,3, or `all` (default: 0)"
    )
    parser.add_argument(
        "--pseudo",
        type=Path,
        metavar="DIR",
        help="labels of pseudo_label.py, OUT/round1/labels, to train on as well",
    )
    parser.add_argument(
        "--start", type=Path, metavar="RUN", help="run whose weights the folds begin with"
    )
    parser.add_argument(
        "--data", type=Path, help="the recordings, if they moved since the shards were made"
    )


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.config import load_config

    config = load_config(arguments.config, arguments.overrides)
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
    failed = [text for summary in summaries for text in summary["recordings_failed"]]
    if failed:
        print(f"Recordings without out-of-fold scores, {len(failed)} in all:", file=sys.stderr)
        for text in failed:
            print(f"  {text}", file=sys.stderr)
        return 1
    return 0
