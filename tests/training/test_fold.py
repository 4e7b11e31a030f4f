"""One fold: what is learned, what is kept, and what a stop in the middle costs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from rfcx_tf.core.config import Config, TrainingConfig, save_config
from rfcx_tf.core.documents import read_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.dataset import validation_dataset
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import ShardReader, read_manifest, write_manifest
from rfcx_tf.training import fold as fold_module
from rfcx_tf.training import run as run_module
from rfcx_tf.training.callbacks import (
    EpochDraws,
    MovingAverage,
    RunState,
    TrainingDiverged,
    ValidationMonitors,
)
from rfcx_tf.training.checks import check_monitor, check_start_fits
from rfcx_tf.training.classifier import CropClassifier, compile_classifier
from rfcx_tf.training.run import train_run

EPOCHS, STEPS = 3, 4


@pytest.fixture(autouse=True)
def float32_policy():
    """A run sets the global precision; the next test wants the default again."""
    yield
    keras.mixed_precision.set_global_policy("float32")


def changed(config: Config, **sections) -> Config:
    """The recipe with other values, as in changed(config, training={"epochs": 1})."""
    values = config.model_dump()
    for name, section in sections.items():
        values[name] = section if not isinstance(section, dict) else {**values[name], **section}
    return Config.model_validate(values)


def small(tiny_config, **training) -> Config:
    defaults = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "warmup_epochs": 0.5}
    return changed(tiny_config, training={**defaults, **training})


def train(config, shards, run_dir, folds=(0,), data=None, **options):
    """The figures of every fold."""
    options |= {"data_dir": data, "verbose": False, "report": lambda _: None}
    run = train_run(config, shards, run_dir, list(folds), **options)
    return [run.figures(fold) for fold in folds]


def history_of(run_dir) -> pd.DataFrame:
    """All figures of all epochs except how long they took."""
    return pd.read_csv(Path(run_dir) / "fold0" / "history.csv").drop(columns="seconds")


class WeightRecorder(keras.callbacks.Callback):
    """The trainable weights at first and after every step, before any average is swapped in."""

    def __init__(self):
        super().__init__()
        self.first = []
        self.steps = []

    def on_train_begin(self, logs=None):
        self.first = [np.array(v) for v in self.model.trainable_variables]

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([np.array(v) for v in self.model.trainable_variables])


@pytest.fixture(scope="module")
def record_weights():
    """Adds a recorder to every fold that is trained; returns the list of them."""
    recorders, original = [], fold_module._callbacks

    def with_recorder(*arguments):
        recorders.append(WeightRecorder())
        return [recorders[-1], *original(*arguments)]

    fold_module._callbacks = with_recorder
    yield recorders
    fold_module._callbacks = original


@pytest.fixture(scope="module")
def figures(reference):
    """Those that the fold of the reference ended with."""
    return RunFolder.open(reference).figures(0)


def trained_weights(run_dir) -> list[np.ndarray]:
    run = RunFolder.open(run_dir)
    detector = build_detector(run.config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(0))
    return [np.array(v) for v in detector.trainable_variables]


def test_a_finished_fold_leaves_everything_that_the_folder_promises(reference, figures):
    names = {p.name for p in (reference / "fold0").iterdir()}
    assert names >= {
        *("detector.weights.h5", "history.csv", "validation.png", "logs", "done.json"),
        *("oof_scores.csv", "oof_crops.csv", "state.json", "resume-0003.weights.h5"),
    }
    assert not [name for name in names if name.startswith(".")]
    history = pd.read_csv(reference / "fold0" / "history.csv")
    assert history["epoch"].to_list() == [1, 2, 3]
    assert np.isfinite(history.to_numpy(float)).all()
    assert figures["epochs"] == 3
    assert figures == read_json(reference / "fold0" / "done.json", "The record")
    # monitor: last, so the figures are those of the last epoch.
    last = history.iloc[-1]
    names = [name for name in history if name.startswith("val_")]
    assert len(names) == 7
    for name in names:
        assert figures[name] == pytest.approx(last[name], abs=1e-5)


def test_out_of_fold_tables_hold_the_held_out_recordings(
    reference, figures, tiny_shards, tiny_data
):
    manifest = json.loads((tiny_shards / "manifest.json").read_text())
    held_out = {name for name, entry in manifest["recordings"].items() if entry["fold"] == 0}
    scores = pd.read_csv(reference / "oof_scores.csv")
    assert set(scores["recording_id"]) == held_out
    assert len(scores) == len(held_out) == figures["recordings_predicted"]
    assert scores.columns.to_list() == ["recording_id", "s2", "s5", "s9"]
    assert scores[["s2", "s5", "s9"]].stack().between(0, 1).all()

    crops = pd.read_csv(reference / "oof_crops.csv", dtype={"present": str, "absent": str})
    for kind, column in (("tp", "present"), ("fp", "absent")):
        own = crops[crops["kind"] == kind]
        rows = pd.read_csv(tiny_data / f"train_{kind}.csv")
        rows = rows[rows["recording_id"].isin(held_out)]
        order = ["recording_id", "t_min"]
        expected, found = (t[["species_id", *order]] for t in (rows, own))
        pd.testing.assert_frame_equal(
            found.sort_values(order).reset_index(drop=True),
            expected.sort_values(order).reset_index(drop=True),
        )
        for row in own.itertuples():
            assert str(row.species_id) in getattr(row, column).split(";")


def test_figures_are_those_of_scikit_learn_on_the_table(reference, figures):
    from sklearn.metrics import log_loss

    crops = pd.read_csv(reference / "oof_crops.csv", dtype=str, keep_default_na=False)
    for name, column, target in (
        ("val_tp_log_loss", "present", 1),
        ("val_fp_log_loss", "absent", 0),
    ):
        probability = [
            float(row[f"s{number}"])
            for _, row in crops.iterrows()
            for number in row[column].split(";")
            if number
        ]
        expected = log_loss([target] * len(probability), probability, labels=[0, 1])
        assert figures[name] == pytest.approx(expected, abs=1e-4)


def test_figures_of_boxes_are_those_of_the_table(reference, figures):
    """Counted row by row; a box begins and ends around the centre of its crop."""
    crops = pd.read_csv(reference / "oof_crops.csv", dtype={"absent": str}, keep_default_na=False)
    right = events = calls = 0
    of_calls = []
    for row in crops.to_dict("records"):
        shared_s = min(row["end_s"], row["t_max"]) - max(row["begin_s"], row["t_min"])
        both_s = max(row["end_s"], row["t_max"]) - min(row["begin_s"], row["t_min"])
        iou = max(shared_s / both_s, 0.0)
        # The box of a row is known to a part of a frame in shards.
        assert row["iou"] == pytest.approx(iou, abs=1e-3)
        is_call = row["kind"] == "tp"
        if not is_call and str(row["species_id"]) not in row["absent"].split(";"):
            continue
        is_event = row[f"s{row['species_id']}"] >= 0.5 and iou > 0
        events, calls = events + is_event, calls + is_call
        right += is_event and is_call and iou >= 0.5
        of_calls += [row["iou"]] if is_call else []
    assert calls > 5
    assert figures["val_event_f1"] == pytest.approx(2 * right / (events + calls), abs=1e-5)
    assert figures["val_median_iou"] == pytest.approx(np.median(of_calls), abs=1e-5)


def events(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """Values by tag and step of all TensorBoard event files in a folder."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


def test_tensorboard_has_the_figures_and_the_pictures(reference):
    history = history_of(reference)
    logged = events(reference / "fold0" / "logs" / "validation")
    for name in ("tp_log_loss", "fp_log_loss", "log_loss", "lrap", "event_f1", "median_iou"):
        values = [float(logged[f"epoch_{name}"][epoch]) for epoch in range(3)]
        np.testing.assert_allclose(values, history[f"val_{name}"], rtol=1e-6)
    train_logged = events(reference / "fold0" / "logs" / "train")
    losses = [float(train_logged["epoch_loss"][epoch]) for epoch in range(3)]
    np.testing.assert_allclose(losses, history["loss"], rtol=1e-6)
    # Every second epoch, and the last.
    pictures = logged["validation crops"]
    assert sorted(pictures) == [2, 3]
    width, height, png = pictures[3]
    shape = tf.io.decode_png(png).shape
    assert (int(width), int(height)) == (shape[1], shape[0])
    picture = (reference / "fold0" / "validation.png").read_bytes()
    assert tf.io.decode_png(picture).shape == shape


def test_a_finished_fold_is_not_trained_again(
    reference, reference_config, figures, tiny_shards, monkeypatch
):
    monkeypatch.setattr(fold_module, "build_detector", None)
    assert train(reference_config, tiny_shards, reference) == [figures]


def test_every_fold_trains_in_the_precision_that_was_said(
    tiny_config, tiny_shards, tmp_path, monkeypatch
):
    """Keras forgets the precision with the graphs of a fold. Here folds are made, not trained."""
    seen = []

    def make_fold(run, config, reader, fold, strategy, **options):
        run.finish(fold, {})
        classifier = fold_module._build_classifier(
            config, reader.manifest, fold, strategy, boxes=True
        )
        backbone = classifier.detector.get_layer(config.model.backbone.name)
        seen.append(backbone.get_layer("stem_conv").compute_dtype)

    monkeypatch.setattr(run_module, "train_fold", make_fold)
    monkeypatch.setattr(run_module, "join_out_of_fold", lambda run: None)
    monkeypatch.setattr(run_module, "write_summary", lambda run: None)
    train(small(tiny_config, precision="mixed_bfloat16"), tiny_shards, tmp_path, folds=[0, 1])
    assert seen == ["bfloat16", "bfloat16"]


def spoil_from(step):
    """Makes every spectrogram from a training step on NaN."""
    original = fold_module.training_dataset

    def spoilt(reader, config, folds, first_draw, *others):
        numbers = tf.data.Dataset.counter(first_draw // config.training.batch_size)
        batches = tf.data.Dataset.zip(numbers, original(reader, config, folds, first_draw, *others))

        def spoil(number, batch):
            factor = tf.where(number < step, 1.0, float("nan"))
            return {**batch, "spectrogram": batch["spectrogram"] * factor}

        return batches.map(spoil)

    return spoilt


def test_a_run_that_stopped_within_an_epoch_goes_on_bit_for_bit(
    reference,
    reference_config,
    tiny_shards,
    tmp_path,
    monkeypatch,
    run_script,
    steps_without_graphs,
    without_pictures,
):
    """NaN stops it in the middle of the second epoch, as a kill would: no file is half done."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch, steps_without_graphs():
        first_epoch = reference_config.training.steps_per_epoch
        patch.setattr(fold_module, "training_dataset", spoil_from(first_epoch + 1))
        with pytest.raises(TrainingDiverged) as caught:
            train(reference_config, tiny_shards, run)
    text = str(caught.value)
    assert "The loss must stay finite. Received: nan." in text
    assert "\n" not in text
    folder = run / "fold0"
    state = json.loads((folder / "state.json").read_text())
    assert len(state["history"]) == 1
    assert not state["ended"]
    assert (folder / state["weights"]).exists()
    assert not (folder / "done.json").exists()

    # The cause removed, it goes on as if nothing had been: dropout masks and draws included.
    save_config(reference_config, tmp_path / "run.yaml")
    with steps_without_graphs():
        resumed = run_script(
            *("train", "--config", tmp_path / "run.yaml", "--tfrecords", tiny_shards, "--run", run)
        )
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 1" in resumed.stdout
    pd.testing.assert_frame_equal(history_of(run), history_of(reference), check_exact=True)
    for own, expected in zip(trained_weights(run), trained_weights(reference), strict=True):
        np.testing.assert_array_equal(own, expected)
    for name in ("oof_scores.csv", "oof_crops.csv"):
        assert (run / name).read_bytes() == (reference / name).read_bytes()


def monitors_of(reader, config, rows):
    of_rows = reader.index.iloc[rows], reader.manifest.classes, config.frontend
    return ValidationMonitors(validation_dataset(reader, config, rows), *of_rows)


def test_weights_spoilt_by_the_last_step_are_found_at_validation(reference, tiny_shards):
    """The loss of an epoch's last step may be a number still; its update breaks the weights."""
    run, reader = RunFolder.open(reference), ShardReader(tiny_shards)
    rows = reader.rows([0], "tp", "fp")
    monitors = monitors_of(reader, run.config, rows)
    logits = np.zeros(monitors.target.shape, np.float32)
    logits[3, 1] = np.inf
    monitors.set_model(SimpleNamespace(predict=lambda *_, **options: {"logits": logits}))
    with pytest.raises(TrainingDiverged, match=r"validation logits must stay finite.*inf"):
        monitors.on_epoch_end(0, {})
    # And before the state is saved.
    state = RunState(run.fold(0), run.config.training)
    callbacks = fold_module._callbacks(run, state, monitors, reader, 0, None)
    assert callbacks.index(monitors) < callbacks.index(state)


def test_monitors_of_rows_that_there_are_none_of(reference, tiny_shards):
    run, reader = RunFolder.open(reference), ShardReader(tiny_shards)
    rows = reader.rows([0], "tp")
    monitors = monitors_of(reader, run.config, rows)
    # What a crop of a TP row knows to be absent are FP rows that lie in it too.
    monitors.known = monitors.target.copy()
    outputs = {"logits": monitors.target * 2.0}
    monitors.set_model(SimpleNamespace(predict=lambda *_, **options: outputs))
    logs = {}
    monitors.on_epoch_end(0, logs)
    assert sorted(logs) == ["val_log_loss", "val_lrap", "val_tp_log_loss"]
    # All that is known is present, with a logit of 2.
    assert logs["val_log_loss"] == logs["val_tp_log_loss"] == pytest.approx(np.log1p(np.exp(-2)))
    reader.index = reader.index[reader.index["kind"] == "tp"]
    check_monitor(reader, "val_lrap")
    with pytest.raises(UserError, match="has no FP rows"):
        check_monitor(reader, "val_fp_log_loss")


def test_boxes_of_crops_lie_where_their_rows_do(tiny_config, tiny_shards, tiny_data):
    """A crop is centred on its row, so the row is known without what shards say of it."""
    reader = ShardReader(tiny_shards)
    rows = reader.rows([0], "tp", "fp")
    monitors = monitors_of(reader, tiny_config, rows)
    kinds = (
        pd.read_csv(tiny_data / f"train_{kind}.csv").assign(kind=kind) for kind in ("tp", "fp")
    )
    key = ["recording_id", "kind", "species_id", "t_min"]
    bands = pd.concat(kinds)[[*key, "f_min", "f_max"]]
    lines = reader.index.iloc[rows].merge(bands, on=key, how="left", validate="1:1")
    boxes = np.zeros((*monitors.target.shape, 4), np.float32)
    middle_s, half_s = 1.024 / 2, (lines["t_max"] - lines["t_min"]).to_numpy() / 2
    species_ids = [c.species_id for c in reader.manifest.classes]
    own = [species_ids.index(i) for i in lines["species_id"]]
    begins_and_ends = np.column_stack([middle_s - half_s, middle_s + half_s])
    boxes[np.arange(len(rows)), own] = np.column_stack([begins_and_ends, lines[["f_min", "f_max"]]])
    logits = np.full(monitors.target.shape, 3.0, np.float32)
    outputs = {"logits": logits, "box": boxes}
    monitors.set_model(SimpleNamespace(predict=lambda *_, **options: outputs))
    figures = monitors.validate()
    found = monitors.found
    # Rounded to a frame of 16 ms. A crop that would reach beyond the recording is not centred.
    centred = (lines["t_min"] + lines["t_max"]) / 2 + middle_s < 6.0
    assert centred.mean() > 0.8
    for name, of_row in (("begin_s", "t_min"), ("end_s", "t_max")):
        np.testing.assert_allclose(found.loc[centred, name], lines.loc[centred, of_row], atol=0.009)
    assert found.loc[centred, "iou"].min() > 0.9
    np.testing.assert_allclose(found["band_iou"], 1.0, atol=1e-3)
    # Every row of a silent place is an event too.
    tp, fp = (lines["kind"] == kind for kind in ("tp", "fp"))
    assert figures["val_event_f1"] == pytest.approx(2 * tp.sum() / (2 * tp.sum() + fp.sum()))


def test_averaging_watches_the_training_and_does_not_change_it(tiny_config):
    """That the average is what is saved shows in a whole training, below."""
    random = np.random.default_rng(0)
    crops = random.gamma(1.0, 1.0, (8, 64, 32)).astype(np.float32)
    labels = {"target": random.integers(0, 2, (8, 3)), "known": np.ones((8, 3))}
    labels = {name: values.astype(np.float32) for name, values in labels.items()}
    labels["partly"] = np.zeros_like(labels["known"])
    labels["pseudo"] = np.zeros(8, np.float32)

    def steps_with(ema):
        keras.utils.set_random_seed(0)
        sound = keras.Input((64, 32))
        config = small(tiny_config, ema=ema, learning_rate=0.05, warmup_epochs=0)
        classifier = CropClassifier(
            keras.Model(sound, {"logits": keras.layers.Dense(3)(sound)}), config
        )
        compile_classifier(classifier, config.training)
        recorder = WeightRecorder()
        callbacks = [recorder, MovingAverage(resumed=False)][: 2 if ema else 1]
        options = {"batch_size": 4, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
        classifier.fit(crops, labels, callbacks=callbacks, **options)
        return recorder.steps

    for own, expected in zip(steps_with(0.8), steps_with(0.0), strict=True):
        # The swap at an epoch's end costs float32 rounding, which Adam amplifies.
        np.testing.assert_allclose(own[0], expected[0], atol=1e-3)


@pytest.fixture(scope="module")
def pseudo_shards(write_pseudo_shards, tmp_path_factory):
    """Twenty windows of `tiny_data` in both folds, with labels at random."""
    random = np.random.default_rng(0)
    labels = random.random((20, 3)), random.integers(0, 2, (20, 3))
    return write_pseudo_shards(tmp_path_factory.mktemp("pseudo"), np.arange(0, 40, 2), *labels)


def test_training_with_pseudo_labels_and_a_start_goes_on_bit_for_bit(
    reference,
    tiny_config,
    tiny_shards,
    pseudo_shards,
    tmp_path,
    monkeypatch,
    record_weights,
    without_pictures,
):
    """With all that draws or remembers something.

    That is dropout, mixes of crops and of features, pseudo-labels, a moving average, a cosine
    schedule and the scale of a loss in float16, inside which Keras keeps the average; in two parts.
    `test_devices.py` trains in bfloat16.
    """
    precision = "mixed_float16"
    config = changed(
        small(tiny_config, epochs=2, accumulation_steps=2, ema=0.9, precision=precision),
        loss={"unknown_negative_weight": 0.1, "label_smoothing": 0.1},
        augment={"tp_mixup": 0.5, "feature_mixup": 0.5},
        pseudo={"weight": 0.5, "fraction": 0.375},
    )
    options = {"pseudo": PseudoLabels(pseudo_shards), "start": RunFolder.open(reference)}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    read, original = set(), ShardReader.__getitem__
    callbacks_of = fold_module._callbacks

    def noted(self, row):
        if self.folder == pseudo_shards:
            read.add(row)
        return original(self, row)

    def keep_first_epoch(epoch, logs=None):
        if epoch == 1:
            shutil.copytree(whole, stopped)

    def with_copy(*arguments):
        return [
            keras.callbacks.LambdaCallback(on_epoch_begin=keep_first_epoch),
            *callbacks_of(*arguments),
        ]

    monkeypatch.setattr(ShardReader, "__getitem__", noted)
    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "_callbacks", with_copy)
        (summary,) = train(config, tiny_shards, whole, **options)
    for own, expected in zip(record_weights[-1].first, trained_weights(reference), strict=True):
        np.testing.assert_array_equal(own, expected)
    fold_of_row = ShardReader(pseudo_shards).index["fold"]
    assert set(fold_of_row[sorted(read)]) == {1}, "what is held out is trained on, or nothing"
    assert summary["pseudo_crops_trained_on"] == (fold_of_row == 1).sum()
    assert np.isfinite(history_of(whole).to_numpy(float)).all()
    # The saved weights are the moving average.
    steps = record_weights[-1].steps
    average = steps[0]
    for weights in steps[1:]:
        average = [0.9 * a + 0.1 * w for a, w in zip(average, weights, strict=True)]
    for own, expected in zip(trained_weights(whole), average, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)
    assert max(np.abs(a - w).max() for a, w in zip(average, steps[-1], strict=True)) > 1e-3

    assert len(json.loads((stopped / "fold0" / "state.json").read_text())["history"]) == 1
    info = RunFolder.open(stopped).info
    recorded = (info.pseudo, info.pseudo_id, info.start)
    assert recorded == (str(pseudo_shards), "pseudo", str(reference))
    text = refused(config, tiny_shards, stopped, start=options["start"])
    assert f"began with {pseudo_shards} (pseudo), not none" in text
    text = refused(config, tiny_shards, stopped, pseudo=options["pseudo"])
    assert f"began with {reference}, not none" in text
    train(config, tiny_shards, stopped, **options)
    pd.testing.assert_frame_equal(history_of(stopped), history_of(whole), check_exact=True)
    for own, expected in zip(trained_weights(stopped), trained_weights(whole), strict=True):
        np.testing.assert_array_equal(own, expected)
    for name in ("oof_scores.csv", "oof_crops.csv"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"margin_frames": 40}, "margin frames (crops.margin_s) = 40, the recipe 32"),
        ({"crop_frames": 128}, "crop frames (crops.crop_s) = 128, the recipe 64"),
        ({"folds": 3}, "training.folds = 3, the recipe 2"),
        ({"fold_seed": 7}, "training.fold_seed = 7, the recipe 0"),
        ({"frontend_fingerprint": "other"}, "front end version = other, the recipe "),
        ({"classes": [SpeciesClass(2, ""), SpeciesClass(5, "")]}, "has [2, 5], "),
    ],
)
def test_pseudo_labels_for_something_else_are_refused(
    manifest, expected, write_pseudo_shards, tiny_config, tiny_shards, tmp_path
):
    labels = [[0.9, 0.1, 0.1]], [[1, 1, 1]]
    folder = write_pseudo_shards(tmp_path, [0], *labels, **manifest)
    text = refused(tiny_config, tiny_shards, tmp_path / "run", pseudo=PseudoLabels(folder))
    assert expected in text
    assert str(folder) in text


def test_pseudo_labels_of_a_recording_that_changed_its_fold_are_refused(
    write_pseudo_shards, tiny_config, tiny_shards, tmp_path
):
    index = ShardReader(tiny_shards).index
    row = int(np.flatnonzero(index["fold"] == 1)[0])
    labels = [[0.9, 0.1, 0.1]], [[1, 1, 1]]
    folder = write_pseudo_shards(tmp_path, [row], *labels, window_folds=[0])
    text = refused(tiny_config, tiny_shards, tmp_path / "run", pseudo=PseudoLabels(folder))
    assert f"{index['recording_id'][row]} is in 0 in {folder} and in 1 in {tiny_shards}" in text


def test_a_start_with_another_model_or_without_the_fold_is_refused(
    reference, tiny_config, tiny_shards, tmp_path
):
    config = small(tiny_config)
    run = tmp_path / "run"

    def start_with(config, **info):
        """A run that never was, by its small files."""
        start = tmp_path / "start"
        (start / "fold0").mkdir(parents=True, exist_ok=True)
        save_config(config, start / "config.yaml")
        known = read_json(reference / "run.json", "The record")
        (start / "run.json").write_text(json.dumps(known | info))
        (start / "fold0" / "done.json").write_text("{}")
        return start

    start = start_with(changed(config, model={"frequency_coordinate": True}))
    text = refused(config, tiny_shards, run, start=RunFolder.open(start))
    assert f"{start} has model.frequency_coordinate = True, here it is False" in text
    start_with(changed(config, frontend={"f_min_hz": 50.0}))
    text = refused(config, tiny_shards, run, start=RunFolder.open(start))
    assert "frontend.f_min_hz = 50.0, here it is 0.0" in text
    start_with(config, classes=[{"species_id": 2, "name": "low"}])
    text = refused(config, tiny_shards, run, start=RunFolder.open(start))
    assert "classes = [2], here it is [2, 5, 9]" in text
    # Its detector of a fold has learned from what this one holds out.
    start_with(changed(config, training={"fold_seed": 3}))
    text = refused(config, tiny_shards, run, start=RunFolder.open(start))
    assert "training.fold_seed = 3, here it is 0" in text
    text = refused(config, tiny_shards, run, folds=[0, 1], start=RunFolder.open(reference))
    assert f"Finished in {reference}: 0. Asked for: 1." in text
    # The same network, however it began and whatever is left out in training.
    head = config.model.head.model_dump() | {"dropout": 0.1}
    backbone = config.model.backbone.model_dump() | {"drop_path": 0.2}
    start_with(changed(config, model={"head": head, "backbone": backbone}))
    check_start_fits(RunFolder.open(start), read_manifest(tiny_shards), config, [0])


class FakeModel:
    """Of a model, what RunState touches; counts the saves."""

    class Optimizer:
        learning_rate = 1.0
        variables = ()

    def __init__(self):
        self.variables = ()
        self.optimizer = self.Optimizer()
        self.stop_training = False
        self.detector = self
        self.layers = []
        self.saved = []

    def save_weights(self, path):
        Path(path).write_text("weights")
        if "detector" in path.name:
            self.saved.append(path.name)

    def load_weights(self, path):
        assert Path(path).exists()


def epochs(folder, config, values, model=None, name="val_log_loss"):
    """Feeds one value of the monitor an epoch; returns the state and the model."""
    model = model or FakeModel()
    state = RunState(folder, config)
    state.set_model(model)
    first = state.restore(model)
    for epoch, value in enumerate(values, start=first):
        state.on_epoch_begin(epoch)
        saves = len(model.saved)
        state.on_epoch_end(epoch, {"loss": 1.0, name: value})
        state.history[-1]["saved"] = len(model.saved) > saves
        if model.stop_training:
            break
    return state, model


PLATEAU = TrainingConfig(
    epochs=20,
    schedule="plateau",
    plateau_epochs=2,
    plateau_factor=0.5,
    monitor="val_log_loss",
    early_stopping_epochs=4,
)
VALUES = [1.0, 0.8, 0.9, 0.85, 0.7, 0.71, 0.72, 0.73, 0.74, 0.1]
RATES = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_plateau_and_early_stopping_by_hand(tmp_path):
    """Cut after the 2nd, 4th epoch without a better value; stop after the 4th."""
    state, model = epochs(tmp_path, PLATEAU, VALUES)
    assert [row["learning_rate"] for row in state.history] == RATES
    best = [number for number, row in enumerate(state.history, 1) if row["saved"]]
    assert best == [1, 2, 5]
    assert state.describe_checkpoint().startswith("epoch 5, best by val_log_loss (0.7000)")
    assert model.stop_training
    assert state.ended
    assert json.loads((tmp_path / "state.json").read_text())["ended"]
    assert [p.name for p in tmp_path.glob("resume-*")] == ["resume-0009.weights.h5"]
    assert len(pd.read_csv(tmp_path / "history.csv")) == 9


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 8])
def test_a_restart_does_not_change_what_the_history_decides(tmp_path, stop):
    state, model = epochs(tmp_path, PLATEAU, VALUES[:stop])
    restarted = FakeModel()
    # What the weight file keeps of the optimiser.
    restarted.optimizer.learning_rate = model.optimizer.learning_rate
    state, model = epochs(tmp_path, PLATEAU, VALUES[stop:], restarted)
    assert [row["learning_rate"] for row in state.history] == RATES
    assert state.ended


def test_lrap_is_better_when_higher_and_nan_is_never_best(tmp_path):
    config = PLATEAU.model_copy(update={"monitor": "val_lrap"})
    values = [float("nan"), 0.2, 0.5, 0.4, float("nan"), 0.6]
    state, _ = epochs(tmp_path, config, values, name="val_lrap")
    assert [row["saved"] for row in state.history] == [True, True, True, False, False, True]


def test_a_state_of_another_precision_is_refused(tmp_path):
    state = {"weights": "x", "precision": "mixed_float16", "ended": False, "history": []}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="mixed_float16, here it would be float32"):
        RunState(tmp_path, TrainingConfig()).restore(None)


@pytest.mark.parametrize("name", ["resume-0002.weights.h5", "state.json", "detector.weights.h5"])
def test_a_training_does_not_go_on_from_a_damaged_file(tmp_path, name):
    epochs(tmp_path, TrainingConfig(epochs=3, monitor="last"), [1.0, 2.0])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError) as caught:
        again = RunState(tmp_path, TrainingConfig(epochs=3))
        again.restore(FakeModel())
        again.whole_weights()
    text = str(caught.value)
    assert str(path) in text and f"move {tmp_path} out of the run" in text and "\n" not in text


def test_without_a_monitor_the_last_epoch_is_kept(tmp_path):
    config = TrainingConfig(epochs=3)
    state, _ = epochs(tmp_path, config, [1.0, 2.0, 3.0])
    assert [row["saved"] for row in state.history] == [True, True, True]
    assert state.ended
    assert state.describe_checkpoint().startswith("epoch 3, the last")


def test_dropout_masks_depend_on_the_epoch_alone():
    model = FakeModel()
    dropout, inside = (keras.layers.Dropout(0.5, seed=seed) for seed in (3, 4))
    # That of a backbone, a model in the detector.
    model.layers = [dropout, keras.Sequential([keras.Input((50,)), inside])]
    draws = EpochDraws(TrainingConfig(steps_per_epoch=10))
    draws.set_model(model)
    masks = []
    for epoch in (0, 1, 1):
        draws.on_epoch_begin(epoch)
        of_both = (layer for layer in (dropout, inside) for _ in range(2))
        masks.append([np.array(layer(np.ones((4, 50)), training=True)) for layer in of_both])
    np.testing.assert_array_equal(masks[1], masks[2])
    different = {mask.tobytes() for epoch in masks[:2] for mask in epoch}
    assert len(different) == 8


def refused(config, shards, run_dir, **options) -> str:
    with pytest.raises(UserError) as caught:
        train(config, shards, run_dir, **options)
    assert not Path(run_dir).exists() or (Path(run_dir) / "run.json").exists()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("frontend", {"f_min_hz": 50.0}, "frontend.f_min_hz = 0.0, the recipe 50.0"),
        ("frontend", {"n_mels": 64}, "frontend.n_mels = 32, the recipe 64"),
        ("training", {"folds": 3}, "training.folds = 2, the recipe 3"),
        ("training", {"fold_seed": 7}, "training.fold_seed = 0, the recipe 7"),
        ("crops", {"crop_s": 2.048}, "crop frames (crops.crop_s) = 64, the recipe 128"),
        ("crops", {"margin_s": 0.64}, "margin frames (crops.margin_s) = 32, the recipe 40"),
    ],
)
def test_shards_of_another_recipe_are_refused(
    section, values, expected, tiny_config, tiny_shards, tmp_path
):
    config = changed(tiny_config, **{section: values})
    assert expected in refused(config, tiny_shards, tmp_path / "run")


def test_a_run_does_not_go_on_with_other_shards(reference, reference_config, tiny_shards, tmp_path):
    other = tmp_path / "shards"
    shutil.copytree(tiny_shards, other)
    write_manifest(replace(read_manifest(other), shards_id="others"), other)
    text = refused(reference_config, other, reference, folds=[1])
    assert "(others)" in text


def test_recordings_that_are_nowhere_are_missed_before_training(tiny_config, tiny_shards, tmp_path):
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    text = refused(small(tiny_config), tiny_shards, tmp_path / "run", data=nowhere)
    assert str(nowhere) in text
    assert "--data" in text


def test_another_recipe_in_the_same_run_is_refused(reference, reference_config, tiny_shards):
    config = changed(reference_config, training={"learning_rate": 0.5})
    text = refused(config, tiny_shards, reference, folds=[1])
    assert "began with training.learning_rate = 0.001, not 0.5" in text


def test_an_unknown_fold_is_refused(tiny_config, tiny_shards, tmp_path):
    text = refused(tiny_config, tiny_shards, tmp_path / "run", folds=[0, 2])
    assert text == "A fold must lie between 0 and 1 (training.folds). Received: 2."


def test_missing_shards_are_refused(tiny_config, tmp_path):
    assert "manifest.json" in refused(tiny_config, tmp_path / "none", tmp_path / "run")
