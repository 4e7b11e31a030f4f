"""Logistic regression on pooled spectrogram statistics: what every network has to beat.

It hears what a network hears: the recipe's front end, crops, labels and label weights, with
the same folds held out. What it lacks is any notion of a call's shape in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from rfcx_tf.core.config import Config, HeadConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model.losses import label_weights
from rfcx_tf.model.regressions import fit_regressions
from rfcx_tf.scoring.baseline import BaselineScorer, pooled_statistics
from rfcx_tf.scoring.predict import Predictions, predict_recordings
from rfcx_tf.shards.dataset import validation_dataset
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.run import check_folds, check_shards_fit


@dataclass(frozen=True)
class PooledCrops:
    """Statistics and labels of centred crops, a row a crop.

    Attributes:
        rows: int64 [crops], row numbers in the index of the shards.
        folds: int64 [crops], fold of each crop's recording.
        statistics: float32 [crops, 3 * bands].
        target: float32 [crops, classes], 1 where the class is present.
        weights: float32 [crops, classes], weight of every label in the loss; 0 where it counts
            for nothing.
    """

    rows: np.ndarray
    folds: np.ndarray
    statistics: np.ndarray
    target: np.ndarray
    weights: np.ndarray


def pool_crops(reader: ShardReader, config: Config) -> PooledCrops:
    """Reads every TP and FP crop of the shards once."""
    rows = reader.rows(list(range(config.training.folds)), "tp", "fp")
    if len(rows) == 0:
        raise UserError(f"A baseline needs TP or FP crops. {reader.folder} has none.")
    # Labels of the whole crop, since the whole crop is pooled: those of a shared head.
    model = config.model.model_copy(update={"head": HeadConfig()})
    batches = validation_dataset(reader, config.model_copy(update={"model": model}), rows).map(
        lambda batch: (pooled_statistics(batch["spectrogram"]), batch["target"], batch["known"])
    )
    statistics, target, known = (
        np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)
    )
    labels = {"target": target, "known": known, "pseudo": np.zeros(len(rows), np.float32)}
    weights = keras.ops.convert_to_numpy(label_weights(labels, config.loss))
    folds = reader.index["fold"].to_numpy()[rows]
    return PooledCrops(rows, folds, statistics, target, weights)


def fit_baseline(
    crops: PooledCrops,
    classes: list[SpeciesClass],
    config: Config,
    held_out: int,
    c: float,
) -> tuple[BaselineScorer, np.ndarray]:
    """Fits one regression a class on the crops of all folds but one.

    Args:
        crops: of all folds.
        classes: the species, in the order of the labels.
        config: the recipe.
        held_out: the fold to leave out.
        c: inverse strength of the L2 regularisation, scikit-learn's C.

    Returns:
        The scorer, and bool [classes]: False where there was nothing to tell apart.

    Raises:
        UserError: if the other folds have no crop.
    """
    others = crops.folds != held_out
    if not others.any():
        raise UserError(
            f"A fold needs crops to train on. Held out fold {held_out}, the others have none. "
            "Lower training.folds or add recordings."
        )
    regressions = fit_regressions(
        crops.statistics[others], crops.target[others], crops.weights[others], c
    )
    return BaselineScorer(config, classes, regressions), regressions.fitted


def cross_validate(
    config: Config,
    tfrecords: str | Path,
    folds: list[int],
    *,
    c: float,
    data_dir: Path | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> Predictions:
    """Scores the recordings of each fold by the baseline of the other folds.

    Args:
        config: the recipe.
        tfrecords: folder of shards.
        folds: which folds to hold out, one after another.
        c: inverse strength of the L2 regularisation, scikit-learn's C.
        data_dir: where the recordings are, if not where the shards were made from.
        progress: whether to show progress bars.
        report: takes a line at a time.

    Returns:
        The out-of-fold scores, and the recordings that could not be read.

    Raises:
        UserError: if the shards do not fit the recipe, a fold does not exist or has nothing
            to train on, its recordings are not there, or `c` is not a positive number.
    """
    if not (math.isfinite(c) and c > 0):
        raise UserError(f"C must be a positive number. Received: {c:g}.")
    reader = ShardReader(tfrecords)
    manifest = reader.manifest
    check_shards_fit(manifest, config, Path(tfrecords))
    check_folds(manifest, folds, data_dir)
    report(f"Pooling the crops of {reader.folder}.")
    crops = pool_crops(reader, config)
    tables, failed = [], []
    for fold in folds:
        scorer, fitted = fit_baseline(crops, manifest.classes, config, fold, c)
        left_out = [x.name for x, fit in zip(manifest.classes, fitted, strict=True) if not fit]
        zero = f"; scored 0: {', '.join(left_out)}" if left_out else ""
        report(
            f"Fold {fold}: fitted {fitted.sum()} of {len(fitted)} classes on "
            f"{(crops.folds != fold).sum()} crops{zero}."
        )
        sources = manifest.audio_sources(fold, data_dir)
        predictions = predict_recordings(scorer, sources, progress=progress)
        tables.append(predictions.scores)
        failed += predictions.failed
    return Predictions(pd.concat(tables, ignore_index=True), failed)
