"""Joins folds of one recipe that were trained in several run folders, for example on machines.

    rfcx-tf join-folds --run runs/part_a runs/part_b --out runs/all

The parts must have one recipe and the same shards, wherever these lie. Unfinished folds are left
out. Run it again to go on after a stop, or when a part has finished more folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folders, the parts")
    parser.add_argument("--out", required=True, type=Path, help="run folder for all of them")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.evaluation.fold_summary import write_summary
    from rfcx_tf.runs.join import join_folds
    from rfcx_tf.runs.run import RunFolder

    joined = join_folds([RunFolder.open(path) for path in arguments.run], arguments.out)
    print(write_summary(joined))
    print(f"Wrote {joined.path}: folds, out-of-fold scores, summary.md.")
    return 0
