"""What has to go together before hours of training: recipe, shards, pseudo-labels, start, folds."""

from __future__ import annotations

from pathlib import Path

from rfcx_tf.core.config import Config, differences
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest, ShardReader


def check_shards_fit(reader: ShardReader, config: Config) -> None:
    """Refuses shards that another front end, crop length or number of folds made.

    Raises:
        UserError: with both values.
    """
    made = reader.manifest
    changed = differences(made.frontend, config.frontend.model_dump(mode="json"), "frontend.")
    changed += _unequal(
        ("training.folds", made.folds, config.training.folds),
        ("training.fold_seed", made.fold_seed, config.training.fold_seed),
        ("crop frames (crops.crop_s)", made.crop_frames, config.crop_frames),
        ("margin frames (crops.margin_s)", made.margin_frames, config.margin_frames),
        ("front end version", made.frontend_fingerprint, config.frontend.fingerprint),
        ("audio.channel", made.channel, config.audio.channel),
    )
    for name, one, other in changed:
        raise UserError(
            f"Shards must be made with the recipe's front end, crops and folds. {reader.folder} "
            f"has {name} = {one}, the recipe {other}. Make the shards again or change the recipe."
        )


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


# Of a model's recipe: what does not change which weights it has.
_NOT_OF_THE_NETWORK = {"backbone": {"weights", "drop_path"}, "head": {"dropout"}}


def check_start_fits(
    start: RunFolder, manifest: Manifest, config: Config, folds: list[int]
) -> None:
    """Refuses to begin with weights of another network, or that saw what is to be held out.

    Args:
        start: the run whose weights the folds begin with.
        manifest: of the shards of the new run.
        config: the recipe of the new run.
        folds: that are to be trained.

    Raises:
        UserError: with both values, or with the folds that are not finished.
    """
    theirs = start.config
    networks = [one.model.model_dump(exclude=_NOT_OF_THE_NETWORK) for one in (theirs, config)]
    changed = differences(*networks, "model.")
    changed += differences(theirs.frontend.model_dump(), config.frontend.model_dump(), "frontend.")
    changed += _unequal(
        ("kind", start.kind, config.kind),
        ("classes", _species_ids(start.info.classes), _species_ids(manifest.classes)),
        ("front end version", start.info.frontend_fingerprint, config.frontend.fingerprint),
        ("training.folds", theirs.training.folds, config.training.folds),
        ("training.fold_seed", theirs.training.fold_seed, config.training.fold_seed),
    )
    for name, one, other in changed:
        raise UserError(
            "A run begins with the weights of one with its model, front end, classes and folds. "
            f"{start.path} has {name} = {one}, here it is {other}. Name another --start or "
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


def check_monitor(reader: ShardReader, monitor: str) -> None:
    """Raises UserError if the monitor is of rows that the shards have none of."""
    for kind, names in (("fp", ["val_fp_log_loss"]), ("tp", ["val_tp_log_loss", "val_lrap"])):
        if kind == "fp" and reader.manifest.complete:
            continue
        if monitor in names and not (reader.index["kind"] == kind).any():
            raise UserError(
                f"training.monitor must be of rows that there are. Received: {monitor}, and "
                f"{reader.folder} has no {kind.upper()} rows. Choose val_log_loss or last."
            )


def check_folds(
    manifest: Manifest, folds: list[int], data_dir: Path | None, need_recordings: bool = True
) -> None:
    """Refuses folds that cannot be held out and predicted.

    Args:
        manifest: of the shards.
        folds: that are to be trained.
        data_dir: where the recordings are, if not where the shards were made from.
        need_recordings: whether they are predicted here.

    Raises:
        UserError: if a fold does not exist, or none of its recordings is where the manifest
            or `data_dir` says.
    """
    for fold in folds:
        if not 0 <= fold < manifest.folds:
            raise UserError(
                f"A fold must lie between 0 and {manifest.folds - 1} (training.folds). "
                f"Received: {fold}."
            )
    for fold in folds if need_recordings else []:
        sources = manifest.audio_sources(fold, data_dir)
        if sources and not any(source.path.exists() for source in sources.values()):
            raise UserError(
                f"Held-out recordings are predicted. None of the {len(sources)} of fold {fold} "
                f"is in {data_dir or manifest.data_dir}. Say with --data where they are."
            )


def check_batch_divides(config: Config, replicas: int) -> None:
    """Refuses a batch that devices and accumulation steps cannot share equally.

    Raises:
        UserError: with both values, or if XLA is to accumulate on several devices.
    """
    training = config.training
    if training.batch_size % (replicas * training.accumulation_steps):
        raise UserError(
            "training.batch_size must be a multiple of the number of devices times "
            f"training.accumulation_steps ({replicas} x {training.accumulation_steps}). "
            f"Received: {training.batch_size}."
        )
    if training.xla and training.accumulation_steps > 1 and replicas > 1:
        raise UserError(
            "training.xla with training.accumulation_steps above 1 works on one device only. "
            f"Found: {replicas} devices. Turn one of them off."
        )


def _unequal(*values: tuple[str, object, object]) -> list[tuple[str, object, object]]:
    return [(name, made, asked) for name, made, asked in values if made != asked]


def _species_ids(classes: list[SpeciesClass]) -> list[int]:
    return [c.species_id for c in classes]
