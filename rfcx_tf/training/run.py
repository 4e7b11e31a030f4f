"""A run of detectors: the chosen folds one after another, then their out-of-fold tables joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras

from rfcx_tf.core.config import Config
from rfcx_tf.evaluation.fold_summary import write_summary
from rfcx_tf.model.library import check_network_is_there
from rfcx_tf.model.weight_files import check_weights_are_there
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.checks import (
    check_batch_divides,
    check_folds,
    check_labels_fit,
    check_monitor,
    check_shards_fit,
    check_start_fits,
)
from rfcx_tf.training.devices import choose_precision, describe_devices, open_strategy
from rfcx_tf.training.fold import train_fold
from rfcx_tf.training.multi_worker import read_worker, wait_for_all


def train_run(
    config: Config,
    tfrecords: str | Path,
    run_dir: str | Path,
    folds: list[int],
    *,
    pseudo: PseudoLabels | None = None,
    start: RunFolder | None = None,
    data_dir: Path | None = None,
    verbose: bool = True,
    report: Callable[[str], None] = print,
) -> RunFolder | None:
    """Trains the folds that are not finished yet.

    With several workers (`rfcx_tf.training.multi_worker`) all call this alike. Only the chief
    needs the run folder and the recordings.

    Args:
        config: the recipe.
        tfrecords: folder of shards.
        run_dir: run folder, new or to be gone on with.
        folds: which folds to hold out, one after another.
        pseudo: pseudo-labels; `pseudo.fraction` of the examples come from them.
        start: run; every new fold begins with its weights of the same fold.
        data_dir: where the recordings are, if not where the shards were made from.
        verbose: show progress.
        report: takes a line at a time.

    Returns:
        The run; None on a worker that is not the chief.

    Raises:
        UserError: if the shards, the pseudo-labels or the start do not fit the recipe, or a
            fold does not exist.
    """
    is_chief = read_worker().is_chief
    reader = ShardReader(tfrecords)
    check_shards_fit(reader, config)
    check_folds(reader.manifest, folds, data_dir, need_recordings=is_chief)
    pseudo_readers = {fold: pseudo.of_fold(fold) for fold in folds} if pseudo else {}
    for pseudo_reader in pseudo_readers.values():
        check_shards_fit(pseudo_reader, config)
        check_labels_fit(pseudo_reader, reader)
    check_monitor(reader, config.training.monitor)
    run = None
    if is_chief:
        if start is not None:
            check_start_fits(start, reader.manifest, config, folds)
        # Before there is a run folder, which could not go on with a corrected path or network.
        check_network_is_there(config.model.backbone)
        if not (Path(run_dir) / "run.json").exists():
            check_weights_are_there(config.model.backbone)
        run = RunFolder.create(
            run_dir, config, reader.manifest, Path(tfrecords), pseudo=pseudo, start=start
        )
    strategy = open_strategy(config.training)
    check_batch_divides(config, strategy.num_replicas_in_sync)
    precision = choose_precision(config.training)
    report(
        f"{describe_devices(strategy)}, {precision}, batch {config.training.batch_size}; "
        f"{len(reader.manifest.classes)} classes, seed {config.seed}"
    )
    if not (reader.manifest.complete or (reader.index["kind"] == "fp").any()):
        report(
            "No FP rows: nothing is learned of sounds that are only like a call, and no "
            "calibration can be made. Have people judge what the model hears (rfcx-tf predict "
            "--results, rfcx-tf review serve), and train on what they say. Or list recordings in "
            "which all calls are marked in complete.csv of the data."
        )
    for fold in folds:
        # Here, since clearing the session after a fold forgets it.
        keras.mixed_precision.set_global_policy(precision)
        train_fold(
            run,
            config,
            reader,
            fold,
            strategy,
            pseudo=pseudo_readers.get(fold),
            start=start,
            data_dir=data_dir,
            verbose=verbose,
        )
        if run is not None:
            join_out_of_fold(run)
            write_summary(run)
        # Frees the graphs of a fold before the next one is built.
        keras.backend.clear_session()
    # One that leaves earlier would look lost to the others.
    wait_for_all(strategy)
    return run
