"""Joins folds of one recipe that were trained in several run folders, for example on machines.

    python scripts/join_folds.py --run runs/part_a runs/part_b --out runs/all

The parts must have one recipe and the same shards, wherever these lie. Unfinished folds are left
out. Run it again to go on after a stop, or when a part has finished more folds.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.arguments import run_main
from rfcx_tf.evaluation.fold_summary import write_summary
from rfcx_tf.runs.join import join_folds
from rfcx_tf.runs.run import RunFolder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folders, the parts")
    parser.add_argument("--out", required=True, type=Path, help="run folder for all of them")
    arguments = parser.parse_args()
    joined = join_folds([RunFolder.open(path) for path in arguments.run], arguments.out)
    print(write_summary(joined))
    print(f"Wrote {joined.path}: folds, out-of-fold scores, summary.md.")
    return 0


if __name__ == "__main__":
    run_main(main)
