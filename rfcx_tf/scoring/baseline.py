"""A baseline as a scorer: regressions on pooled statistics of spectrograms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.frontend.frontend import FrontEnd, FrontEndStream
from rfcx_tf.model.regressions import MaskedRegressions
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingScores, Sound


def pooled_statistics(windows) -> tf.Tensor:
    """Mean, standard deviation and maximum over time of every band, in this order.

    Args:
        windows: spectrograms float32 [..., frames, bands].

    Returns:
        float32 [..., 3 * bands].
    """
    mean = tf.reduce_mean(windows, axis=-2)
    deviation = tf.math.reduce_std(windows, axis=-2)
    return tf.concat([mean, deviation, tf.reduce_max(windows, axis=-2)], axis=-1)


class BaselineScorer:
    """One logistic regression a class, on windows as long as a crop and half a crop apart.

    Scores are averaged over folds.

    What is left over at the end of a recording is heard in a window that ends with it. A
    recording shorter than a crop gets silence behind it.

    Attributes:
        card: what the model is.
        config: the recipe, for front end and crops.
        sample_rates_hz, at_once: see `Scorer`.
    """

    at_once = 1

    def __init__(
        self,
        config: Config,
        classes: Sequence[SpeciesClass],
        heads: Sequence[MaskedRegressions],
        made_by: str = "",
    ):
        """Takes the recipe, the species, the regressions of every fold and the run's folder."""
        self.config = config
        crop_s = config.crop_frames * config.frontend.frame_s
        missing = (math.nan,) * len(classes)
        self.card = ModelCard(
            classes=tuple(classes),
            sample_rate_hz=config.frontend.sample_rate_hz,
            window_s=crop_s,
            hop_s=self.hop_frames * config.frontend.frame_s,
            window_centre_s=(crop_s / 2,) * len(classes),
            mean_box_s=missing,
            box_hz=tuple(zip(missing, missing, strict=True)),
            frontend=config.frontend.fingerprint,
            made_by=made_by,
        )
        self.sample_rates_hz = (self.card.sample_rate_hz,)
        self._front_end = FrontEnd(config.frontend)
        self._heads = list(heads)

    @property
    def hop_frames(self) -> int:
        """Frames from one window to the next."""
        return max(1, self.config.crop_frames // 2)

    def stream(self, recording_id: str | None = None) -> _BaselineStream:
        """See `Scorer`."""
        return _BaselineStream(self, FrontEndStream(self._front_end))

    def fold_scores(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities float64 [folds, windows, classes] of [windows, frames, bands]."""
        statistics = pooled_statistics(windows)
        return np.stack([head.probability(statistics).numpy() for head in self._heads])


def load_baseline(run: RunFolder, folds: Sequence[int]) -> BaselineScorer:
    """The regressions of some folds of a run.

    Raises:
        UserError: if regressions are missing or damaged.
    """
    heads = [MaskedRegressions.load(run.whole_weights(fold)) for fold in folds]
    return BaselineScorer(run.config, run.info.classes, heads, str(run.path))


class _BaselineStream:
    """One recording through a `BaselineScorer`."""

    def __init__(self, scorer: BaselineScorer, front_end: FrontEndStream):
        self._scorer = scorer
        self._front_end = front_end
        self._samples = 0
        # From the beginning of the next window on; and the crop's length before its end.
        self._frames = np.zeros((0, scorer.config.frontend.bands), np.float32)
        self._last = self._frames
        self._scores: list[np.ndarray] = []

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        samples = sound[self._scorer.card.sample_rate_hz]
        self._samples += len(samples)
        self._add(self._front_end.push(samples))

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        config = self._scorer.config
        # With centred frames, n - 1 hops of sound give n frames.
        shortest = (config.crop_frames - 1) * config.frontend.hop_length
        missing = max(0, shortest - self._samples)
        self._add(self._front_end.push(np.zeros(missing, np.float32)))
        self._add(self._front_end.finish())
        self._scores.append(self._scorer.fold_scores(self._last[np.newaxis]))
        folds = np.concatenate(self._scores, axis=1)
        return RecordingScores(
            folds.max(axis=1).mean(axis=0), folds.mean(axis=0).astype(np.float32)
        )

    def _add(self, frames: np.ndarray) -> None:
        length, hop = self._scorer.config.crop_frames, self._scorer.hop_frames
        self._last = np.concatenate([self._last, frames])[-length:]
        self._frames = np.concatenate([self._frames, frames])
        count = max(0, 1 + (len(self._frames) - length) // hop)
        if count:
            windows = [self._frames[i * hop : i * hop + length] for i in range(count)]
            self._scores.append(self._scorer.fold_scores(np.stack(windows)))
            self._frames = self._frames[count * hop :]
