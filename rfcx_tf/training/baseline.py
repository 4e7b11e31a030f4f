"""Logistic regression on pooled spectrogram statistics: what every network has to beat.

It hears what a network hears: the recipe's front end, crops, labels and label weights, with
the same folds held out. What it lacks is any notion of a call's shape in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rfcx_tf.core.checksums import forget_checksums
from rfcx_tf.core.config import BaselineConfig, HeadConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.baseline import pooled_statistics
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.shards.dataset import validation_dataset
from rfcx_tf.shards.records import LABELLED, ShardReader
from rfcx_tf.training.checks import check_folds, check_shards_fit
from rfcx_tf.training.regression_folds import (
    LabelledFeatures,
    describe_fit,
    fit_fold,
    write_held_out_crops,
)


def train_baseline(
    config: BaselineConfig,
    tfrecords: str | Path,
    run_dir: str | Path,
    folds: list[int],
    *,
    data_dir: Path | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> RunFolder:
    """Fits the folds that are not finished yet, and predicts what each held out.

    Args:
        config: the recipe.
        tfrecords: folder of shards.
        run_dir: run folder, new or to be gone on with.
        folds: which folds to hold out, one after another.
        data_dir: where the recordings are, if not where the shards were made from.
        progress: whether to show progress bars.
        report: takes a line at a time.

    Raises:
        UserError: if the shards do not fit the recipe, a fold does not exist or has nothing
            to train on, or its recordings are not there.
    """
    reader = ShardReader(tfrecords)
    check_shards_fit(reader, config)
    check_folds(reader.manifest, folds, data_dir)
    run = RunFolder.create(run_dir, config, reader.manifest, Path(tfrecords))
    report(f"Pooling the crops of {reader.folder}.")
    crops = pool_crops(reader, config)
    for fold in (fold for fold in folds if fold not in run.finished_folds):
        began = time.perf_counter()
        regressions = fit_fold(crops, fold, config.loss, config.c)
        trained_on = int((crops.folds != fold).sum())
        report(describe_fit(fold, regressions, reader.manifest.classes, f"{trained_on} crops"))
        forget_checksums(run.fold(fold))
        regressions.save(run.weights(fold))
        write_held_out_crops(run, reader, crops, fold, regressions)
        sources = reader.manifest.audio_sources(fold, data_dir)
        predictions = predict_recordings(load_scorer(run, [fold]), sources, progress=progress)
        write_scores(predictions.scores, run.fold(fold) / "oof_scores.csv")
        run.finish(
            fold,
            {
                "seconds": round(time.perf_counter() - began, 1),
                "crops_trained_on": trained_on,
                "recordings_predicted": len(predictions.scores),
                "recordings_failed": list(predictions.failed.values()),
                "recordings_cut": predictions.remarks_where(is_cut=True),
            },
        )
    join_out_of_fold(run)
    return run


def pool_crops(reader: ShardReader, config: BaselineConfig) -> LabelledFeatures:
    """Reads every labelled crop of the shards once; features are [crops, 3 * bands]."""
    rows = reader.rows(list(range(config.training.folds)), *LABELLED)
    if len(rows) == 0:
        raise UserError(f"A baseline needs TP or FP crops. {reader.folder} has none.")
    # Labels of the whole crop, since the whole crop is pooled: those of a shared head.
    model = config.model.model_copy(update={"head": HeadConfig()})
    batches = validation_dataset(reader, config.model_copy(update={"model": model}), rows).map(
        lambda batch: (
            pooled_statistics(batch["spectrogram"]),
            batch["target"],
            batch["known"],
            batch["partly"],
        )
    )
    arrays = (np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True))
    return LabelledFeatures(rows, reader.index["fold"].to_numpy()[rows], *arrays)
