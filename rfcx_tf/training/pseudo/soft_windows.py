"""Pseudo-labels of other windows -> what a listener's own windows are taught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.listener_config import ListenerConfig
from rfcx_tf.core.windows import at_times
from rfcx_tf.model.regressions import SoftRows
from rfcx_tf.runs.embeddings import EmbeddingStore
from rfcx_tf.shards.pseudo_folder import read_probability

# begins of windows in seconds, rows of their recording -> target, known [windows, classes]
Labeller = Callable[[np.ndarray, pd.DataFrame], tuple[np.ndarray, np.ndarray]]


def soft_windows(
    labels: Path,
    names: list[str],
    store: EmbeddingStore,
    annotated: pd.DataFrame,
    label: Labeller,
    config: ListenerConfig,
) -> SoftRows | None:
    """All windows of recordings with the probabilities that teachers gave that time.

    The teachers' windows may be of another length and distance: their probabilities are
    interpolated at the middles of the listener's. What rows say of a window comes before what
    teachers say: there a class has no weight.

    Args:
        labels: folder of the pseudo-labelled shards, with the windows beside them.
        names: recordings to take.
        store: their embeddings.
        annotated: TP and FP lines of the shards' index.
        label: says what rows make known of windows.
        config: how the listener listens, and `pseudo_weight`.

    Returns:
        None if none of the recordings is both labelled and listened to.
    """
    rows_of = dict(iter(annotated.groupby("recording_id")))
    parts = []
    for name in names:
        taught, found = read_probability(labels, name), store.read(name)
        if taught is None or found is None:
            continue
        middles_s = found.window_start_s + config.window_s / 2
        own_s = np.repeat(taught[0][:, np.newaxis], taught[1].shape[1], axis=1)
        probability = at_times(own_s, taught[1], middles_s)
        weights = np.full_like(probability, config.pseudo_weight)
        if name in rows_of:
            weights *= 1 - label(found.window_start_s, rows_of[name])[1]
        parts.append((found.windows, probability, weights))
    if not parts:
        return None
    return SoftRows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
