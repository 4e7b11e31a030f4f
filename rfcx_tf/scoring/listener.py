"""A listener as a scorer: an embedding model with the regressions of several folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.embedding import EmbeddingModel, EmbeddingStream, hash_model
from rfcx_tf.model.regressions import MaskedRegressions
from rfcx_tf.runs.embeddings import read_windows
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingScores, Sound


class ListenerScorer:
    """Scores by regressions on embeddings, averaged over folds.

    A window is heard by itself. Windows begin every `hop_s`; the last one ends with the recording
    or beyond it, where there is silence.

    Attributes:
        card: what the model is.
        config: how the model listens, and its regressions.
        sample_rates_hz, at_once: see `Scorer`.
    """

    at_once = 1

    def __init__(
        self,
        card: ModelCard,
        embedding: EmbeddingModel,
        heads: Sequence[MaskedRegressions],
        kept: Callable[[str], np.ndarray | None] = lambda recording_id: None,
    ):
        """Takes the parts of a listener.

        Args:
            card: what it is.
            embedding: what it hears with.
            heads: the regressions of every fold.
            kept: embeddings [windows, size] of a recording of its shards; None: not kept.
        """
        self.card = card
        self.config = embedding.config
        self.sample_rates_hz = (card.sample_rate_hz,)
        self.embedding = embedding
        self._heads = list(heads)
        self._kept = kept

    def stream(self, recording_id: str | None = None) -> _ListenerStream | _KeptStream:
        """See `Scorer`."""
        embeddings = None if recording_id is None else self._kept(recording_id)
        return _ListenerStream(self) if embeddings is None else _KeptStream(self, embeddings)

    def fold_scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Window scores [folds, windows, classes] of embeddings [windows, size]."""
        return np.stack([head.probability(embeddings).numpy() for head in self._heads])

    # What follows is for an export.

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """Scores of waveforms [batch, samples] at the model's rate, as TensorFlow operations.

        Returns:
            scores [batch, classes], window_scores [batch, windows, classes], window_start_s
            [windows], all float32, as `DetectorScorer.scores`; without boxes.
        """
        embeddings = self.embedding.embed_waveforms(waveform)
        of_folds = tf.stack([head.probability(embeddings) for head in self._heads])
        scores = tf.reduce_mean(tf.reduce_max(of_folds, axis=2), axis=0)
        windows = tf.range(tf.shape(embeddings)[1], dtype=tf.float32)
        return {
            "scores": tf.cast(scores, tf.float32),
            "window_scores": tf.cast(tf.reduce_mean(of_folds, axis=0), tf.float32),
            "window_start_s": windows * self.card.hop_s,
        }

    def embed_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """Embeddings [batch, D] and window_embeddings [batch, windows, D] of waveforms."""
        windows = self.embedding.embed_waveforms(waveform)
        return {"embeddings": tf.reduce_mean(windows, axis=1), "window_embeddings": windows}

    def window_count(self, samples) -> tf.Tensor:
        """Windows of a recording of so many samples, int32 [] both."""
        return self.embedding.window_count(samples)

    @property
    def exported_state(self) -> list:
        """What a SavedModel has to keep."""
        return [self.embedding.state]


def combine_folds(fold_scores: np.ndarray) -> RecordingScores:
    """A recording's scores from all window scores [folds, windows, classes]."""
    return RecordingScores(
        fold_scores.max(axis=1).mean(axis=0).astype(np.float32),
        fold_scores.mean(axis=0).astype(np.float32),
    )


class _ListenerStream:
    """One recording through a `ListenerScorer`."""

    def __init__(self, scorer: ListenerScorer):
        self._scorer = scorer
        self._stream = EmbeddingStream(scorer.embedding)
        self._fold_scores: list[np.ndarray] = []

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        self._score(self._stream.push(sound[self._scorer.card.sample_rate_hz]))

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        self._score(self._stream.finish())
        return combine_folds(np.concatenate(self._fold_scores, axis=1))

    def _score(self, embeddings: np.ndarray) -> None:
        self._fold_scores.append(self._scorer.fold_scores(embeddings))


class _KeptStream:
    """A recording that was heard before, when the listener was trained."""

    def __init__(self, scorer: ListenerScorer, embeddings: np.ndarray):
        self._scorer = scorer
        self._embeddings = embeddings

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`; what comes is known."""

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        return combine_folds(self._scorer.fold_scores(self._embeddings))


def load_listener(run: ListenerRun, folds: Sequence[int], shards_id: str) -> ListenerScorer:
    """The embedding model of a run with the regressions of some folds, see `load_scorer`.

    Raises:
        UserError: if regressions are missing, or the embedding model is not where it was or not
            what it was.
    """
    config, info = run.config, run.info
    model = Path(info.model)
    if not model.exists():
        raise UserError(
            f"A listener needs the model that it was trained with. Not found: {model}. Put it "
            "there, or train again with --model where it is."
        )
    found = hash_model(model)
    if found != info.model_hash:
        raise UserError(
            f"A listener needs the model that it was trained with ({info.model_hash}). "
            f"{model} is another ({found}). Put the first back, or train with this one."
        )
    heads = [MaskedRegressions.load(run.whole_weights(fold)) for fold in folds]
    classes = tuple(info.classes)
    card = ModelCard(
        classes=classes,
        sample_rate_hz=config.sample_rate_hz,
        window_s=config.window_s,
        hop_s=config.hop_s,
        window_centre_s=(config.window_s / 2,) * len(classes),
        mean_box_s=(math.nan,) * len(classes),
        box_hz=((math.nan, math.nan),) * len(classes),
        ends_inside=False,
        frontend=run.embeddings_key,
        made_by=str(run.path),
    )

    def kept(recording_id: str) -> np.ndarray | None:
        if run.info.shards_id != shards_id:
            return None
        return read_windows(run.embeddings, run.embeddings_key, recording_id)

    return ListenerScorer(card, EmbeddingModel.open(model, config), heads, kept)
