"""A data folder, a recipe and shards so small that every test can afford them. Read only."""

import contextlib
import csv
import gc
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

# Before NumPy: of the tests' small matrices, threads of linear algebra only make more work. They
# spin while they wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from rfcx_tf.cli.main import main
from rfcx_tf.core.config import Config, load_config, save_config
from rfcx_tf.labels.annotations import read_kaggle_folder

pytest_plugins = ["listener_fixtures", "chromium"]

# Traced functions are many small objects that live on; going through them after every 700 new ones
# takes a twentieth of the time.
gc.set_threshold(50_000, 20, 20)

# On a busy machine an example may take as long as it takes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Band of each species' call in Hz; the ids are neither from 0 nor without gaps.
TINY_BANDS_HZ = {2: (600, 800), 5: (1400, 1700), 9: (2600, 3000)}
TINY_SAMPLE_RATE_HZ = 8000
TINY_DURATION_S = 6.0


def pytest_collection_modifyitems(items):
    """Trainings come first: a long test at the end would have the other workers wait for it."""
    items.sort(key=lambda item: not {"training", "test_end_to_end.py"} & set(item.path.parts))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with rfcx-sample/ and fieldmix/, or a skip where nothing names it."""
    folder = os.environ.get("RFCX_REAL_DATA")
    if not folder:
        pytest.skip("RFCX_REAL_DATA does not name the folder with rfcx-sample/ and fieldmix/")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder in the Kaggle layout: 10 recordings of 6 s at 8 kHz, `tiny00` to `tiny09`.

    Each holds two of three species as tone bursts in noise, with a TP row for every burst, an
    FP row for the species that is not there and one for a species that is, where it is silent.
    20 TP and 20 FP rows, species.csv, and train_truth.csv as the complete truth.
    """
    folder = tmp_path_factory.mktemp("tiny_data")
    (folder / "train").mkdir()
    random = np.random.default_rng(0)
    ids = list(TINY_BANDS_HZ)
    times_s = np.arange(int(TINY_DURATION_S * TINY_SAMPLE_RATE_HZ)) / TINY_SAMPLE_RATE_HZ
    tp_rows, fp_rows, truth = [], [], []
    for number in range(10):
        name = f"tiny{number:02d}"
        missing = ids[number % 3]
        first, second = (species for species in ids if species != missing)
        places_s = np.array([0.4, 1.6, 3.2, 5.0]) + random.uniform(0, 0.4, 4)
        boxes = [_box(start_s, 0.3 + 0.05 * i) for i, start_s in enumerate(places_s)]
        waveform = random.normal(0, 0.01, len(times_s))
        for species, (begin_s, end_s) in ((first, boxes[0]), (second, boxes[2])):
            inside = (times_s >= begin_s) & (times_s < end_s)
            tone_hz = np.mean(TINY_BANDS_HZ[species])
            waveform += inside * 0.2 * np.sin(2 * np.pi * tone_hz * times_s)
            tp_rows.append(_row(name, species, begin_s, end_s))
        for species, (begin_s, end_s) in ((missing, boxes[1]), (first, boxes[3])):
            fp_rows.append(_row(name, species, begin_s, end_s))
        truth.append([name, *(int(species != missing) for species in ids)])
        soundfile.write(folder / "train" / f"{name}.flac", waveform, TINY_SAMPLE_RATE_HZ)
    header = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
    _write_csv(folder / "train_tp.csv", header, tp_rows)
    _write_csv(folder / "train_fp.csv", header, fp_rows)
    _write_csv(folder / "train_truth.csv", ["recording_id", *(f"s{i}" for i in ids)], truth)
    names = zip(ids, ["low", "middle", "high"], strict=True)
    _write_csv(folder / "species.csv", ["species_id", "name"], names)
    return folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Config:
    """A recipe for `tiny_data`: frames of 16 ms, crops of 64 frames, margins of 32; two blocks."""
    # Not above: it imports TensorFlow, which the process that only hands out tests need not.
    from short_backbone import SHORT_BACKBONE

    values = {
        "frontend.sample_rate_hz": 8000,
        "frontend.n_fft": 256,
        "frontend.win_length": 256,
        "frontend.hop_length": 128,
        "frontend.n_mels": 32,
        "crops.crop_s": 1.024,
        "crops.margin_s": 0.512,
        "crops.recordings_per_shard": 2,
        **{f"model.backbone.{key}": json.dumps(value) for key, value in SHORT_BACKBONE.items()},
        "model.backbone.width": 4,
        "training.folds": 2,
        "training.epochs": 2,
        "training.steps_per_epoch": 3,
        "training.batch_size": 8,
        "training.precision": "float32",
        "training.pictures_every_epochs": 0,
    }
    path = tmp_path_factory.mktemp("tiny_config") / "tiny.yaml"
    path.write_text("{}")
    config = load_config(path, [f"{key}={value}" for key, value in values.items()])
    save_config(config, path)
    return config


@pytest.fixture(scope="session")
def tiny_shards(tiny_data, tiny_config, tmp_path_factory):
    """The folder of shards of `tiny_data`: 40 crops, 3 shards in each of 2 folds."""
    from rfcx_tf.shards.make import make_shards

    folder = tmp_path_factory.mktemp("tiny_shards")
    make_shards(read_kaggle_folder(tiny_data), tiny_config, tiny_data, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def write_pseudo_shards(tiny_shards):
    """A function that writes a folder of pseudo-labelled shards: windows of `tiny_data`.

    write(folder, rows, soft_target, soft_known, window_folds=None, **manifest) returns `folder`.
    Window n is the middle of the stored piece at `rows[n]` of `tiny_shards`, so the box of that
    row is in it; its labels are `soft_target[n]` and `soft_known[n]`. A window that
    `window_folds` puts into fold -1 is of a recording by another name, `else-tiny00`. `manifest`
    changes entries of the manifest, such as shards_id="b".
    """
    from rfcx_tf.shards.records import Crop, ShardReader, parse_crop, write_manifest, write_shard

    reader = ShardReader(tiny_shards)
    species = [c.species_id for c in reader.manifest.classes]
    crop_frames, margin = reader.manifest.crop_frames, reader.manifest.margin_frames

    def window(row, fold, target, known) -> Crop:
        stored = {name: value.numpy() for name, value in parse_crop(reader[row]).items()}
        begin_s = (stored["start_frame"] + margin) * 128 / TINY_SAMPLE_RATE_HZ
        end_s = begin_s + crop_frames * 128 / TINY_SAMPLE_RATE_HZ
        name = stored["recording_id"].decode()
        return Crop(
            spectrogram=stored["spectrogram"].astype(np.float16),
            recording_id=name if fold >= 0 else f"else-{name}",
            fold=int(fold),
            kind="pseudo",
            species_id=species[np.argmax(target)] if max(target) >= 0.5 else -1,
            songtype_id=-1,
            box=(begin_s, end_s, 0.0, 0.0),
            start_frame=int(stored["start_frame"]),
            box_times_s=stored["box_times_s"],
            box_classes=stored["box_classes"],
            box_present=stored["box_present"],
            soft_target=np.float32(target),
            soft_known=np.int64(known),
        )

    def write(folder, rows, soft_target, soft_known, window_folds=None, **manifest):
        if window_folds is None:
            window_folds = reader.index["fold"].to_numpy()[rows]
        crops = [
            window(*values)
            for values in zip(rows, window_folds, soft_target, soft_known, strict=True)
        ]
        shard = folder / "pseudo-0000.tfrecord"
        write_shard(shard, crops).to_csv(folder / "index.csv", index=False)
        values = {"shards_id": "pseudo", "shards": {shard.name: shard.stat().st_size}}
        values |= {"counts": {"pseudo": len(crops)}}
        write_manifest(replace(reader.manifest, **values | manifest), folder)
        return folder

    return write


@pytest.fixture(scope="session")
def write_random_run(tiny_shards):
    """A function that writes a run as if trained: write(path, config, folds=(0, 1), seed=0).

    Its weights are random, and such that window scores differ; it returns a `RunFolder`.
    """
    import keras

    from rfcx_tf.model.detector import build_detector
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.shards.records import read_manifest

    def write(path, config, folds=(0, 1), seed=0):
        run = RunFolder.create(path, config, read_manifest(tiny_shards), tiny_shards)
        random = np.random.default_rng(seed)
        # Of frames of usual sounds.
        mean, variance = (0.5, 0.2) if config.frontend.compression == "pcen" else (15.0, 4.0)
        for fold in folds:
            keras.utils.set_random_seed(seed + fold)
            detector = build_detector(config, run.info.classes, run.info.mean_box_s)
            for weight in detector.weights:
                if weight.name in ("gamma", "moving_variance"):
                    weight.assign(random.uniform(0.5, 1.5, weight.shape))
            detector.get_layer("input_bn").moving_mean.assign([mean])
            detector.get_layer("input_bn").moving_variance.assign([variance])
            run.fold(fold).mkdir(parents=True)
            detector.save_weights(run.weights(fold))
            (run.fold(fold) / "done.json").write_text(json.dumps({"fold": fold}))
        return run

    return write


@pytest.fixture(scope="session")
def untrained_run(write_random_run, tiny_config, tmp_path_factory):
    """A `RunFolder` with one fold of random weights, as if trained. Read only."""
    return write_random_run(tmp_path_factory.mktemp("untrained") / "run", tiny_config, [0])


@pytest.fixture(scope="session")
def steps_without_graphs():
    """A context in which folds train step by step, as the code is written.

    Tracing a training step and its gradient takes much longer than a few steps of a tiny network.
    """
    from rfcx_tf.training import fold

    build = fold._build_classifier

    def build_eager(*arguments, **options):
        classifier = build(*arguments, **options)
        classifier.run_eagerly = True
        return classifier

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold, "_build_classifier", build_eager)
            yield

    return context


@pytest.fixture
def run_script(capsys):
    """A function that runs a verb in this process: run(verb, *arguments).

    It gives what `subprocess.run` would: returncode, stdout and stderr. A process of its own
    costs some seconds more, for importing TensorFlow and for everything's first time.
    """

    def run(verb, *arguments) -> subprocess.CompletedProcess:
        command = [verb, *map(str, arguments)]
        capsys.readouterr()
        status = main(command)
        return subprocess.CompletedProcess(command, status, *capsys.readouterr())

    return run


def _box(start_s, length_s):
    return round(float(start_s), 4), round(float(start_s + length_s), 4)


def _row(name, species, begin_s, end_s):
    low_hz, high_hz = TINY_BANDS_HZ[species]
    return [name, species, 1, begin_s, low_hz, end_s, high_hz]


def _write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
