"""A whole run: the chosen folds one after another, then their out-of-fold tables joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import pandas as pd

from rfcx_tf.config import Config, differences
from rfcx_tf.data.records import Manifest, ShardReader
from rfcx_tf.errors import InputError
from rfcx_tf.files import atomic_file
from rfcx_tf.run_folder import RunFolder
from rfcx_tf.training.devices import choose_precision, describe_devices, open_strategy
from rfcx_tf.training.fold import train_fold


def train_run(
    config: Config,
    tfrecords: str | Path,
    run_dir: str | Path,
    folds: list[int],
    *,
    data_dir: Path | None = None,
    verbose: bool = True,
    report: Callable[[str], None] = print,
) -> list[dict]:
    """Trains the folds that are not finished yet.

    Args:
        config: the recipe.
        tfrecords: folder of shards.
        run_dir: run folder, new or to be gone on with.
        folds: which folds to hold out, one after another.
        data_dir: where the recordings are, if not where the shards were made from.
        verbose: show progress.
        report: takes a line at a time.

    Returns:
        The figures of every fold.

    Raises:
        InputError: if the shards do not fit the recipe, or a fold does not exist.
    """
    reader = ShardReader(tfrecords)
    check_shards_fit(reader.manifest, config, Path(tfrecords))
    check_folds(reader.manifest, folds, data_dir)
    weights, is_new = config.model.backbone.weights, not (Path(run_dir) / "run.json").exists()
    if weights not in ("none", "imagenet") and is_new and not Path(weights).is_file():
        # Before there is a run folder, which could not go on with a corrected path.
        raise InputError(
            f"model.backbone.weights must name a file that is there. Not found: {weights}."
        )
    run = RunFolder.create(run_dir, config, reader.manifest, Path(tfrecords))
    strategy = open_strategy(config.training)
    replicas = strategy.num_replicas_in_sync
    parts = config.training.accumulation_steps
    if config.training.batch_size % (replicas * parts):
        raise InputError(
            "training.batch_size must be a multiple of the number of devices times "
            f"training.accumulation_steps ({replicas} x {parts}). "
            f"Received: {config.training.batch_size}."
        )
    if config.training.xla and parts > 1 and replicas > 1:
        raise InputError(
            "training.xla with training.accumulation_steps above 1 works on one device only. "
            f"Found: {replicas} devices. Turn one of them off."
        )
    precision = choose_precision(config.training)
    report(
        f"{describe_devices(strategy)}, {precision}, batch {config.training.batch_size}; "
        f"{len(reader.manifest.classes)} classes, seed {config.seed}"
    )
    summaries = []
    for fold in folds:
        # Here, since clearing the session after a fold forgets it.
        keras.mixed_precision.set_global_policy(precision)
        summaries.append(
            train_fold(run, reader, fold, strategy, data_dir=data_dir, verbose=verbose)
        )
        join_out_of_fold(run)
        # Frees the graphs of a fold before the next one is built.
        keras.backend.clear_session()
    return summaries


def check_shards_fit(manifest: Manifest, config: Config, folder: Path) -> None:
    """Refuses shards that another front end, crop length or number of folds made.

    Raises:
        InputError: with both values.
    """
    changed = differences(manifest.frontend, config.frontend.model_dump(mode="json"), "frontend.")
    others = [
        ("training.folds", manifest.folds, config.training.folds),
        ("training.fold_seed", manifest.fold_seed, config.training.fold_seed),
        ("crop frames (crops.crop_s)", manifest.crop_frames, config.crop_frames),
        ("margin frames (crops.margin_s)", manifest.margin_frames, config.margin_frames),
        ("front end version", manifest.frontend_fingerprint, config.frontend.fingerprint),
    ]
    changed += [(name, made, asked) for name, made, asked in others if made != asked]
    if changed:
        name, made, asked = changed[0]
        raise InputError(
            f"Shards must be made with the recipe's front end, crops and folds. {folder} has "
            f"{name} = {made}, the recipe {asked}. Make the shards again or change the recipe."
        )


def check_folds(manifest: Manifest, folds: list[int], data_dir: Path | None) -> None:
    """Refuses, before hours of training, folds that cannot be held out and predicted.

    Raises:
        InputError: if a fold does not exist, or none of its recordings is where the manifest
            or `data_dir` says.
    """
    wrong = [fold for fold in folds if not 0 <= fold < manifest.folds]
    if wrong:
        raise InputError(
            f"A fold must lie between 0 and {manifest.folds - 1} (training.folds). "
            f"Received: {wrong[0]}."
        )
    for fold in folds:
        sources = manifest.audio_sources(fold, data_dir)
        if sources and not any(source.path.exists() for source in sources.values()):
            raise InputError(
                f"Held-out recordings are predicted. None of the {len(sources)} of fold {fold} "
                f"is in {data_dir or manifest.data_dir}. Say with --data where they are."
            )


def join_out_of_fold(run: RunFolder) -> None:
    """Joins the out-of-fold tables of all finished folds in the run folder."""
    for name in ("oof_scores.csv", "oof_crops.csv"):
        parts = [
            pd.read_csv(run.fold(fold) / name, dtype={"recording_id": str}, keep_default_na=False)
            for fold in run.finished_folds
        ]
        with atomic_file(run.path / name) as temporary:
            pd.concat(parts).to_csv(temporary, index=False)
