"""Verbs that others run: shards before a training, calibration after it, the page of results."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rfcx_tf.cli.arguments import print_next_prediction
from rfcx_tf.cli.main import parse
from rfcx_tf.core.errors import UserError


def make_shards_for(run: Path, config: str, data: Path, overrides: list[str]) -> tuple[Path, int]:
    """Runs `make-tfrecords` for a run, or sees that it was done; says what it says.

    It is a process of its own, since TensorFlow's threads are set up otherwise there than for
    training.

    Returns:
        The folder of shards, beside the run's, and 1 if something was left out, else 0.

    Raises:
        UserError: if there are no shards after it.
    """
    shards = run.with_name(f"{run.resolve().name}.tfrecords")
    command = [sys.executable, "-m", "rfcx_tf", "make-tfrecords", "--config", config]
    command += ["--data", str(data), "--out", str(shards)]
    for override in overrides:
        command += ["--set", override]
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    ) as process:
        for line in process.stdout:
            # The training goes on by itself.
            if not line.startswith("Next: "):
                print(line, end="", flush=True)
    if process.returncode not in (0, 1):
        raise UserError(
            f"A training on a data folder begins with its shards. {shards} could not be made, for "
            "the reason above. If the rows, recordings or the recipe have changed since it was "
            "made, name another --run."
        )
    return shards, process.returncode


def calibrate_run(run: Path) -> None:
    """Runs `calibrate` on a run; says why where that cannot be done, and the next command."""
    try:
        _run_verb("calibrate", "--run", run)
    except UserError as error:
        print(f"Without a calibration, so events are of scores: {error}")
        print_next_prediction([run])


def report_predictions(arguments: argparse.Namespace) -> int:
    """Runs `report` on the tables of `predict --results`, whose arguments these are; its status."""
    words = ["report", "--events", arguments.events, "--scores", arguments.out]
    words += ["--window-scores", arguments.window_scores, "--audio", *arguments.audio]
    # The page of a run is of one that has held something out; a served model has none here.
    if arguments.run and len(arguments.run) == 1 and (arguments.run[0] / "oof_crops.csv").exists():
        words += ["--run", arguments.run[0]]
    for option in ("--calibration", "--recording-times"):
        value = getattr(arguments, option[2:].replace("-", "_"))
        words += [option, value] if value else []
    return _run_verb(*words, "--out", arguments.results / "report.html")


def _run_verb(*words: str | Path) -> int:
    module, arguments = parse([str(word) for word in words])
    return module.run(arguments)
