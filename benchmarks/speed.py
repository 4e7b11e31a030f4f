"""Measures how fast a stage is on this machine, against a named alternative in the same run.

    python benchmarks/speed.py shards
    python benchmarks/speed.py predict --data DIR --run runs/rfcx

Without --data it makes a few synthetic recordings. It writes OUT/STAGE.md and OUT/STAGE.json.
Nothing else should run meanwhile; it says how busy the machine was.
"""

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.options import Options
from benchmarks.report import busy_warning
from rfcx_tf.cli.arguments import add_override_argument
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.core.config import load_config
from rfcx_tf.core.files import check_writable

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "frontend": "decoding, mel and PCEN against libsndfile and librosa",
    "decoding": "files to samples by libsndfile against tensorflow-io in tf.data",
    "shards": "FLAC to crop shards against librosa and NumPy files",
    "pipeline": "shards to batches against plain readers",
    "train": "training steps against PyTorch",
    "predict": "FLAC to scores, in one pass against crop by crop",
    "backbones": "size and time of every network",
    "libraries": "networks of keras-cv and keras-hub against our ResNet34",
    "scale": "big jobs, projected from what shards, predict and train wrote to --out",
}
# The write-up's crops are about half as long as the recipe's.
CROP_OVERRIDES = ["crops.crop_s=2.5", "crops.margin_s=1.25"]


def main() -> None:
    parser = Parser(
        description=__doc__ + "".join(f"\n  {name:10} {text}" for name, text in STAGES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="one of those above")
    parser.add_argument(
        "--config", type=Path, help="recipe (default: configs/rfcx.yaml with crops of 2.5 s)"
    )
    add_override_argument(parser, "change one value of the recipe, such as crops.crop_s=5")
    parser.add_argument(
        "--slim",
        type=Path,
        default=ROOT / "configs" / "fieldmix.yaml",
        help="predict: recipe of a small network (default: configs/fieldmix.yaml)",
    )
    parser.add_argument("--data", type=Path, help="Kaggle layout (default: synthetic)")
    parser.add_argument("--run", type=Path, help="predict: a trained run (default: random weights)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="for the reports")
    for option, kind, default, text in (
        ("--repeats", int, 7, "rounds that count"),
        ("--recordings", int, 8, "recordings to use"),
        ("--duration", float, 60.0, "length of synthetic recordings, s"),
        ("--batch-size", int, 16, "crops in a batch"),
        ("--steps", int, 10, "training steps in one timing"),
        ("--cores", int, 2, "cores for what uses several"),
    ):
        help_text = f"{text} (default: {default:g})"
        parser.add_argument(option, type=_above_zero(kind), default=default, help=help_text)
    arguments = parser.parse_args()
    overrides = arguments.overrides if arguments.config else CROP_OVERRIDES + arguments.overrides
    options = Options(
        config=load_config(arguments.config or ROOT / "configs" / "rfcx.yaml", overrides),
        slim=load_config(arguments.slim),
        data=arguments.data,
        run=arguments.run,
        out=arguments.out,
        recordings=arguments.recordings,
        duration_s=arguments.duration,
        repeats=arguments.repeats,
        batch_size=arguments.batch_size,
        steps=arguments.steps,
        cores=arguments.cores,
    )
    check_writable(options.out / f"{arguments.stage}.md")
    warning = busy_warning()
    if warning:
        print(warning, file=sys.stderr)
    report = importlib.import_module(f"benchmarks.stages.{arguments.stage}").measure(options)
    report.notes += [warning] if warning else []
    command = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    paths = report.write(arguments.stage, options.out, command)
    print(f"\n{report.title}\n\n{report.table()}\nWrote {paths[0]} and {paths[1]}.")


def _above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    """What reads an argument that must be a number above 0."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            words = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {words} above 0. Received: {text}")
        return value

    return read


if __name__ == "__main__":
    sys.exit(exit_status(main))
