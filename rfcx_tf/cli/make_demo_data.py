"""Writes a small synthetic rainforest in the Kaggle layout, with complete truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import print_next


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-recordings", type=int, default=64, metavar="N")
    parser.add_argument("--test-recordings", type=int, default=32, metavar="N")
    parser.add_argument(
        "--duration-s", type=float, default=30.0, metavar="S", help="length of every recording"
    )


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.demo.rainforest import make_rainforest, species_counts

    folder = arguments.out.resolve()
    is_new = make_rainforest(
        folder,
        seed=arguments.seed,
        train_recordings=arguments.train_recordings,
        test_recordings=arguments.test_recordings,
        duration_s=arguments.duration_s,
    )
    species = species_counts(folder)
    print(species.to_string(index=False))
    print(
        f"\n{arguments.train_recordings} training and {arguments.test_recordings} test recordings, "
        f"{species['tp_rows'].sum()} TP and {species['fp_rows'].sum()} FP rows."
    )
    print("Written:" if is_new else "Already there, made with the same parameters:")
    for path in sorted(folder.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")
    print_next(
        *("make-tfrecords", "--config", "demo", "--data", arguments.out, "--out", "tfrecords/demo")
    )
    return 0
