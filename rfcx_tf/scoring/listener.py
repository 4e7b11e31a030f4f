"""Waveform in, scores out: an embedding model with the regressions of several folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model.embedding import EmbeddingModel, hash_model
from rfcx_tf.model.regressions import MaskedRegressions
from rfcx_tf.runs.listener_run import ListenerRun


class ListenerModel:
    """Scores of whole recordings, averaged over the regressions of several folds.

    Goes where a `RecordingModel` goes, except into an export: it is no TensorFlow function.

    Attributes:
        classes: the species, in the order of the scores.
        sample_rate_hz: of the waveforms that it takes.
        window_s, hop_s: length and distance of the windows.
        config: how it listens.
    """

    def __init__(
        self,
        embedding: EmbeddingModel,
        heads: Sequence[MaskedRegressions],
        classes: list[SpeciesClass],
    ):
        self.classes = classes
        self.config = embedding.config
        self.sample_rate_hz = embedding.config.sample_rate_hz
        self.window_s = embedding.config.window_s
        self.hop_s = embedding.config.hop_s
        self._embedding = embedding
        self._heads = list(heads)

    def score_waveform(self, waveform) -> dict[str, np.ndarray]:
        """Scores of one waveform [1, samples] at the listener's sample rate.

        Returns:
            scores [1, classes]: the maximum over time of the window scores, averaged over
            folds; window_scores [1, windows, classes], averaged over folds; window_start_s
            [windows], seconds from the beginning of the sound. All float32.
        """
        return self.score_embeddings(*self._embedding.embed(np.asarray(waveform)[0]))

    def score_embeddings(self, start_s: np.ndarray, embeddings: np.ndarray) -> dict:
        """The same, of the embeddings [windows, size] of a recording and their begins [windows]."""
        return self.combine_folds(start_s, self.fold_scores(embeddings))

    def score_windows(self, waveform: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """`fold_scores` of windows that begin at given samples of a waveform [samples]."""
        return self.fold_scores(self._embedding.embed_at(waveform, starts))

    def fold_scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Window scores [folds, windows, classes] of embeddings [windows, size]."""
        return np.stack([head.probability(embeddings).numpy() for head in self._heads])

    @staticmethod
    def combine_folds(start_s: np.ndarray, windows: np.ndarray) -> dict:
        """What `score_waveform` returns, of all window scores [folds, windows, classes]."""
        return {
            "scores": windows.max(axis=1).mean(axis=0, keepdims=True).astype(np.float32),
            "window_scores": windows.mean(axis=0)[None].astype(np.float32),
            "window_start_s": start_s,
        }


def load_listener_model(run: ListenerRun, folds: list[int]) -> ListenerModel:
    """The embedding model of a run with the regressions of some folds.

    Raises:
        UserError: if no fold is named, regressions are missing, or the embedding model is not
            where it was or not what it was.
    """
    if not folds:
        raise UserError(
            f"A listener needs at least one finished fold. {run.path} has none. Run listener.py "
            "to its end."
        )
    model = Path(run.info.model)
    if not model.exists():
        raise UserError(
            f"A listener needs the model that it was trained with. Not found: {model}. Put it "
            "there, or run listener.py again with --model where it is."
        )
    found = hash_model(model)
    if found != run.info.model_hash:
        raise UserError(
            f"A listener needs the model that it was trained with ({run.info.model_hash}). "
            f"{model} is another ({found}). Put the first back, or train with this one."
        )
    heads = [MaskedRegressions.load(run.head(fold)) for fold in folds]
    return ListenerModel(EmbeddingModel.open(model, run.config), heads, run.info.classes)
