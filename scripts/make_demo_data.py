"""Writes a small synthetic rainforest in the Kaggle layout, with complete truth."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.arguments import run_main
from rfcx_tf.demo.rainforest import make_rainforest


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-recordings", type=int, default=64, metavar="N")
    parser.add_argument("--test-recordings", type=int, default=32, metavar="N")
    parser.add_argument(
        "--duration-s", type=float, default=30.0, metavar="S", help="length of every recording"
    )
    args = parser.parse_args(argv)
    made = make_rainforest(
        args.out,
        seed=args.seed,
        train_recordings=args.train_recordings,
        test_recordings=args.test_recordings,
        duration_s=args.duration_s,
    )
    print(made.species.to_string(index=False))
    print(
        f"\n{made.train_recordings} training and {made.test_recordings} test recordings, "
        f"{made.species['tp_rows'].sum()} TP and {made.species['fp_rows'].sum()} FP rows."
    )
    print("Already there, made with the same parameters:" if made.reused else "Written:")
    for path in sorted(made.folder.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")
    return 0


if __name__ == "__main__":
    run_main(main)
