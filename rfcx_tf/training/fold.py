"""One fold: shards in; weights, history, pictures and out-of-fold predictions out."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rfcx_tf.core.checksums import forget_checksums
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.progress import keras_verbosity
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.model.backbones import begin_from_weights
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.weight_files import copy_weights, load_network
from rfcx_tf.runs.kept import again
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.detector import load_detectors
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import Predictions, predict_recordings
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.shards.dataset import LABELS, pseudo_rows, training_dataset, validation_dataset
from rfcx_tf.shards.records import LABELLED, Manifest, ShardReader
from rfcx_tf.training.callbacks import (
    EpochDraws,
    MovingAverage,
    NanStop,
    RunState,
    ValidationMonitors,
)
from rfcx_tf.training.classifier import CropClassifier, compile_classifier
from rfcx_tf.training.devices import describe_devices
from rfcx_tf.training.diagnosis import draw_diagnosis
from rfcx_tf.training.multi_worker import (
    MultiWorkerClassifier,
    broadcast_numbers,
    broadcast_variables,
    read_worker,
)
from rfcx_tf.training.pictures import ValidationPictures, log_picture
from rfcx_tf.training.recording_monitor import RecordingMonitor


def train_fold(
    run: RunFolder | None,
    config: Config,
    reader: ShardReader,
    fold: int,
    strategy: tf.distribute.Strategy,
    *,
    pseudo: ShardReader | None = None,
    start: RunFolder | None = None,
    data_dir: Path | None = None,
    verbose: bool = True,
) -> None:
    """Trains one fold, or goes on with it, and predicts what was held out.

    All workers call it. One without a run folder only takes its share of every batch.

    Args:
        run: the run folder; None on a worker that is not the chief.
        config: its recipe.
        reader: its shards.
        fold: the fold to hold out.
        strategy: devices.
        pseudo: pseudo-labelled shards to draw from as well.
        start: a run whose detector of this fold a new fold begins with.
        data_dir: where the recordings are, if not where the shards were made from.
        verbose: show progress.

    Raises:
        UserError: if the fold has no rows to train or to validate on.
        TrainingDiverged: if the loss is not finite any more.
    """
    is_done, boxes = broadcast_numbers(
        strategy,
        run is not None and fold in run.finished_folds,
        run is None or run.info.boxes,
    )
    if is_done:
        return
    others = [k for k in range(config.training.folds) if k != fold]
    trained_on, held_out = reader.rows(others, *LABELLED), reader.rows([fold], *LABELLED)
    if len(trained_on) == 0 or len(held_out) == 0:
        raise UserError(
            f"A fold needs crops to train on and crops to validate on. Fold {fold} of "
            f"{reader.folder} has {len(trained_on)} and {len(held_out)}. Lower "
            "training.folds or add recordings."
        )
    classifier = _build_classifier(config, reader.manifest, fold, strategy, bool(boxes))
    epochs_done, ended, callbacks = 0, False, []
    if run is not None:
        forget_checksums(run.fold(fold))
        state = RunState(run.fold(fold), config.training)
        epochs_done, ended = state.restore(classifier), state.ended
        if epochs_done == 0 and start is None:
            begin_from_weights(classifier.detector, config)
        elif epochs_done == 0:
            (begin_with,) = load_detectors(start, [fold])
            copy_weights(begin_with, classifier.detector)
        monitors = ValidationMonitors(
            validation_dataset(reader, config, held_out),
            reader.index.iloc[held_out],
            reader.manifest.classes,
            config.frontend,
        )
        callbacks = _callbacks(run, state, monitors, reader, fold, data_dir)
    epochs_done, ended = broadcast_numbers(strategy, epochs_done, ended)
    broadcast_variables(classifier)
    pseudo_crops = 0 if pseudo is None else len(pseudo_rows(pseudo, others))
    if not ended:
        if verbose and run is not None:
            tp, fp, absent = (len(reader.rows(others, kind)) for kind in LABELLED)
            others_absent = f", {absent} absent ones" if absent else ""
            labelled = f", {pseudo_crops} pseudo-labelled ones" if pseudo_crops else ""
            begin = f", beginning with the weights of {start.path}" if start else ""
            begin = f", going on after epoch {epochs_done}" if epochs_done else begin
            print(
                f"Fold {fold}: {tp} TP and {fp} FP crops{others_absent}{labelled}, "
                f"{len(held_out)} held out{begin}."
            )
        average = [MovingAverage(resumed=epochs_done > 0)] if config.training.ema else []
        draws = EpochDraws(config.training, read_worker().number)
        classifier.fit(
            _training_batches(reader, config, others, epochs_done, pseudo),
            initial_epoch=epochs_done,
            epochs=config.training.epochs,
            steps_per_epoch=config.training.steps_per_epoch,
            # An epoch ends in this order: average, validate, save, draw, log.
            callbacks=[draws, NanStop(), *average, *callbacks],
            shuffle=False,  # drawn evenly already
            verbose=keras_verbosity(verbose and run is not None),
        )
    if run is None:
        return
    if verbose:
        print(f"Weights of {state.describe_checkpoint()}.")
    load_network(classifier.detector, state.whole_weights(), again(run.fold(fold)))
    monitors.set_model(classifier)
    figures = monitors.validate()
    _save_held_out_crops(run, reader, held_out, fold, monitors, len(state.history))
    predictions = _predict_held_out(run, reader.manifest, fold, data_dir, verbose)
    write_scores(predictions.scores, run.fold(fold) / "oof_scores.csv")
    run.finish(
        fold,
        {
            "devices": describe_devices(strategy),
            "precision": keras.mixed_precision.global_policy().name,
            "epochs": len(state.history),
            "checkpoint": state.describe_checkpoint(),
            "seconds": round(sum(row["seconds"] for row in state.history), 1),
            "crops_trained_on": len(trained_on),
            "pseudo_crops_trained_on": pseudo_crops,
            "recordings_predicted": len(predictions.scores),
            "recordings_failed": list(predictions.failed.values()),
            "recordings_cut": predictions.remarks_where(is_cut=True),
            **{name: round(value, 5) for name, value in figures.items()},
        },
    )


def _build_classifier(
    config: Config,
    manifest: Manifest,
    fold: int,
    strategy: tf.distribute.Strategy,
    boxes: bool,
) -> CropClassifier:
    """With its optimiser, and all variables made."""
    keras.utils.set_random_seed(config.seed + 1000 * fold)
    with strategy.scope():
        replicas = strategy.num_replicas_in_sync
        detector = build_detector(
            config,
            manifest.classes,
            manifest.mean_box_s,
            box_hz=manifest.box_hz,
            boxes=boxes,
            synchronized=replicas > 1,
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
    return batch["spectrogram"], {name: batch[name] for name in LABELS}


def _callbacks(
    run: RunFolder,
    state: RunState,
    monitors: ValidationMonitors,
    reader: ShardReader,
    fold: int,
    data_dir: Path | None,
) -> list[keras.callbacks.Callback]:
    """What only the chief does at the end of an epoch."""
    config, folder = run.config, run.fold(fold)
    callbacks: list[keras.callbacks.Callback] = [monitors]
    if config.training.recording_validation:
        callbacks.append(RecordingMonitor(reader, config, fold, data_dir))
    # The state decides on early stopping, which the pictures have to know.
    callbacks.append(state)
    every = config.training.pictures_every_epochs
    if every:
        callbacks.append(ValidationPictures(reader, config, fold, folder, every))
    callbacks.append(keras.callbacks.TensorBoard(folder / "logs", write_graph=False))
    return callbacks


def _save_held_out_crops(
    run: RunFolder,
    reader: ShardReader,
    rows: np.ndarray,
    fold: int,
    monitors: ValidationMonitors,
    epochs: int,
) -> None:
    """Writes the table and the picture of the last validation."""
    folder, classes = run.fold(fold), reader.manifest.classes
    index = reader.index.iloc[rows].assign(fold=fold)
    labels = monitors.target, monitors.known, monitors.probability
    write_crops(crop_table(index, classes, *labels, monitors.found), folder / "oof_crops.csv")
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
