"""A listener as a scorer: an embedding model with the regressions of several folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

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
