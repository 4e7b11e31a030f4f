"""Waveform in, scores out: front end and trained detectors as one TensorFlow function.

Prediction and export use the same function, so a served model gives what predict.py gives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.frontend import FrontEnd, FrontEndStream
from rfcx_tf.model.backbones import context_frames
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.head import pool_time
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.ensemble import combine_scores


class RecordingModel(tf.Module):
    """Scores of whole recordings, averaged over the detectors of several folds.

    Attributes:
        classes: the species, in the order of the scores.
        config: the recipe.
    """

    def __init__(self, config: Config, classes, detectors: list[keras.Model]):
        super().__init__(name="recording_model")
        self.config = config
        self.classes = classes
        self._front_end = FrontEnd(config.frontend)
        self._detectors = detectors

    @property
    def sample_rate_hz(self) -> int:
        """Of the waveforms that it takes."""
        return self.config.frontend.sample_rate_hz

    @property
    def window_s(self) -> float:
        """Length of a window, in whole backbone cells."""
        return self.config.window_cells * self.config.cell_s

    @property
    def hop_s(self) -> float:
        """From the beginning of one window to that of the next."""
        return self.config.cell_s

    @property
    def running_mean_cells(self) -> int:
        """Windows that the running mean is over; 0 or 1: there is none."""
        return round(self.config.prediction.running_mean_s / self.config.cell_s)

    @property
    def shortest_samples(self) -> int:
        """Sound that a recording needs at least; a shorter one gets silence behind it."""
        config = self.config
        stride = config.model.backbone.stride[0]
        frames = (config.window_cells - 1) * stride + 1
        if config.prediction.time_shifts > 1:
            frames += stride - 1
        # With centred frames, n - 1 hops of sound give n frames.
        return (frames - 1) * config.frontend.hop_length

    @functools.cached_property
    def context_cells(self) -> int:
        """Cells on either side of one that share sound with what it sees, and one for shifts."""
        backbone = self._detectors[0].get_layer(self.config.model.backbone.name)
        return math.ceil(context_frames(backbone) / self.config.model.backbone.stride[0]) + 1

    def front_end_stream(self) -> FrontEndStream:
        """The front end for one recording, piece by piece."""
        return FrontEndStream(self._front_end)

    def spectrogram(self, waveform):
        """[batch, samples] -> [batch, frames, bands], for waveforms of any length.

        A waveform shorter than one window gets silence behind it.
        """
        missing = tf.maximum(0, self.shortest_samples - tf.shape(waveform)[1])
        return self._front_end(tf.pad(waveform, [[0, 0], [0, missing]]))

    def scores(self, spectrogram) -> dict[str, tf.Tensor]:
        """Scores of spectrograms [batch, frames, bands].

        Returns:
            scores [batch, classes]: the maximum over time of the window scores (after the
            running mean, if the recipe has one), averaged over folds; window_scores
            [batch, windows, classes], averaged over folds; window_start_s [windows], seconds
            from the beginning of the sound. All float32.
        """
        recording_scores, window_scores = [], []
        for passes in self.window_passes(spectrogram):
            smoothed = [running_mean(own, self.running_mean_cells) for own in passes]
            highest = [tf.reduce_max(own, axis=1) for own in smoothed]
            recording_scores.append(tf.reduce_mean(tf.stack(highest), axis=0))
            window_scores.append(passes[0])
        windows = tf.shape(window_scores[0])[1]
        return {
            "scores": tf.reduce_mean(tf.stack(recording_scores), axis=0),
            "window_scores": tf.reduce_mean(tf.stack(window_scores), axis=0),
            "window_start_s": tf.range(windows, dtype=tf.float32) * self.config.cell_s,
        }

    def window_passes(self, spectrogram) -> list[list[tf.Tensor]]:
        """Window scores [batch, windows, classes] by detector, then by time shift; not smoothed."""
        stride = self.config.model.backbone.stride[0]
        shifts = self.config.prediction.time_shifts
        # A later pass sees the sound some frames earlier; the last window may drop out.
        shifted = [spectrogram[:, shift * stride // shifts :] for shift in range(shifts)]
        return [[tf.sigmoid(detector(s)) for s in shifted] for detector in self._detectors]

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """`scores` of waveforms [batch, samples] at the recipe's sample rate."""
        return self.scores(self.spectrogram(waveform))

    @property
    def tensorflow_variables(self) -> list[tf.Variable]:
        """What a SavedModel has to keep: the weights, without what Keras wraps them in."""
        return [w.value for detector in self._detectors for w in detector.weights]

    def embed_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """What the network makes of a sound before it names species, for other tasks.

        Of the first fold's network alone. Every fold has a space of its own: a mean over folds
        would mean nothing, and all of them side by side would be as many times as long.

        Args:
            waveform: float32 [batch, samples] at the recipe's sample rate.

        Returns:
            window_embeddings [batch, windows, D]: the backbone's cells, pooled over frequency
            and over the window as the recipe's head does; embeddings [batch, D]: their mean.
        """
        detector, head = self._detectors[0], self.config.model.head
        backbone = keras.Model(detector.input, detector.get_layer("cells").output)
        cells = backbone(self.spectrogram(waveform))
        windows = pool_time(cells, self.config.window_cells, head.time_pooling)
        return {"embeddings": tf.reduce_mean(windows, axis=1), "window_embeddings": windows}


def running_mean(window_scores, cells: int):
    """The mean of `cells` neighbouring windows, [batch, windows, classes] as it comes.

    An even number reaches further ahead. At the ends it is over the windows that are there.
    """
    return tf.nn.avg_pool1d(window_scores, cells, 1, "SAME") if cells > 1 else window_scores


class EnsembleModel(tf.Module):
    """Scores of whole recordings by several runs, each with its own front end.

    Attributes:
        members: the runs.
        names: of the members.
        weights: of the members.
        rule: how their scores are combined, see `rfcx_tf.scoring.ensemble`.
        classes: the species, in the order of the scores.
        one_front_end: whether all members hear with the same front end.
    """

    def __init__(
        self,
        members: list[RecordingModel],
        names: Sequence[str],
        weights: Sequence[float],
        rule: str = "mean",
    ):
        """Takes members of one class list and sample rate (`open_runs`).

        Raises:
            UserError: if the windows of two members differ in length or distance, or as
                `check_rule`.
        """
        super().__init__(name="ensemble_model")
        check_rule(members, names, rule)
        _check_one_grid(members, names)
        self.members = members
        self.names = list(names)
        self.weights = list(weights)
        self.rule = rule
        self.classes = members[0].classes
        self.one_front_end = len({m.config.frontend.fingerprint for m in members}) == 1

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """Scores of waveforms [batch, samples] at the members' sample rate.

        Returns:
            as `RecordingModel.scores`. The scores are combined by the rule. The window scores
            are weighted means of the members' probabilities by every rule.
        """
        return self._combine([member.score_waveform(waveform) for member in self.members])

    @property
    def tensorflow_variables(self) -> list[tf.Variable]:
        """Of all members, see `RecordingModel.tensorflow_variables`."""
        return [variable for member in self.members for variable in member.tensorflow_variables]

    def scores(self, spectrogram) -> dict[str, tf.Tensor]:
        """The same, of spectrograms [batch, frames, bands] of the one front end."""
        return self._combine([member.scores(spectrogram) for member in self.members])

    def _combine(self, outputs: list[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        scores, window_scores = (
            [output[key] for output in outputs] for key in ("scores", "window_scores")
        )
        windows = combine_scores(window_scores, self.weights)
        if self.rule == "window":
            combined = tf.reduce_max(windows, axis=1)
        else:
            combined = combine_scores(scores, self.weights)
        return {
            "scores": combined,
            "window_scores": windows,
            "window_start_s": outputs[0]["window_start_s"],
        }


def check_rule(models: Sequence, names: Sequence[str], rule: str) -> None:
    """Refuses the rule `window` for models that do more than take the highest window.

    Args:
        models: of runs.
        names: of the runs.
        rule: see `rfcx_tf.scoring.ensemble`.

    Raises:
        UserError: with the run and its setting.
    """
    for model, name in zip(models, names, strict=True):
        if rule != "window" or not isinstance(model, RecordingModel):
            continue
        prediction = model.config.prediction
        if model.running_mean_cells > 1 or prediction.time_shifts > 1:
            raise UserError(
                "The highest mean of windows is of the members' windows as they are. "
                f"{name} has prediction.running_mean_s {prediction.running_mean_s:g} and "
                f"prediction.time_shifts {prediction.time_shifts}. Combine it by another rule, or "
                "predict with 0 and 1."
            )


def _check_one_grid(members: list[RecordingModel], names: Sequence[str]) -> None:
    """Window i must be the same sound for all members, for their window scores are averaged."""
    first = members[0].config
    for member, name in zip(members[1:], names[1:], strict=True):
        config = member.config
        if config.window_cells == first.window_cells and math.isclose(config.cell_s, first.cell_s):
            continue
        windows = [
            f"{label}: {c.window_cells * c.cell_s:.6g} s, one every {c.cell_s:.6g} s"
            for label, c in ((names[0], first), (name, config))
        ]
        raise UserError(
            "Runs in one model must have the same windows. Found "
            f"{'; '.join(windows)}. Export each by itself, or combine them with predict.py."
        )


def load_recording_model(run: RunFolder, folds: list[int] | None = None) -> RecordingModel:
    """The trained detectors of a run, in float32.

    Args:
        run: the run.
        folds: which; None: all finished ones.

    Raises:
        UserError: if there is none, or weights are missing or do not fit.
    """
    folds = run.finished_folds if folds is None else folds
    if not folds:
        raise UserError(
            f"A run needs at least one finished fold. {run.path} has none. Run train.py to its end."
        )
    detectors = []
    # Whatever precision the run was trained in, scores are float32.
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        for fold in folds:
            detector = build_detector(run.config, run.info.classes, run.info.mean_box_s)
            try:
                detector.load_weights(run.detector_weights(fold))
            except (OSError, ValueError, KeyError) as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"The weights {run.detector_weights(fold)} cannot be loaded: {reason:.200}"
                ) from None
            detectors.append(detector)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    return RecordingModel(run.config, run.info.classes, detectors)
