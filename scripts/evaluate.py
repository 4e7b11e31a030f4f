"""Scores against truth: LWLRAP overall and per species.

python scripts/evaluate.py --scores scores.csv --truth demo/train_truth.csv
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse

from rfcx_tf.cli import run_main
from rfcx_tf.inference.evaluation import evaluate_scores, format_evaluation, save_evaluation
from rfcx_tf.inference.tables import read_class_names, read_scores, read_truth


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="CSV", help="recording_id,s0,s1,...")
    parser.add_argument(
        "--truth", metavar="CSV", required=True, help="same columns, 1 present, 0 absent"
    )
    parser.add_argument("--species", metavar="CSV", help="species_id,name: names in the table")
    parser.add_argument("--out", metavar="CSV", help="also write the table to this file")
    arguments = parser.parse_args(argv)

    names = read_class_names(arguments.species) if arguments.species else None
    evaluation = evaluate_scores(read_scores(arguments.scores), read_truth(arguments.truth), names)
    print(format_evaluation(evaluation))
    if arguments.out:
        save_evaluation(evaluation, arguments.out)
        print(arguments.out)
    return 0


if __name__ == "__main__":
    run_main(main)
