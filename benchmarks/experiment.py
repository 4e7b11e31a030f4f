"""Trains variants of a recipe and writes one table of what each is worth.

    python benchmarks/experiment.py --plan configs/experiments/frontend.yaml --data DIR \\
        --truth DIR/train_truth.csv --out experiments/frontend

The truth is used for scoring held-out recordings only. Run it again to go on after a stop. With
--variants, --folds or --seeds it trains only a part of the plan, for example a first look at one
fold; the tables hold whatever is finished.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.arguments import run_main
from rfcx_tf.scoring.score_table import read_truth


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True, type=Path, help="experiment file, YAML")
    parser.add_argument("--data", required=True, type=Path, help="folder in the Kaggle layout")
    parser.add_argument("--truth", required=True, type=Path, help="complete truth, for scoring")
    parser.add_argument("--out", required=True, type=Path, help="folder for runs and tables")
    parser.add_argument("--variants", nargs="+", help="of the plan, to train now; all if left out")
    parser.add_argument("--folds", nargs="+", type=int, help="the same for folds")
    parser.add_argument("--seeds", nargs="+", type=int, help="the same for seeds")
    arguments = parser.parse_args()
    from benchmarks import experiment_runner as experiment

    trials = experiment.list_trials(experiment.read_plan(arguments.plan))
    truth = read_truth(arguments.truth)
    chosen = experiment.select_trials(trials, arguments.variants, arguments.folds, arguments.seeds)
    table = experiment.run_trials(trials, arguments.data, truth, arguments.out, chosen)
    experiment.log_hparams(table, arguments.out)
    print((arguments.out / "summary.md").read_text(encoding="utf-8"))
    print(f"Wrote {arguments.out}/trials.csv, summary.md, hparams (for TensorBoard).")
    return 0


if __name__ == "__main__":
    run_main(main)
