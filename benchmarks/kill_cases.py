"""What `kills.py` kills: verbs, what they begin with, and how that is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_RECIPE = """
frontend: {sample_rate_hz: 12000, n_fft: 256, win_length: 256, hop_length: 256, n_mels: 32}
crops: {crop_s: 1.024, margin_s: 0.512, recordings_per_shard: 2}
model: {backbone: {name: resnet10, width: 4}}
training:
  {folds: 2, epochs: 2, steps_per_epoch: 2, batch_size: 4, precision: float32,
   pictures_every_epochs: 1}
"""
_RAVEN = (
    "Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\tVerdict\n"
)


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        name: of its verb.
        inputs: what it begins with, of the base.
        words: its command line, without `rfcx-tf`; paths are relative.
        share: how many of the kills it gets, beside the others'.
        statuses: that it may end with.
        fickle: names of files that are no two times the same.
        may_repeat: the beginning of names that another run adds after a whole one, such as the
            next version of an export.
    """

    name: str
    inputs: tuple[str, ...]
    words: str
    share: float = 1.0
    statuses: tuple[int, ...] = (0,)
    fickle: tuple[str, ...] = ()
    may_repeat: tuple[str, ...] = ()


def write_files(folder: Path) -> None:
    """Writes the recipe, the tables and the review that cases begin with."""
    (folder / "tiny.yaml").write_text(_RECIPE)
    tables = folder / "tables"
    tables.mkdir()
    for number in range(3):
        rows = "".join(f"{i}\t{i}\t{i + 1}\t500\t900\tnew {number}\tTP\n" for i in range(1, 4))
        (tables / f"train{number:03d}.Table.1.selections.txt").write_text(_RAVEN + rows)
    (tables / "train003.txt").write_text("1.0\t2.0\tnew 1\n3.0\t4.0\tnew 9|FP\n")


def judge(review: Path, judged: Path) -> None:
    """Writes a review with a verdict in every row."""
    rows = pd.read_csv(review)
    rows["verdict"] = [("TP", "FP", "unsure")[number % 3] for number in range(len(rows))]
    rows.to_csv(judged, index=False)


# In this order, in one folder.
PREPARATIONS = (
    "make-demo-data --out data --train-recordings 6 --test-recordings 3 --duration-s 10",
    "make-tfrecords --config tiny.yaml --data data --out shards",
    "train --config tiny.yaml --set kind=baseline --tfrecords shards --run other",
    "train --config tiny.yaml --tfrecords shards --run first --fold 0",
    "train --config tiny.yaml --tfrecords shards --run second --fold 1",
    "train --run run --join first second",
    "predict --run run --audio data/test --out scores.csv --events events.csv --threshold 0.01 "
    "--window-scores windows.parquet",
    "review pick --events events.csv --out judged --per-class 2",
)
_DEMO = "make-demo-data --out demo --train-recordings 2 --test-recordings 1 --duration-s 10"
_SHARDS = "make-tfrecords --config tiny.yaml --data data --out shards"
_PREDICT = (
    "predict --run run --audio data/test --out scores.csv --window-scores windows.parquet "
    "--events events --format csv raven --threshold 0.01"
)
_PICK = "review pick --events events.csv --out review --per-class 2"
_APPLY = "review apply --review review.csv --data data --copy-recordings"
_PSEUDO = (
    "pseudo-label --config tiny.yaml --tfrecords shards --run run --fold 0 --rounds 1 --out pseudo"
)
_EXPORT = "export --run run --out exported --warmup-seconds 2"
_GRAPHS = ("saved_model.pb", "fingerprint.pb")

# What takes longest comes last.
CASES = (
    Case("review apply", ("data", "review.csv"), _APPLY, share=6),
    Case(
        "import-annotations",
        ("data", "tables"),
        "import-annotations --tables tables --data data",
        share=6,
        statuses=(0, 1),
    ),
    Case("train --join", ("first", "second"), "train --run run --join first second", share=6),
    Case(
        "evaluate",
        ("data", "scores.csv"),
        "evaluate --scores scores.csv --truth data/test_truth.csv --out table.csv",
        share=3,
    ),
    Case(
        "ensemble",
        ("run", "other", "data"),
        "ensemble --run run other --truth data/train_truth.csv --out weights.yaml",
        share=5,
    ),
    Case("make-demo-data", (), _DEMO, share=4),
    Case("calibrate", ("run",), "calibrate --run run", share=4),
    Case("make-tfrecords", ("tiny.yaml", "data"), _SHARDS, share=5),
    Case("review pick", ("data", "events.csv"), _PICK, share=4),
    Case("predict", ("data", "run"), _PREDICT, share=4),
    Case(
        "report",
        ("data", "run", "events.csv", "scores.csv", "windows.parquet"),
        "report --run run --events events.csv --scores scores.csv --audio data/test "
        "--window-scores windows.parquet --per-class 1 --out report.html",
        share=2,
    ),
    Case(
        "train, baseline",
        ("tiny.yaml", "data", "shards"),
        "train --config tiny.yaml --set kind=baseline --tfrecords shards --run run",
        share=2,
    ),
    Case("export", ("run",), _EXPORT, share=1.2, fickle=_GRAPHS, may_repeat=("exported/2",)),
    Case(
        "export, LiteRT",
        ("run",),
        "export --run run --out exported --format litert --seconds 2",
        share=0.8,
    ),
    Case(
        "train",
        ("tiny.yaml", "data", "shards"),
        "train --config tiny.yaml --tfrecords shards --run run --fold 0",
        share=1.2,
    ),
    Case("pseudo-label", ("tiny.yaml", "data", "shards", "run"), _PSEUDO, share=1),
)
