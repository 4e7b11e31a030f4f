"""A whole run: the chosen folds one after another, then their out-of-fold tables joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras

from rfcx_tf.core.config import Config, differences
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.fold_summary import write_summary
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import Manifest, ShardReader
from rfcx_tf.training.devices import choose_precision, describe_devices, open_strategy
from rfcx_tf.training.fold import train_fold, train_share
from rfcx_tf.training.multi_worker import chiefs_numbers, read_worker


def train_run(
    config: Config,
    tfrecords: str | Path,
    run_dir: str | Path,
    folds: list[int],
    *,
    pseudo: Path | None = None,
    start: Path | None = None,
    data_dir: Path | None = None,
    verbose: bool = True,
    report: Callable[[str], None] = print,
) -> list[dict]:
    """Trains the folds that are not finished yet.

    With several workers (`rfcx_tf.training.multi_worker`) all call this alike. Only the chief
    needs the run folder, the recordings and what a run starts with.

    Args:
        config: the recipe.
        tfrecords: folder of shards.
        run_dir: run folder, new or to be gone on with.
        folds: which folds to hold out, one after another.
        pseudo: folder of pseudo-labels (`rfcx_tf.shards.pseudo_folder`); `pseudo.fraction` of the
            examples come from it.
        start: run folder; every new fold begins with its weights of the same fold.
        data_dir: where the recordings are, if not where the shards were made from.
        verbose: show progress.
        report: takes a line at a time.

    Returns:
        The figures of every fold; none on a worker that is not the chief.

    Raises:
        UserError: if the shards, the pseudo-labels or the start do not fit the recipe, or a
            fold does not exist.
    """
    reader = ShardReader(tfrecords)
    check_shards_fit(reader.manifest, config, Path(tfrecords))
    is_chief = read_worker().is_chief
    check_folds(reader.manifest, folds, data_dir, need_recordings=is_chief)
    labels = PseudoLabels(pseudo) if pseudo else None
    pseudo_readers = {fold: labels.of_fold(fold) for fold in folds} if labels else {}
    for pseudo_reader in pseudo_readers.values():
        check_pseudo_fits(pseudo_reader, reader, config)
    start_run = RunFolder.open(start) if start and is_chief else None
    if start_run is not None:
        check_start_fits(start_run, reader.manifest, config, folds)
    if is_chief:
        weights, is_new = config.model.backbone.weights, not (Path(run_dir) / "run.json").exists()
        if weights not in ("none", "imagenet") and is_new and not Path(weights).is_file():
            # Before there is a run folder, which could not go on with a corrected path.
            raise UserError(
                f"model.backbone.weights must name a file that is there. Not found: {weights}."
            )
        run = RunFolder.create(
            run_dir, config, reader.manifest, Path(tfrecords), pseudo=labels, start=start_run
        )
    strategy = open_strategy(config.training)
    replicas = strategy.num_replicas_in_sync
    parts = config.training.accumulation_steps
    if config.training.batch_size % (replicas * parts):
        raise UserError(
            "training.batch_size must be a multiple of the number of devices times "
            f"training.accumulation_steps ({replicas} x {parts}). "
            f"Received: {config.training.batch_size}."
        )
    if config.training.xla and parts > 1 and replicas > 1:
        raise UserError(
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
        if is_chief:
            summaries.append(
                train_fold(
                    run,
                    reader,
                    fold,
                    strategy,
                    pseudo=pseudo_readers.get(fold),
                    start=start_run,
                    data_dir=data_dir,
                    verbose=verbose,
                )
            )
            join_out_of_fold(run)
            write_summary(run)
        else:
            train_share(config, reader, fold, strategy, pseudo_readers.get(fold))
        # Frees the graphs of a fold before the next one is built.
        keras.backend.clear_session()
    # All leave together: one that is gone earlier would look lost to the others.
    chiefs_numbers(strategy)
    return summaries


def check_shards_fit(manifest: Manifest, config: Config, folder: Path) -> None:
    """Refuses shards that another front end, crop length or number of folds made.

    Raises:
        UserError: with both values.
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
        raise UserError(
            f"Shards must be made with the recipe's front end, crops and folds. {folder} has "
            f"{name} = {made}, the recipe {asked}. Make the shards again or change the recipe."
        )


def check_pseudo_fits(pseudo: ShardReader, reader: ShardReader, config: Config) -> None:
    """Refuses pseudo-labels for another recipe, other classes or other folds.

    Args:
        pseudo: the pseudo-labelled shards.
        reader: the annotated shards of the run.
        config: the recipe.

    Raises:
        UserError: with both values.
    """
    check_shards_fit(pseudo.manifest, config, pseudo.folder)
    check_labels_fit(pseudo, reader)


def check_labels_fit(pseudo: ShardReader, reader: ShardReader) -> None:
    """Refuses pseudo-labels of other classes or other folds.

    Args:
        pseudo: the pseudo-labelled shards.
        reader: the annotated shards of the run.

    Raises:
        UserError: with both values.
    """
    made, asked = _species_ids(pseudo.manifest.classes), _species_ids(reader.manifest.classes)
    if made != asked:
        raise UserError(
            f"Pseudo-labels must be of the classes of the shards. {pseudo.folder} has {made}, "
            f"{reader.folder} has {asked}. Label again with these classes."
        )
    fold_of = {name: entry["fold"] for name, entry in reader.manifest.recordings.items()}
    # Crops are drawn by the index, windows by the manifest.
    crops = pseudo.index.drop_duplicates(["recording_id", "fold"])
    labelled = [*zip(crops["recording_id"], crops["fold"], strict=True)]
    labelled += [(name, entry["fold"]) for name, entry in pseudo.manifest.recordings.items()]
    for name, fold in labelled:
        if fold != fold_of.get(name, fold):
            raise UserError(
                "A recording must be in one fold, or it is trained on where it is held out. "
                f"{name} is in {fold} in {pseudo.folder} and in {fold_of[name]} in "
                f"{reader.folder}. Label again with these shards."
            )


def check_start_fits(
    start: RunFolder, manifest: Manifest, config: Config, folds: list[int]
) -> None:
    """Refuses to begin with weights of another model, or that saw what is to be held out.

    Args:
        start: the run whose weights the folds begin with.
        manifest: of the shards of the new run.
        config: the recipe of the new run.
        folds: that are to be trained.

    Raises:
        UserError: with both values, or with the folds that are not finished.
    """
    theirs = start.config
    changed = differences(theirs.model.model_dump(), config.model.model_dump(), "model.")
    changed += differences(theirs.frontend.model_dump(), config.frontend.model_dump(), "frontend.")
    others = [
        ("classes", _species_ids(start.info.classes), _species_ids(manifest.classes)),
        ("front end version", start.info.frontend_fingerprint, config.frontend.fingerprint),
        ("training.folds", theirs.training.folds, config.training.folds),
        ("training.fold_seed", theirs.training.fold_seed, config.training.fold_seed),
    ]
    changed += [(name, made, asked) for name, made, asked in others if made != asked]
    if changed:
        name, made, asked = changed[0]
        raise UserError(
            "A run begins with the weights of one with its model, front end, classes and folds. "
            f"{start.path} has {name} = {made}, here it is {asked}. Name another --start or "
            "change the recipe."
        )
    missing = [str(fold) for fold in folds if fold not in start.finished_folds]
    if missing:
        finished = ", ".join(map(str, start.finished_folds)) or "none"
        raise UserError(
            "A fold begins with the weights of the same fold, trained to its end. Finished in "
            f"{start.path}: {finished}. Asked for: {', '.join(missing)}. Train these first or "
            "leave them out."
        )


def _species_ids(classes: list[SpeciesClass]) -> list[int]:
    return [c.species_id for c in classes]


def check_folds(
    manifest: Manifest, folds: list[int], data_dir: Path | None, need_recordings: bool = True
) -> None:
    """Refuses, before hours of training, folds that cannot be held out and predicted.

    Args:
        manifest: of the shards.
        folds: that are to be trained.
        data_dir: where the recordings are, if not where the shards were made from.
        need_recordings: whether they are predicted here.

    Raises:
        UserError: if a fold does not exist, or none of its recordings is where the manifest
            or `data_dir` says.
    """
    wrong = [fold for fold in folds if not 0 <= fold < manifest.folds]
    if wrong:
        raise UserError(
            f"A fold must lie between 0 and {manifest.folds - 1} (training.folds). "
            f"Received: {wrong[0]}."
        )
    for fold in folds if need_recordings else []:
        sources = manifest.audio_sources(fold, data_dir)
        if sources and not any(source.path.exists() for source in sources.values()):
            raise UserError(
                f"Held-out recordings are predicted. None of the {len(sources)} of fold {fold} "
                f"is in {data_dir or manifest.data_dir}. Say with --data where they are."
            )
