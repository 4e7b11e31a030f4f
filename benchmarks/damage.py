"""What one flipped bit does: in the same result, one line, work done again, or another result?

    python benchmarks/damage.py --flips 1000

Shards, a trained run, a checkpoint, a journal, embeddings, pseudo-labels, a calibration and other
small files are made. Then, one after the other, a random bit of a random file is flipped, what
reads the file reads it, and the file is mended. The table says what came of it. "Another result"
and "traceback" must stay 0; the exit status is 1 where they do not.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.core.config import Config, load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import read_kaggle_folder

ROOT = Path(__file__).resolve().parents[1]
SAME, REFUSED, AGAIN = "same result", "one line", "done again"
TRACEBACK, ANOTHER = "traceback", "another result"
OUTCOMES = (SAME, REFUSED, AGAIN, TRACEBACK, ANOTHER)


@dataclass(frozen=True)
class Target:
    """Files of one kind, and what reads them.

    Attributes:
        name: in the table.
        files: among whose bytes a bit is flipped.
        read: gives all that depends on the files, and whether any of it was made again.
        mend: undoes what `read` wrote beside the damaged file; None: it writes nothing.
    """

    name: str
    files: Sequence[Path]
    read: Callable[[], tuple[str, bool]]
    mend: Callable[[], None] | None = None


def flip_bits(target: Target, flips: int, random: np.random.Generator) -> Counter:
    """Flips so many bits of a target's files, one at a time; how often what came of it."""
    whole = {path: path.read_bytes() for path in target.files}
    ends = np.cumsum([len(content) for content in whole.values()])
    right, _ = target.read()
    found = Counter()
    for place in random.integers(ends[-1], size=flips):
        number = int(np.searchsorted(ends, place, side="right"))
        path = list(whole)[number]
        content = bytearray(whole[path])
        content[int(place) - int(ends[number])] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        found[outcome(target, right)] += 1
        path.write_bytes(whole[path])
        if target.mend is not None:
            target.mend()
    return found


def outcome(target: Target, right: str) -> str:
    """What comes of reading a target as it is now."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result, again = target.read()
    except UserError as error:
        return TRACEBACK if "\n" in str(error) else REFUSED
    except Exception as error:
        print(f"{target.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return TRACEBACK
    if result != right:
        return ANOTHER
    return AGAIN if again else SAME


def make_targets(folder: Path, data_dir: Path, config: Config) -> list[Target]:
    """Makes files of every kind, and says what reads them.

    Args:
        folder: for the files.
        data_dir: annotated recordings.
        config: a recipe that trains quickly, with two folds.
    """
    from rfcx_tf.shards.make import make_shards
    from rfcx_tf.training.run import train_run

    annotations = read_kaggle_folder(data_dir)
    shards = folder / "shards"
    make_shards(annotations, config, data_dir, shards, progress=False)
    run = train_run(config, shards, folder / "run", [0, 1], verbose=False, report=lambda line: None)
    return [
        *shard_targets(shards, partial(make_shards, annotations, config, data_dir, shards)),
        *run_targets(run, next(iter(annotations.recordings.values())).path),
        *kept_result_targets(folder),
        *small_file_targets(folder, [c.column for c in run.info.classes]),
    ]


def shard_targets(shards: Path, make: Callable) -> list[Target]:
    """Finished shards; `make` is `make_shards` for them."""
    from rfcx_tf.shards.records import ShardReader

    def read() -> tuple[str, bool]:
        reader = ShardReader(shards)
        crops = [reader[row] for row in range(len(reader.index))]
        return _digest(reader.manifest, reader.index.to_csv(), *crops), False

    def make_again() -> tuple[str, bool]:
        before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
        make(workers=1, progress=False)
        after = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
        return _digest(*(path.read_bytes() for path in sorted(shards.iterdir()))), after != before

    whole = {path: path.read_bytes() for path in shards.iterdir()}

    def mend() -> None:
        for path, content in whole.items():
            if path.read_bytes() != content:
                path.write_bytes(content)

    tfrecords = sorted(shards.glob("*.tfrecord"))
    return [
        Target("shards", tfrecords, read),
        Target("`index.csv`", [shards / "index.csv"], read),
        Target("`manifest.json`", [shards / "manifest.json"], read),
        Target("receipts of shards", sorted(shards.glob("fold*.json")), make_again, mend),
    ]


def run_targets(run, sound: Path) -> list[Target]:
    """A trained run that predicts a recording, is evaluated, and goes on."""
    from rfcx_tf.evaluation.run import evaluate_run
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.load import load_scorer
    from rfcx_tf.scoring.predict import predict_recordings
    from rfcx_tf.training.callbacks import RunState

    def predict() -> tuple[str, bool]:
        opened = open_run(run.path)
        scorer = load_scorer(opened)
        found = predict_recordings(scorer, {"a": sound}, progress=False)
        return _digest(opened.info, scorer.card, found.scores.to_csv(), found.failed), False

    def evaluate() -> tuple[str, bool]:
        opened = open_run(run.path)
        truth = pd.read_csv(run.path / "oof_scores.csv").round()
        crops, recordings = evaluate_run(opened, truth)
        figures = [opened.figures(fold) for fold in opened.finished_folds]
        return _digest(crops.to_csv(), recordings, figures), False

    class Weights:
        """Stands for a classifier: takes the bytes of a checkpoint."""

        def load_weights(self, path: Path) -> None:
            self.content = Path(path).read_bytes()

    def go_on() -> tuple[str, bool]:
        state, classifier = RunState(run.fold(0), run.config.training), Weights()
        state.restore(classifier)
        best = state.whole_weights().read_bytes()
        return _digest(classifier.content, best, state.history, state.ended), False

    fold = run.fold(0)
    return [
        Target("`detector.weights.h5`", [fold / "detector.weights.h5"], predict),
        Target(
            "`run.json`, `config.yaml`", [run.path / "run.json", run.path / "config.yaml"], predict
        ),
        Target(
            "out-of-fold tables, `done.json`, `checksums.json`",
            [
                *(run.path / name for name in ("oof_scores.csv", "oof_crops.csv")),
                *(run.path / "checksums.json", fold / "done.json"),
            ],
            evaluate,
        ),
        Target(
            "checkpoint of a training, `state.json`",
            [*fold.glob("resume-*.weights.h5"), fold / "state.json"],
            go_on,
        ),
    ]


def kept_result_targets(folder: Path) -> list[Target]:
    """What is kept so that long work goes on."""
    from rfcx_tf.runs.embeddings import EmbeddingStore, RecordingEmbeddings, read_windows
    from rfcx_tf.scoring.journal import Journal
    from rfcx_tf.scoring.scorer import RecordingResult
    from rfcx_tf.shards.pseudo_folder import read_probability, write_probability

    random, names = np.random.default_rng(1), [f"recording{number}" for number in range(8)]
    windows = random.random((len(names), 40, 24)).astype(np.float32)
    results = {
        name: RecordingResult(name, folder / name, 60.0, scores.max(axis=0), scores)
        for name, scores in zip(names, windows, strict=True)
    }
    parts = folder / "scores.csv.parts"

    def write_journal() -> None:
        journal = Journal(parts, "a")
        for name, result in results.items():
            journal.write(result, name)

    def go_on() -> tuple[str, bool]:
        journal = Journal(parts, "a")
        kept = {name: journal.read(name, name) for name in names}
        # What is not kept is scored again.
        found = [kept[name] or results[name] for name in names]
        values = [value for result in found for value in dataclasses.astuple(result)]
        return _digest(*values), None in kept.values()

    boxes_s = {name: np.array([[1.0, 2.0]]) for name in names}
    embeddings = {
        name: RecordingEmbeddings(np.arange(40.0), scores, np.array([1.0]), scores[:1])
        for name, scores in zip(names, windows, strict=True)
    }
    store = EmbeddingStore(folder / "embeddings", "model", boxes_s)
    for name, found in embeddings.items():
        store.write(name, found)

    def listen() -> tuple[str, bool]:
        kept = {name: store.read(name) for name in names}
        read = {name: read_windows(folder / "embeddings", "model", name) for name in names}
        values = [
            value
            for name in names
            for value in (
                *vars(kept[name] or embeddings[name]).values(),
                embeddings[name].windows if read[name] is None else read[name],
            )
        ]
        return _digest(*values), None in kept.values()

    write_journal()
    labels = folder / "labels"
    for name in names:
        write_probability(labels, name, np.arange(40.0), windows[names.index(name)])

    def read_labels() -> tuple[str, bool]:
        return _digest(
            *(array for name in names for array in read_probability(labels, name))
        ), False

    return [
        Target("journal of `predict`", sorted(parts.iterdir()), go_on, write_journal),
        Target("embeddings", sorted((folder / "embeddings").iterdir()), listen),
        Target("windows of pseudo-labels", sorted((labels / "windows").iterdir()), read_labels),
    ]


def small_file_targets(folder: Path, columns: list[str]) -> list[Target]:
    """Files of one class a line and the like; columns: s<species_id>."""
    from rfcx_tf.evaluation.prior_shift import read_offsets, write_prior
    from rfcx_tf.model.regressions import MaskedRegressions
    from rfcx_tf.scoring.calibration import Calibration, read_calibration, write_calibration
    from rfcx_tf.scoring.card import ModelCard
    from rfcx_tf.scoring.ensemble_weights import choose_weights, write_weights

    random, classes = np.random.default_rng(2), len(columns)
    calibration, prior, weights, regressions, card = (
        folder / name
        for name in ("calibration.yaml", "prior.yaml", "weights.yaml", "head.npz", "card.json")
    )
    knots = np.sort(random.normal(size=(2, classes, 5)).astype(np.float32))
    rows = [{"name": column, "method": "platt"} for column in columns]
    thresholds = random.random(classes).astype(np.float32)
    made = Calibration(columns, *knots, thresholds, rows, "precision 0.9")
    write_calibration(made, calibration)
    species = pd.DataFrame({"species_id": range(classes), "offset": random.normal(size=classes)})
    write_prior(prior, species, {"target": "scores.csv"})
    write_weights(weights, ["a", "b"], [0.25, 0.75])
    coefficients = random.normal(size=(16, classes))
    MaskedRegressions(
        np.zeros(16), np.ones(16), coefficients, np.zeros(classes), np.ones(classes, bool)
    ).save(regressions)
    one = (1.0,) * classes
    bands = ((500.0, 900.0),) * classes
    names = tuple(_species(columns))
    text = ModelCard(names, 24000, 2.0, 0.5, one, one, bands, calibration=made).to_json()
    card.write_text(text)

    def reading(call: Callable, *arguments: object) -> Callable[[], tuple[str, bool]]:
        return lambda: (_digest(call(*arguments)), False)

    def with_card() -> tuple[str, bool]:
        try:
            content = card.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError("A card is UTF-8.") from None
        return _digest(ModelCard.from_json(content)), False

    return [
        Target("`calibration.yaml`", [calibration], reading(read_calibration, calibration)),
        Target("prior of `prior-shift`", [prior], reading(read_offsets, prior)),
        Target(
            "weights of `ensemble`",
            [weights],
            reading(choose_weights, [str(weights)], ["a", "b"]),
        ),
        Target(
            "regressions of listeners and baselines",
            [regressions],
            reading(MaskedRegressions.load, regressions),
        ),
        Target("model card", [card], with_card),
    ]


def _species(columns: Sequence[str]) -> list:
    from rfcx_tf.core.species import SpeciesClass

    return [SpeciesClass(int(column[1:]), column) for column in columns]


def _digest(*values: object) -> str:
    """Differs where any value does, to the last bit."""
    total = hashlib.sha256()
    for value in values:
        if dataclasses.is_dataclass(value):
            value = _digest(*(getattr(value, field.name) for field in dataclasses.fields(value)))
        if isinstance(value, np.ndarray):
            value = str((value.dtype, value.shape)).encode() + value.tobytes()
        total.update(value if isinstance(value, bytes) else repr(value).encode())
        total.update(b"|")
    return total.hexdigest()


def table_of(found: dict[str, Counter]) -> str:
    """The table in Markdown, with a line of sums."""
    lines = [f"| file | flips | {' | '.join(OUTCOMES)} |", "|---" * (2 + len(OUTCOMES)) + "|"]
    for name, counts in (found | {"all": sum(found.values(), Counter())}).items():
        cells = [counts.total(), *(counts[outcome] for outcome in OUTCOMES)]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def cost_of_checks(folder: Path) -> str:
    """What the check of a shard costs once, and every read of a crop, in words.

    CPU time, the shortest of several turns: other work on the machine lengthens the rest.
    """
    from rfcx_tf.shards.records import Crop, check_shard, write_shard

    random = np.random.default_rng(3)
    spectrogram = random.normal(size=_CROP_SHAPE).astype(np.float16)
    nothing = np.zeros(0, np.int64)
    times_s = np.zeros((0, 2), np.float32)
    crop = Crop(spectrogram, "a", 0, "tp", 0, 0, (0.0,) * 4, 0, times_s, nothing, nothing)
    path = folder / "cost.tfrecord"
    index = write_shard(path, [crop] * _CROPS)
    offsets, lengths = index["offset"].to_numpy(), index["length"].to_numpy()
    mapped, checked = np.memmap(path, np.uint8, "r"), np.ones(1, bool)
    shards, rows = np.zeros(_CROPS, np.int64), random.integers(_CROPS, size=5 * _CROPS)

    def read(look: bool) -> None:
        for row in rows:
            # As `ShardReader.__getitem__`, with and without a look at what is checked.
            shard = shards[row]
            if look and not checked[shard]:
                raise AssertionError
            start = offsets[row]
            mapped[start : start + lengths[row]].tobytes()

    def seconds(call: Callable, *arguments: object) -> float:
        began = time.process_time()
        call(*arguments)
        return time.process_time() - began

    checking, with_look, without = [], [], []
    for _ in range(_TURNS):
        checking.append(seconds(check_shard, path, offsets, lengths))
        with_look.append(seconds(read, True))
        without.append(seconds(read, False))
    return (
        f"A shard of {_CROPS} crops of {lengths[0]:,} bytes is checked in {min(checking):.3f} s of "
        f"CPU time, once; reading a crop takes {1e6 * min(with_look) / len(rows):.2f} us, without "
        f"the look at what is checked {1e6 * min(without) / len(rows):.2f} us."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from rfcx_tf.demo.rainforest import make_rainforest

    overrides = [f"{key}={value}" for key, value in _QUICK.items()]
    config = load_config(ROOT / "configs" / "demo.yaml", overrides)
    random = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="rfcx-damage-") as temporary:
        folder = Path(temporary)
        make_rainforest(folder / "data", train_recordings=8, test_recordings=1, duration_s=10.0)
        targets = make_targets(folder, folder / "data", config)
        share, more = divmod(arguments.flips, len(targets))
        found = {
            target.name: flip_bits(target, share + (number < more), random)
            for number, target in enumerate(targets)
        }
        cost = cost_of_checks(folder)
    print(f"{table_of(found)}\n\n{cost}")
    return int(any(counts[bad] for counts in found.values() for bad in (TRACEBACK, ANOTHER)))


# Of the write-up's crops: 5 s with their margins. So many are in a shard, and are timed so often.
_CROP_SHAPE, _CROPS, _TURNS = (470, 128), 400, 15
_QUICK = {
    "crops.recordings_per_shard": 2,
    "model.backbone.name": "resnet10",
    "model.backbone.width": 4,
    "training.folds": 2,
    "training.epochs": 2,
    "training.steps_per_epoch": 2,
    "training.warmup_epochs": 0,
    "training.batch_size": 4,
    "training.precision": "float32",
    "training.pictures_every_epochs": 0,
}

if __name__ == "__main__":
    sys.exit(main())
