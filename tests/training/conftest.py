"""A training on one device, to compare others with, and teachers."""

import math
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from rfcx_tf.core.config import Config, load_config, save_config
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring import load
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.scoring.scorer import RecordingScores
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training import pictures
from rfcx_tf.training.pseudo import rounds
from rfcx_tf.training.run import train_run


@pytest.fixture(scope="session")
def recipe_of_single_steps(tiny_config, tmp_path_factory):
    """A recipe file: epochs of one step, so every figure is that of one step.

    Dropout is off, since each device draws its own masks; so are augmentations, whose pipeline
    takes longer to build than the network.
    """
    path = tmp_path_factory.mktemp("single_steps") / "recipe.yaml"
    save_config(tiny_config, path)
    values = {
        "model.head.dropout": 0,
        **dict.fromkeys(("augment.fp_flip", "augment.fp_cut_paste", "augment.fp_mixup"), 0),
        "pseudo.mixup": 0,
        "training.epochs": 3,
        "training.steps_per_epoch": 1,
        "training.warmup_epochs": 0,
        "training.batch_size": 6,
        "training.learning_rate": 1e-3,
        "training.ema": 0.5,
    }
    save_config(load_config(path, [f"{key}={value}" for key, value in values.items()]), path)
    return path


@pytest.fixture(scope="session")
def run_on_one_device(recipe_of_single_steps, tiny_shards, steps_without_graphs, tmp_path_factory):
    """The run folder of that recipe, trained in this process."""
    path = tmp_path_factory.mktemp("one_device") / "run"
    config = load_config(recipe_of_single_steps)
    with steps_without_graphs():
        train_run(config, tiny_shards, path, [0], verbose=False, report=lambda line: None)
    return path


@pytest.fixture(scope="session")
def reference_config(tiny_config) -> Config:
    """The tiny recipe with three epochs of two steps and pictures."""
    values = tiny_config.model_dump()
    values["training"] |= {"epochs": 3, "steps_per_epoch": 2, "warmup_epochs": 0.5}
    values["training"]["pictures_every_epochs"] = 2
    # The pipeline of mixes takes as long to build as the network.
    values["augment"]["fp_mixup"] = values["pseudo"]["mixup"] = 0.0
    return Config.model_validate(values)


@pytest.fixture(scope="session")
def reference(reference_config, tiny_shards, steps_without_graphs, tmp_path_factory) -> Path:
    """The run folder of an uninterrupted training of fold 0 with `reference_config`."""
    path = tmp_path_factory.mktemp("reference") / "run"
    with steps_without_graphs(), pytest.MonkeyPatch.context() as patch:
        # Of eight crops drawing takes seconds.
        patch.setattr(pictures, "_PICTURED", 1)
        train_run(reference_config, tiny_shards, path, [0], verbose=False, report=lambda line: None)
    keras.mixed_precision.set_global_policy("float32")
    return path


@pytest.fixture
def without_pictures(monkeypatch, reference):
    """Every picture of training is one that is there already: drawing takes seconds."""
    picture = (reference / "fold0" / "validation.png").read_bytes()
    for where in ("pictures.draw_crops", "fold.draw_diagnosis"):
        monkeypatch.setattr(f"rfcx_tf.training.{where}", lambda *arguments: picture)


class FakeTeacher:
    """Gives every window the probability 0.1 x (1 + fold), and the mean fold for several."""

    kind = "fake"
    model_hash = ""

    def __init__(self, path, classes, finished_folds=(0, 1)):
        self.path = path
        for folder in (path, self.fold(0), self.fold(1)):
            folder.mkdir(parents=True)
            (folder / "oof_scores.csv").write_text("recording_id,s2\n")
        self.info = SimpleNamespace(classes=classes, shards_id="", pseudo_id="")
        self.config = Config()
        self.folds_and_seed = (2, 0)
        self.finished_folds = list(finished_folds)

    def fold(self, number):
        return self.path / f"fold{number}"


class FakeScorer:
    """Hears nothing, and gives five windows of one level."""

    sample_rates_hz = (8000,)
    at_once = 1

    def __init__(self, run, level):
        classes = run.info.classes
        unknown = (math.nan,) * len(classes)
        self.card = ModelCard(
            classes=tuple(classes),
            sample_rate_hz=8000,
            window_s=1.0,
            hop_s=1.0,
            window_centre_s=(0.5,) * len(classes),
            mean_box_s=unknown,
            box_hz=tuple(zip(unknown, unknown, strict=True)),
        )
        self._scores = np.full((5, len(classes)), level, np.float32)

    def stream(self, recording_id=None):
        return self

    def push(self, sound):
        pass

    def finish(self):
        return RecordingScores(self._scores.max(axis=0), self._scores)


def load_fake(run, folds, shards_id):
    return FakeScorer(run, 0.1 * (1 + np.mean(folds)))


@pytest.fixture
def fake_teacher(monkeypatch):
    """The class of teachers whose labels are known."""
    monkeypatch.setitem(load._LOADERS, "fake", load_fake)
    return FakeTeacher


@pytest.fixture
def pseudo_recipe(tiny_config, tmp_path):
    """The tiny recipe with bounds that an untrained network reaches, one epoch."""
    save_config(tiny_config, tmp_path / "recipe.yaml")
    return load_config(
        tmp_path / "recipe.yaml",
        [
            "training.epochs=1",
            "training.steps_per_epoch=2",
            "training.warmup_epochs=0",
            "pseudo.windows_per_recording=4",
            "pseudo.present_above=0.3",
            "pseudo.absent_below=0.25",
        ],
    )


def train_nothing(
    config, shards, run_dir, folds, *, pseudo=None, start=None, **options
) -> RunFolder:
    """Takes what `train_run` takes, and leaves a run of random weights and predictions."""
    reader = ShardReader(shards)
    run = RunFolder.create(
        run_dir, config, reader.manifest, Path(shards), pseudo=pseudo, start=start
    )
    classes = run.info.classes
    species_ids = np.array([c.species_id for c in classes])
    for fold in (fold for fold in folds if fold not in run.finished_folds):
        random = np.random.default_rng(fold)
        keras.utils.set_random_seed(fold)
        detector = build_detector(config, classes, run.info.mean_box_s)
        for weight in detector.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        run.fold(fold).mkdir(exist_ok=True)
        detector.save_weights(run.weights(fold))
        rows = reader.index.iloc[reader.rows([fold], "tp", "fp")]
        known = (rows["species_id"].to_numpy()[:, np.newaxis] == species_ids) * 1.0
        present = known * (rows["kind"] == "tp").to_numpy()[:, np.newaxis]
        table = crop_table(rows, classes, present, known, random.random(known.shape))
        write_crops(table, run.fold(fold) / "oof_crops.csv")
        names = sorted(reader.manifest.audio_sources(fold))
        columns = [c.column for c in classes]
        scores = pd.DataFrame(random.random((len(names), len(classes))), columns=columns)
        scores.insert(0, "recording_id", names)
        write_scores(scores, run.fold(fold) / "oof_scores.csv")
        run.finish(fold, {"recordings_failed": []})
    join_out_of_fold(run)
    return run


@pytest.fixture(scope="session")
def own_run(tiny_config, tiny_shards, tmp_path_factory) -> RunFolder:
    """A run of detectors, both folds, as if trained. Read only."""
    return train_nothing(tiny_config, tiny_shards, tmp_path_factory.mktemp("own") / "own", [0, 1])


@pytest.fixture
def training_is_quick(monkeypatch):
    """Students of rounds get random weights: their training is not what a test is about."""
    monkeypatch.setattr(rounds, "train_run", train_nothing)
