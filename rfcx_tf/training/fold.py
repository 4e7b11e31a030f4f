"""One fold: shards in; weights, history, pictures and out-of-fold predictions out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.model.backbones import begin_from_weights
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import Predictions, predict_recordings
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.shards.dataset import pseudo_rows, training_dataset, validation_dataset
from rfcx_tf.shards.records import Manifest, ShardReader
from rfcx_tf.training.callbacks import NanStop, RunState, ValidationMonitors, begin_draws
from rfcx_tf.training.classifier import CropClassifier, compile_classifier
from rfcx_tf.training.devices import describe_devices
from rfcx_tf.training.diagnosis import draw_diagnosis
from rfcx_tf.training.multi_worker import (
    MultiWorkerClassifier,
    chiefs_numbers,
    read_worker,
    take_chiefs_variables,
)
from rfcx_tf.training.pictures import ValidationPictures, log_picture
from rfcx_tf.training.recording_monitor import RecordingMonitor

_TIMED_BATCHES = 5


def train_fold(
    run: RunFolder,
    reader: ShardReader,
    fold: int,
    strategy: tf.distribute.Strategy,
    *,
    pseudo: ShardReader | None = None,
    start: RunFolder | None = None,
    data_dir: Path | None = None,
    verbose: bool = True,
) -> dict:
    """Trains one fold, or goes on with it, and predicts what was held out.

    Args:
        run: the run folder.
        reader: its shards.
        fold: the fold to hold out.
        strategy: devices.
        pseudo: pseudo-labelled shards to draw from as well.
        start: a run whose detector of this fold a new fold begins with.
        data_dir: where the recordings are, if not where the shards were made from.
        verbose: show progress.

    Returns:
        Figures of the finished fold, as in `done.json`.

    Raises:
        UserError: if the fold has no rows to train or to validate on.
        TrainingDiverged: if the loss is not finite any more.
    """
    config, folder = run.config, run.fold(fold)
    done = folder / "done.json"
    chiefs_numbers(strategy, done.exists())
    if done.exists():
        return json.loads(done.read_text(encoding="utf-8"))
    others = [k for k in range(config.training.folds) if k != fold]
    trained_on, held_out = reader.rows(others, "tp", "fp"), reader.rows([fold], "tp", "fp")
    if len(trained_on) == 0 or len(held_out) == 0:
        raise UserError(
            f"A fold needs crops to train on and crops to validate on. Fold {fold} of "
            f"{reader.folder} has {len(trained_on)} and {len(held_out)}. Lower "
            "training.folds or add recordings."
        )
    pseudo_crops = 0 if pseudo is None else len(pseudo_rows(pseudo, others))
    classifier = _build_classifier(config, reader.manifest, fold, strategy)
    detector = classifier.detector
    state = RunState(folder, config.training)
    epochs_done = state.restore(classifier)
    if epochs_done == 0:
        if start is None:
            begin_from_weights(detector, config)
        else:
            detector.load_weights(start.weights(fold))
    chiefs_numbers(strategy, epochs_done, state.ended)
    take_chiefs_variables(classifier)
    monitors = ValidationMonitors(
        validation_dataset(reader, config, held_out),
        reader.index["kind"].to_numpy()[held_out] == "tp",
    )
    if not state.ended:
        dataset = _training_batches(reader, config, others, epochs_done, pseudo)
        if verbose:
            tp, fp = len(reader.rows(others, "tp")), len(reader.rows(others, "fp"))
            labelled = f", {pseudo_crops} pseudo-labelled ones" if pseudo_crops else ""
            begin = ""
            if epochs_done:
                begin = f", going on after epoch {epochs_done}"
            elif start is not None:
                begin = f", beginning with the weights of {start.path}"
            print(
                f"Fold {fold}: {tp} TP and {fp} FP crops{labelled}, {len(held_out)} held "
                f"out{begin}."
            )
            if read_worker().count == 1:
                speed = measure_speed(classifier, dataset, config.training.batch_size)
                print(
                    f"Examples/s: input pipeline alone {speed.pipeline:.0f}, training step alone "
                    f"{speed.step:.0f}, both together {speed.both:.0f}."
                )
        classifier.fit(
            dataset,
            initial_epoch=epochs_done,
            epochs=config.training.epochs,
            steps_per_epoch=config.training.steps_per_epoch,
            callbacks=_callbacks(run, state, monitors, reader, fold, epochs_done, data_dir),
            shuffle=False,  # drawn evenly already
            verbose="auto" if verbose else 0,
        )
    if verbose:
        print(f"Weights of {state.describe_checkpoint()}.")
    detector.load_weights(state.weights)
    monitors.set_model(classifier)
    figures = monitors.validate()
    _save_crops(reader, held_out, fold, monitors, folder / "oof_crops.csv")
    _save_diagnosis(monitors, run.info.classes, folder, len(state.history))
    predictions = _predict_held_out(run, reader.manifest, fold, data_dir, verbose)
    write_scores(predictions.scores, folder / "oof_scores.csv")
    summary = {
        "fold": fold,
        "devices": describe_devices(strategy),
        "precision": keras.mixed_precision.global_policy().name,
        "epochs": len(state.history),
        "checkpoint": state.describe_checkpoint(),
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
        "crops_trained_on": len(trained_on),
        "pseudo_crops_trained_on": pseudo_crops,
        "recordings_predicted": len(predictions.scores),
        "recordings_failed": predictions.failed,
        **{name: round(value, 5) for name, value in figures.items()},
    }
    atomic_write_text(done, json.dumps(summary, indent=1))
    return summary


def train_share(
    config: Config,
    reader: ShardReader,
    fold: int,
    strategy: tf.distribute.Strategy,
    pseudo: ShardReader | None = None,
) -> None:
    """What a worker that is not the chief does while the chief does `train_fold`.

    It takes its share of every batch. All else is the chief's: validation, files, predictions.

    Args:
        config, reader, fold, strategy, pseudo: as the chief's.
    """
    (is_done,) = chiefs_numbers(strategy, 0)
    if is_done:
        return
    others = [k for k in range(config.training.folds) if k != fold]
    classifier = _build_classifier(config, reader.manifest, fold, strategy)
    epochs_done, ended = chiefs_numbers(strategy, 0, 0)
    take_chiefs_variables(classifier)
    if ended:
        return
    number = read_worker().number
    draws = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begin_draws(classifier, config.training, epoch, number)
    )
    classifier.fit(
        _training_batches(reader, config, others, epochs_done, pseudo),
        initial_epoch=epochs_done,
        epochs=config.training.epochs,
        steps_per_epoch=config.training.steps_per_epoch,
        callbacks=[NanStop(), *_averaging(config, epochs_done), draws],
        verbose=0,
    )


def _build_classifier(
    config: Config, manifest: Manifest, fold: int, strategy: tf.distribute.Strategy
) -> CropClassifier:
    """With its optimiser, and all variables made."""
    keras.utils.set_random_seed(config.seed + 1000 * fold)
    with strategy.scope():
        replicas = strategy.num_replicas_in_sync
        detector = build_detector(
            config, manifest.classes, manifest.mean_box_s, synchronized=replicas > 1
        )
        kind = MultiWorkerClassifier if read_worker().count > 1 else CropClassifier
        classifier = kind(detector, config)
        compile_classifier(classifier, config.training, replicas)
        classifier.build((None, config.crop_frames, config.frontend.bands))
        classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def _training_batches(
    reader: ShardReader,
    config: Config,
    folds: list[int],
    epochs_done: int,
    pseudo: ShardReader | None,
) -> tf.data.Dataset:
    """From the first batch after so many epochs on; of several workers, this one's share."""
    first_draw = epochs_done * config.training.steps_per_epoch * config.training.batch_size
    worker = read_worker()
    dataset = training_dataset(
        reader, config, folds, first_draw, pseudo, (worker.number, worker.count)
    )
    return dataset.map(_inputs_and_labels)


def _inputs_and_labels(batch: dict) -> tuple:
    return batch["spectrogram"], {name: batch[name] for name in ("target", "known", "pseudo")}


def _callbacks(
    run: RunFolder,
    state: RunState,
    monitors: ValidationMonitors,
    reader: ShardReader,
    fold: int,
    epochs_done: int,
    data_dir: Path | None,
) -> list[keras.callbacks.Callback]:
    """In the order in which an epoch ends: average, validate, save, draw, log."""
    config, folder = run.config, run.fold(fold)
    callbacks = [NanStop(), *_averaging(config, epochs_done), monitors]
    if config.training.recording_validation:
        callbacks.append(RecordingMonitor(reader, config, fold, data_dir))
    # The state decides on early stopping, which the pictures have to know.
    callbacks.append(state)
    every = config.training.pictures_every_epochs
    if every:
        callbacks.append(ValidationPictures(reader, config, fold, folder, every))
    callbacks.append(keras.callbacks.TensorBoard(folder / "logs", write_graph=False))
    return callbacks


def _averaging(config: Config, epochs_done: int) -> list[keras.callbacks.Callback]:
    """Puts the moving average of the weights, if there is one, into the model between epochs."""
    if config.training.ema == 0:
        return []
    average = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    # A saved state holds the average in the model; the next epoch swaps it back.
    average._ema_weights_in_model = epochs_done > 0
    return [average]


class Speed(NamedTuple):
    """Examples per second: of the input pipeline, of the training step, of both together."""

    pipeline: float
    step: float
    both: float


def measure_speed(classifier: CropClassifier, dataset: tf.data.Dataset, batch_size: int) -> Speed:
    """What bounds training: a few batches drawn, a few steps on one batch, a few of both.

    The steps are undone.
    """
    batches = iter(dataset)
    one_batch = next(batches)
    began = time.perf_counter()
    for _ in range(_TIMED_BATCHES):
        next(batches)
    pipeline = _TIMED_BATCHES * batch_size / (time.perf_counter() - began)
    del batches
    variables = [*classifier.variables, *classifier.optimizer.variables]
    before = [np.array(variable) for variable in variables]

    def examples_per_s(batches: tf.data.Dataset) -> float:
        ended_at: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: ended_at.append(time.perf_counter())
        )
        # The first batch compiles.
        steps = batches.take(1 + _TIMED_BATCHES)
        classifier.fit(steps, callbacks=[clock], shuffle=False, verbose=0)
        return _TIMED_BATCHES * batch_size / (ended_at[-1] - ended_at[0])

    step = examples_per_s(tf.data.Dataset.from_tensors(one_batch).repeat())
    both = examples_per_s(dataset)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return Speed(pipeline, step, both)


def _save_crops(
    reader: ShardReader, rows: np.ndarray, fold: int, monitors: ValidationMonitors, path: Path
):
    table = crop_table(
        reader.index.iloc[rows].assign(fold=fold),
        reader.manifest.classes,
        monitors.target,
        monitors.known,
        monitors.probability,
    )
    write_crops(table, path)


def _save_diagnosis(
    monitors: ValidationMonitors, classes: list[SpeciesClass], folder: Path, epochs: int
):
    known = monitors.known > 0
    png = draw_diagnosis(known & (monitors.target > 0), known, monitors.probability, classes)
    with atomic_file(folder / "diagnosis.png") as temporary:
        temporary.write_bytes(png)
    log_picture(folder / "logs" / "validation", "diagnosis", png, epochs)


def _predict_held_out(
    run: RunFolder, manifest: Manifest, fold: int, data_dir: Path | None, verbose: bool
) -> Predictions:
    """Scores of the fold's whole recordings by the model that never saw them."""
    sources = manifest.audio_sources(fold, data_dir)
    return predict_recordings(load_scorer(run, [fold]), sources, progress=verbose)
