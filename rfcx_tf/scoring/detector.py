"""The detectors of a run as a scorer: waveform in, window scores out, averaged over folds.

Front end and networks are one TensorFlow function, which an export serves. A stream gives what one
pass over the whole recording gives, in the memory of a block:

- The front end carries its state from piece to piece, and its frames are the same to the bit.
- The network runs over blocks of frames that begin at whole strides and overlap by all that a
  cell can see on either side (`context_cells`) and by one window. Windows that see an end of the
  block which is no end of the recording are left to the neighbouring block.
- A running mean keeps as many windows as it reaches over.

So window scores differ from those of one pass by no more than float32 rounds, with EfficientNets
too, whose squeezes reach much further than convolutions: there a block is longer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import window_centres_s
from rfcx_tf.frontend.frontend import FrontEnd, FrontEndStream
from rfcx_tf.model.backbones import context_frames
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.extents import window_boxes
from rfcx_tf.model.head import pool_time
from rfcx_tf.model.weight_files import load_network
from rfcx_tf.runs.kept import again
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.card import ModelCard, by_class
from rfcx_tf.scoring.running_mean import RunningMaximum, running_mean
from rfcx_tf.scoring.scorer import RecordingScores, Sound

# Name of the output with the boxes of windows.
BOXES = "window_boxes"
# Large enough that the overlap of a residual network (5 to 10 s) costs little, small enough that
# a day takes the memory that a recording of two minutes takes.
BLOCK_S = 120.0


class DetectorScorer(tf.Module):
    """Scores by the detectors of several folds.

    Attributes:
        card: what the model is.
        config: the recipe.
        sample_rates_hz, at_once: see `Scorer`.
    """

    at_once = 1

    def __init__(self, config: Config, card: ModelCard, detectors: Sequence[keras.Model]):
        super().__init__(name="detector_scorer")
        self.config = config
        self.card = card
        self.sample_rates_hz = (card.sample_rate_hz,)
        self._front_end = FrontEnd(config.frontend)
        self._detectors = list(detectors)

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
        backbone = self._detectors[0].get_layer(self.config.model.backbone.layer_name)
        return math.ceil(context_frames(backbone) / self.config.model.backbone.stride[0]) + 1

    @functools.cached_property
    def traced_passes(self) -> tf.types.experimental.PolymorphicFunction:
        """`window_passes` of [1, frames, bands], traced once for all lengths."""
        spectrogram = tf.TensorSpec([1, None, self.config.frontend.bands], tf.float32)
        return tf.function(self.window_passes, [spectrogram], autograph=False)

    def stream(self, recording_id: str | None = None) -> _DetectorStream:
        """See `Scorer`."""
        return _DetectorStream(self, FrontEndStream(self._front_end))

    def spectrogram(self, waveform) -> tf.Tensor:
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
            from the beginning of the sound; window_boxes [batch, windows, classes, 4], see
            `window_boxes`, but from networks of earlier versions. All float32.
        """
        passes, boxes = self.window_passes(spectrogram)
        recording_scores = []
        for shifts in passes:
            smoothed = [running_mean(own, self.running_mean_cells) for own in shifts]
            highest = [tf.reduce_max(own, axis=1) for own in smoothed]
            recording_scores.append(tf.reduce_mean(tf.stack(highest), axis=0))
        window_scores = tf.stack([shifts[0] for shifts in passes])
        windows = tf.shape(window_scores)[2]
        outputs = {
            "scores": tf.reduce_mean(tf.stack(recording_scores), axis=0),
            "window_scores": tf.reduce_mean(window_scores, axis=0),
            "window_start_s": tf.range(windows, dtype=tf.float32) * self.config.cell_s,
        }
        if boxes:
            outputs[BOXES] = mean_boxes(tf.stack(boxes), window_scores)
        return outputs

    def window_passes(self, spectrogram) -> tuple[list[list[tf.Tensor]], list[tf.Tensor]]:
        """What every detector says of windows.

        Returns:
            Scores [batch, windows, classes] by detector, then by time shift; not smoothed. Boxes
            [batch, windows, classes, 4] by detector; none from networks of earlier versions.
        """
        config = self.config
        stride, shifts = config.model.backbone.stride[0], config.prediction.time_shifts
        # A later pass sees the sound some frames earlier; the last window may drop out.
        shifted = [spectrogram[:, shift * stride // shifts :] for shift in range(shifts)]
        outputs = [[detector(s) for s in shifted] for detector in self._detectors]
        boxes = [
            window_boxes(first["boxes"], config.window_cells, config.cell_s, config.frontend)
            for first, *_ in outputs
            if "boxes" in first
        ]
        return [[tf.sigmoid(own["logits"]) for own in passes] for passes in outputs], boxes

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """`scores` of waveforms [batch, samples] at the recipe's sample rate."""
        return self.scores(self.spectrogram(waveform))

    def window_count(self, samples) -> tf.Tensor:
        """Windows of a recording of so many samples, int32 [] both."""
        frames = 1 + samples // self.config.frontend.hop_length
        stride = self.config.model.backbone.stride[0]
        return tf.maximum(1, -(-frames // stride) - self.config.window_cells + 1)

    @property
    def exported_state(self) -> list[tf.Variable]:
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


def mean_boxes(boxes, weights) -> tf.Tensor:
    """One box from those of several detectors, each weighted by how surely it hears the class.

    Args:
        boxes: [detectors, ..., classes, 4].
        weights: [detectors, ..., classes], not negative.
    """
    share = (weights + 1e-9)[..., tf.newaxis]
    return tf.reduce_sum(share * boxes, axis=0) / tf.reduce_sum(share, axis=0)


class _DetectorStream:
    """One recording through a `DetectorScorer`."""

    def __init__(self, scorer: DetectorScorer, front_end: FrontEndStream):
        self._scorer = scorer
        self._front_end = front_end
        self._stride = scorer.config.model.backbone.stride[0]
        self._context = scorer.context_cells
        block_s = max(BLOCK_S, 2 * self._context * scorer.card.hop_s)
        self._block_windows = max(1, round(block_s / scorer.card.hop_s))
        self._samples = 0
        # Frames from the beginning of the next block on, and the cell that they begin with.
        self._frames = [np.zeros((0, scorer.config.frontend.bands), np.float32)]
        self._first_cell = 0
        self._next_window = 0
        self._maxima: list[list[RunningMaximum]] | None = None
        self._window_scores: list[np.ndarray] = []
        self._window_boxes: list[np.ndarray] = []

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        samples = sound[self._scorer.card.sample_rate_hz]
        self._samples += len(samples)
        self._add(self._front_end.push(samples))

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        # As in one pass, silence follows a recording that is shorter than a window.
        missing = max(0, self._scorer.shortest_samples - self._samples)
        self._add(self._front_end.push(np.zeros(missing, np.float32)))
        self._add(self._front_end.finish())
        self._score_block(np.concatenate(self._frames), None)
        by_detector = [
            np.mean([maximum.highest for maximum in maxima], axis=0) for maxima in self._maxima
        ]
        return RecordingScores(
            np.mean(by_detector, axis=0, dtype=np.float32),
            np.concatenate(self._window_scores),
            np.concatenate(self._window_boxes) if self._window_boxes else None,
        )

    def _add(self, frames: np.ndarray) -> None:
        self._frames.append(frames)
        while True:
            # The last window of the block ends here, and what its last cell sees, here.
            cells = self._next_window + self._block_windows + self._scorer.config.window_cells - 1
            block_frames = (cells + self._context - self._first_cell) * self._stride
            if sum(map(len, self._frames)) <= block_frames:
                return
            together = np.concatenate(self._frames)
            self._score_block(together[:block_frames], self._block_windows)
            self._next_window += self._block_windows
            first_cell = max(0, self._next_window - self._context)
            self._frames = [together[(first_cell - self._first_cell) * self._stride :]]
            self._first_cell = first_cell

    def _score_block(self, frames: np.ndarray, windows: int | None) -> None:
        """Scores the next so many windows, or all that are left of the recording."""
        begin = self._next_window - self._first_cell
        end = None if windows is None else begin + windows
        passes, boxes = self._scorer.traced_passes(frames[None])
        passes = [[own[:, begin:end] for own in shifts] for shifts in passes]
        window_scores = np.stack([shifts[0][0] for shifts in passes])
        self._window_scores.append(window_scores.mean(axis=0))
        if boxes:
            own_boxes = np.stack([own[0, begin:end] for own in boxes])
            self._window_boxes.append(mean_boxes(own_boxes, window_scores).numpy())
        if self._maxima is None:
            cells = self._scorer.running_mean_cells
            self._maxima = [[RunningMaximum(cells) for _ in shifts] for shifts in passes]
        for maxima, shifts in zip(self._maxima, passes, strict=True):
            for maximum, own in zip(maxima, shifts, strict=True):
                maximum.push(own, last=windows is None)


def detector_card(
    config: Config,
    classes: Sequence[SpeciesClass],
    mean_box_s: Mapping[int, float],
    box_hz: Mapping[int, tuple[float, float]],
    **about,
) -> ModelCard:
    """The card of detectors that a recipe builds.

    Args:
        config: the recipe.
        classes: the species, in the order of the outputs.
        mean_box_s, box_hz: by species id, of the boxes that they learned from.
        **about: `calibration` and `made_by` of the card.
    """
    prediction, smoothing = config.prediction, ""
    if round(prediction.running_mean_s / config.cell_s) > 1 or prediction.time_shifts > 1:
        smoothing = (
            f"prediction.running_mean_s {prediction.running_mean_s:g} and "
            f"prediction.time_shifts {prediction.time_shifts}"
        )
    return ModelCard(
        classes=tuple(classes),
        sample_rate_hz=config.frontend.sample_rate_hz,
        window_s=config.window_cells * config.cell_s,
        hop_s=config.cell_s,
        window_centre_s=tuple(window_centres_s(config, classes, mean_box_s)),
        mean_box_s=by_class(classes, mean_box_s, math.nan),
        box_hz=by_class(classes, box_hz, (math.nan, math.nan)),
        smoothing=smoothing,
        frontend=config.frontend.fingerprint,
        **about,
    )


def load_detectors(run: RunFolder, folds: Sequence[int]) -> list[keras.Model]:
    """The trained detectors of some folds of a run, in float32.

    Raises:
        UserError: if weights are missing or do not fit.
    """
    # Before the networks are built, which takes longer.
    paths = [run.whole_weights(fold) for fold in folds]
    detectors = []
    # Whatever precision the run was trained in, scores are float32.
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        for fold, path in zip(folds, paths, strict=True):
            detector = build_detector(
                run.config,
                run.info.classes,
                run.info.mean_box_s,
                box_hz=run.info.box_hz,
                boxes=run.info.boxes,
            )
            load_network(detector, path, again(run.fold(fold)))
            detectors.append(detector)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    return detectors
