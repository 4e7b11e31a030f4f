"""Measures how fast a stage is on this machine, against a named alternative in the same run.

    python benchmarks/benchmark.py shards
    python benchmarks/benchmark.py predict --data DIR --run runs/rfcx --out runs/benchmark

Without --data it makes a few synthetic recordings. A stage's table goes to OUT/STAGE.md and
OUT/STAGE.json. Nothing else should run beside it: the table says how busy the machine was.
Stages: frontend, shards, pipeline, train, predict, backbones; and scale, which projects big jobs
from the tables of shards, train and predict in OUT.
"""

import argparse
import importlib
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import busy_warning, describe_machine
from benchmarks.options import Options
from benchmarks.report import format_report, write_report
from rfcx_tf.cli.arguments import add_override_argument, run_main
from rfcx_tf.core.config import load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("frontend", "shards", "pipeline", "train", "predict", "backbones", "scale")
# The write-up's crops are about half as long as the recipe's.
CROP_OVERRIDES = ["crops.crop_s=2.5", "crops.margin_s=1.25"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES, help="what to measure")
    parser.add_argument(
        "--config",
        type=Path,
        help="recipe (default: configs/rfcx.yaml with crops of 2.5 s)",
    )
    add_override_argument(parser, "change one value of the recipe, such as crops.crop_s=5")
    parser.add_argument(
        "--slim",
        type=Path,
        default=ROOT / "configs" / "fieldmix.yaml",
        help="predict: recipe of a small network (default: configs/fieldmix.yaml)",
    )
    parser.add_argument("--data", type=Path, help="Kaggle layout (default: synthetic)")
    parser.add_argument("--run", type=Path, help="pipeline, predict: a trained run")
    parser.add_argument("--truth", type=Path, help="pipeline: complete labels of its recordings")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="for the tables")
    for name, default, text in (
        ("repeats", 7, "rounds of every measurement"),
        ("recordings", 8, "recordings to measure with"),
        ("batch-size", 16, "crops in a batch"),
        ("steps", 10, "training steps, or batches, in one timing"),
        ("cores", 2, "cores where several are used"),
    ):
        help_text = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", type=int, default=default, help=help_text)
    parser.add_argument(
        "--duration", type=float, default=60.0, help="of synthetic recordings, s (default: 60)"
    )
    parser.add_argument(
        "--skip",
        nargs="+",
        default=[],
        metavar="VARIANT",
        help="leave out: xla, xla_bfloat16, devices, torch_bfloat16, tflite, tflite_int8, crops "
        "or a backbone; XLA compiles a big network for minutes",
    )
    arguments = parser.parse_args()
    options = read_options(arguments)
    check_writable(options.out / f"{arguments.stage}.md")
    machine = describe_machine()
    if busy_warning(machine):
        print(busy_warning(machine), file=sys.stderr)
    stage = importlib.import_module(f"benchmarks.{arguments.stage}")
    report = getattr(stage, f"measure_{arguments.stage}")(options)
    report.settings = options.settings()
    command = shlex.join(["python", "benchmarks/benchmark.py", *sys.argv[1:]])
    paths = write_report(report, arguments.stage, options.out, machine, command)
    print(f"\n{report.title}\n\n{format_report(report)}")
    print(f"Wrote {paths[0]} and {paths[1]}.")


def read_options(arguments: argparse.Namespace) -> Options:
    """The arguments, checked."""
    for name in ("repeats", "recordings", "batch_size", "steps", "cores"):
        if getattr(arguments, name) < 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} must be at least 1. Received: {getattr(arguments, name)}.")
    if arguments.truth and not arguments.run:
        raise UserError("--truth is what a run's scores are compared with. Add --run RUN.")
    overrides = arguments.overrides
    if arguments.config is None:
        overrides = [*CROP_OVERRIDES, *overrides]
    return Options(
        config=load_config(arguments.config or ROOT / "configs" / "rfcx.yaml", overrides),
        slim=load_config(arguments.slim),
        data=arguments.data,
        run=arguments.run,
        truth=arguments.truth,
        out=arguments.out,
        repeats=arguments.repeats,
        recordings=arguments.recordings,
        duration_s=arguments.duration,
        batch_size=arguments.batch_size,
        steps=arguments.steps,
        cores=arguments.cores,
        skip=tuple(arguments.skip),
    )


if __name__ == "__main__":
    run_main(main)
