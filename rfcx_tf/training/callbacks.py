"""What happens at the end of an epoch: validation, schedule, checkpoint, history, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from rfcx_tf.core.checksums import sha256_of
from rfcx_tf.core.config import FrontEndConfig, TrainingConfig
from rfcx_tf.core.documents import DocumentError, read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.box_fit import box_figures, events_without_row, found_boxes
from rfcx_tf.evaluation.metrics import fp_log_loss, masked_log_loss, single_label_lrap, tp_log_loss
from rfcx_tf.frontend.frontend import mel_frequency_hz
from rfcx_tf.model.weight_files import load_network
from rfcx_tf.runs.kept import again

_CHECK_LOSS_EVERY_STEPS = 10


class TrainingDiverged(UserError):
    """The loss or a score is no longer a number; earlier epochs are kept."""

    def __init__(self, what: str, found: float):
        super().__init__(
            f"The {what} must stay finite. Received: {found}. Earlier epochs are kept; "
            "lower training.learning_rate or set training.gradient_clip_norm, in a new run."
        )


class ValidationMonitors(keras.callbacks.Callback):
    """Adds to the logs the write-up's three monitors on the validation crops, their sum, and boxes.

    val_tp_log_loss over known-present labels, val_fp_log_loss over known-absent ones,
    val_log_loss over both together, and val_lrap: the mean reciprocal rank of each present
    class among all classes, over crops cut for TP rows, as if nothing else were in them. Of
    networks that find boxes val_event_f1, val_median_iou and val_median_band_iou, see
    `box_figures`.

    Attributes:
        probability, target, known: of the last validation, float32 [crops, classes].
        found: what was found of the rows' species in it, see `found_boxes`; None without boxes.
    """

    def __init__(
        self, dataset, rows: pd.DataFrame, classes: Sequence[SpeciesClass], frontend: FrontEndConfig
    ):
        """Takes batches of examples and, in their order, the lines of the shards' index."""
        super().__init__()
        self._spectrograms = dataset.map(lambda batch: batch["spectrogram"])
        labels = dataset.map(lambda batch: (batch["target"], batch["known"], batch["boxes"][:, 0]))
        labels = [*labels.as_numpy_iterator()]
        self.target, self.known, boxes = (np.concatenate(of) for of in zip(*labels, strict=True))
        self._is_tp = (rows["kind"] == "tp").to_numpy()
        species_ids = [c.species_id for c in classes]
        # Absent crops are of no species, and have no box.
        self._has_row = (rows["species_id"] >= 0).to_numpy()
        own_class = rows["species_id"].map(lambda i: 0 if i < 0 else species_ids.index(i))
        self._own_class = own_class.to_numpy()
        # Boxes of rows are in frames of their crops.
        self._crop_begins_s = rows["t_min"].to_numpy() - boxes[:, 1] * frontend.frame_s
        times_s = boxes[:, 1:3] * frontend.frame_s + self._crop_begins_s[:, np.newaxis]
        bands_hz = keras.ops.convert_to_numpy(mel_frequency_hz(frontend, boxes[:, 3:]))
        self._row_boxes = np.column_stack([times_s, bands_hz])
        self.probability = np.empty(0)
        self.found: pd.DataFrame | None = None

    def validate(self) -> dict[str, float]:
        """Runs the model over the validation crops and returns the monitors that there are.

        Without crops of FP rows there is no val_fp_log_loss, without TP rows no val_tp_log_loss,
        no val_lrap and none of boxes.

        Raises:
            TrainingDiverged: if a logit is not finite; the last step of an epoch can spoil the
                weights after a loss that was still a number.
        """
        outputs = self.model.predict(self._spectrograms, verbose=0)
        logits = outputs["logits"].astype(np.float64)
        if not np.isfinite(logits).all():
            raise TrainingDiverged("validation logits", logits[~np.isfinite(logits)][0])
        self.probability = 1.0 / (1.0 + np.exp(-logits))
        tp = self._is_tp
        monitors = {
            "tp_log_loss": tp_log_loss(self.target, self.known, self.probability),
            "fp_log_loss": fp_log_loss(self.target, self.known, self.probability),
            "log_loss": masked_log_loss(self.target, self.known, self.probability),
            "lrap": single_label_lrap(self.target[tp], self.probability[tp]),
        }
        if "box" in outputs:
            monitors |= self._box_figures(outputs["box"])
        return {f"val_{name}": value for name, value in monitors.items() if not math.isnan(value)}

    def _box_figures(self, boxes: np.ndarray) -> dict[str, float]:
        own = np.arange(len(boxes)), self._own_class
        found = boxes[own].astype(np.float64)
        # As events, it begins with the recording at the earliest.
        found[:, :2] = np.maximum(0.0, found[:, :2] + self._crop_begins_s[:, np.newaxis])
        found[~self._has_row] = np.nan
        self.found = found_boxes(found, self._row_boxes)
        absent = (self.known > 0) & (self.target == 0)
        wrong = events_without_row(self._has_row, absent, self.probability)
        return box_figures(self._is_tp, absent[own], self.probability[own], self.found, wrong)

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.validate())


class NanStop(keras.callbacks.Callback):
    """Ends a run whose loss is not finite, before a checkpoint could be overwritten."""

    def on_train_batch_end(self, batch, logs=None):
        if batch % _CHECK_LOSS_EVERY_STEPS == 0:
            self._check(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs)

    def _check(self, logs):
        if not math.isfinite(logs["loss"]):
            raise TrainingDiverged("loss", logs["loss"])


class RunState(keras.callbacks.Callback):
    """Keeps what a killed run needs to go on, and the weights of the chosen epoch.

    After every epoch: `resume-N.weights.h5` with weights and optimiser, then `state.json`
    that points at it and holds the history and the checksums of both files. A kill at any moment
    leaves one of two complete states behind. It also applies the schedule that depends on a
    monitor: learning-rate cuts and early stopping follow from the history alone, so they survive a
    restart.

    Attributes:
        history: one dict of figures for every finished epoch.
        ended: whether all epochs are done or the run was stopped early.
        weights: file with the weights of the chosen epoch.
    """

    def __init__(self, folder: Path, config: TrainingConfig):
        super().__init__()
        self._folder = folder
        self._config = config
        self._epoch_began = 0.0
        self.history: list[dict] = []
        self.ended = False
        self.weights = folder / "detector.weights.h5"
        self._weights_sha256: str | None = None

    def restore(self, classifier: keras.Model) -> int:
        """Loads the last complete state, if there is one, into a built and compiled model.

        Returns:
            Number of epochs that are done.

        Raises:
            UserError: if it is damaged, or was made in another precision, whose optimiser has
                other state.
        """
        path = self._folder / "state.json"
        if not path.exists():
            return 0
        try:
            state = read_json(path, "The state of a training")
        except DocumentError as error:
            raise UserError(f"{error} {again(self._folder)}") from None
        precision = keras.mixed_precision.global_policy().name
        if state["precision"] != precision:
            raise UserError(
                f"A training goes on in the precision that it began with. {path}: "
                f"{state['precision']}, here it would be {precision}. Set training.precision in a "
                "new run, or go on where it began."
            )
        checkpoint = self._folder / state["weights"]
        # Earlier versions kept no checksums.
        self._check(checkpoint, state.get("sha256"))
        load_network(classifier, checkpoint, again(self._folder))
        self.history, self.ended = state["history"], state["ended"]
        self._weights_sha256 = state.get("best_sha256")
        return len(self.history)

    def whole_weights(self) -> Path:
        """The file with the weights of the chosen epoch.

        Raises:
            UserError: if it is not as it was written.
        """
        self._check(self.weights, self._weights_sha256)
        return self.weights

    def _check(self, path: Path, sha256: str | None) -> None:
        if sha256 is not None and path.exists() and sha256_of(path) != sha256:
            raise UserError(
                f"A training goes on with what it kept. {path} is damaged: it does not match its "
                f"checksum in state.json. {again(self._folder)}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        config = self._config
        seconds = time.perf_counter() - self._epoch_began
        logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        figures = {name: float(value) for name, value in logs.items()}
        self.history.append({"epoch": epoch + 1, **figures, "seconds": round(seconds, 2)})
        waited = self._epochs_since_best()
        if waited == 0:
            detector = self.model.detector
            with atomic_file(self.weights, room_bytes=_room_bytes(detector.variables)) as temporary:
                detector.save_weights(temporary)
            self._weights_sha256 = sha256_of(self.weights)
        elif config.schedule == "plateau" and waited % config.plateau_epochs == 0:
            self.model.optimizer.learning_rate = logs["learning_rate"] * config.plateau_factor
        stop = 0 < config.early_stopping_epochs <= waited
        self.model.stop_training = stop
        self.ended = stop or epoch + 1 == config.epochs
        self._save()

    def describe_checkpoint(self) -> str:
        """Which epoch's weights were kept, by which monitor, and what that means."""
        name, epoch = self._config.monitor, len(self.history) - self._epochs_since_best()
        if name != "last" and math.isnan(self.history[epoch - 1][name]):
            return f"epoch {epoch}, the last: {name} was never a number, so nothing was chosen"
        if name == "last":
            return (
                f"epoch {epoch}, the last (training.monitor: last): nothing was chosen by the "
                "held-out fold, so its scores are not flattered"
            )
        return (
            f"epoch {epoch}, best by {name} ({self.history[epoch - 1][name]:.4f}) on the held-out "
            "fold, whose own scores are a little flattered by that"
        )

    def _epochs_since_best(self) -> int:
        """Epochs since the monitor was at its best; 0 if that is now, or none is named."""
        name = self._config.monitor
        if name == "last":
            return 0
        values = np.array([row[name] for row in self.history])
        if np.isnan(values).all():
            return 0
        best = np.nanargmin(values) if name.endswith("log_loss") else np.nanargmax(values)
        return len(values) - 1 - int(best)

    def _save(self):
        weights = self._folder / f"resume-{len(self.history):04d}.weights.h5"
        variables = [*self.model.variables, *self.model.optimizer.variables]
        with atomic_file(weights, room_bytes=_room_bytes(variables)) as temporary:
            self.model.save_weights(temporary)
        # Before the state: a kill in between is mended by repeating the epoch.
        with atomic_file(self._folder / "history.csv") as temporary:
            pd.DataFrame(self.history).to_csv(temporary, index=False)
        state = {
            "weights": weights.name,
            "sha256": sha256_of(weights),
            "best_sha256": self._weights_sha256,
            "precision": keras.mixed_precision.global_policy().name,
            "ended": self.ended,
            "history": self.history,
        }
        atomic_write_text(self._folder / "state.json", sealed_json(state))
        for old in self._folder.glob("resume-*.weights.h5"):
            if old != weights:
                old.unlink()


def _room_bytes(variables) -> int:
    """More than a file of weights takes: their values, and what HDF5 writes around them."""
    return sum(4096 + 4 * math.prod(variable.shape) for variable in variables) + 65536


class EpochDraws(keras.callbacks.Callback):
    """Sets the random numbers of dropout and of mixes to those of an epoch's beginning.

    Weight files leave out their state, so every epoch begins with its own: a resumed run draws
    the masks that it would have drawn. Every worker has its own as well.
    """

    def __init__(self, config: TrainingConfig, worker: int = 0):
        super().__init__()
        self._config = config
        self._worker = worker

    def on_epoch_begin(self, epoch, logs=None):
        config = self._config
        steps_done = (self._worker * config.epochs + epoch) * config.steps_per_epoch
        draws_done = steps_done * config.accumulation_steps
        for layer in [*_flat_layers(self.model.detector), self.model]:
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                seed = np.asarray(generator.state)[0]
                generator.state.assign(np.array([seed, draws_done], np.uint32))


def _flat_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, and of the models in it."""
    own = [
        [layer, *_flat_layers(layer)] if isinstance(layer, keras.Model) else [layer]
        for layer in model.layers
    ]
    return [layer for layers in own for layer in layers]


class MovingAverage(keras.callbacks.SwapEMAWeights):
    """Puts the moving average of the weights into the model between epochs."""

    def __init__(self, resumed: bool):
        """Takes whether the model was restored: a saved state holds the average in the model."""
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed
