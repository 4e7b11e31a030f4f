"""Annotated recordings -> a folder of TFRecord shards, its index and its manifest.

Every recording is decoded and transformed around its rows, from so long before each that no crop
begins with the start-up of the PCEN smoother; then their crops are cut out. What is decoded is
checked, and so is that the file was not cut short. Damage where nothing is decoded does not show
(see `read_audio_parts`). A shard holds all crops of a few recordings of one fold.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import rfcx_tf
from rfcx_tf.audio.channels import MEAN
from rfcx_tf.audio.decode import AudioError, AudioSource, SoundRemark, read_audio_parts
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.recording import RecordingTransform
from rfcx_tf.labels.annotations import BOX, Annotations, box_hz, mean_box_s
from rfcx_tf.labels.complete import complete_mask, without_lost_rows
from rfcx_tf.labels.folds import assign_folds
from rfcx_tf.shards.pieces import random_of, rows_by_recording, stored_piece
from rfcx_tf.shards.plans import (
    ShardPlan,
    identify,
    look_at_sound,
    open_plan,
    plan_shards,
    read_complete,
    shard_sizes,
    write_plans,
)
from rfcx_tf.shards.records import KINDS, SCHEMA_VERSION, Crop, Manifest, write_manifest

# Annotation tools round; a box may end this much behind the last sample.
_END_TOLERANCE_S = 0.1


def make_shards(
    annotations: Annotations,
    config: Config,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> Manifest:
    """Writes the shards of all recordings that are there, and manifest.json when all is done.

    Args:
        annotations: rows, classes and recordings.
        config: front end, crops, `training.folds` and `training.fold_seed` decide what is written.
        data_dir: where the recordings are; paths in the manifest are relative to it.
        out_dir: folder for the shards. One with finished shards of the same data and recipe is
            completed, or left as it is when complete; what was left out of it is tried again, and
            what is damaged or of recordings that have changed since is made again.
        workers: recordings that are worked on at once; None: one a core.
        progress: whether to show a progress bar.
        report: takes a line at a time.

    Returns:
        The manifest. Its `skipped` names recordings that could not be read and boxes that lie
        outside their recording; everything else has been written.

    Raises:
        UserError: if out_dir holds shards of something else, cannot be written, or no crop at all
            could be made.
    """
    out_dir, data_dir = Path(out_dir), Path(data_dir)
    channel = config.audio.channel
    recordings = {
        name: replace(source, channel=channel) for name, source in annotations.recordings.items()
    }
    rows = annotations.used_rows
    fold_of = assign_folds(rows, list(recordings), config.training.folds, config.training.fold_seed)
    wanted = set(rows["recording_id"]) | annotations.complete.keys()
    if config.crops.unlabelled_per_recording:
        wanted = set(recordings)
    plans = plan_shards(wanted, fold_of, config.crops.recordings_per_shard)
    plan_id = _plan_id(annotations, plans, config)
    open_plan(out_dir, plan_id)
    sound = look_at_sound({name: recordings[name] for name in wanted})
    finished = read_complete(plans, out_dir, sound, report)
    if finished is not None:
        report(
            f"Nothing had to be done: {out_dir} has all shards, whole and of the recordings as "
            "they are."
        )
        return finished
    rows_of = rows_by_recording(rows, annotations.classes, recordings)
    transform = RecordingTransform(config)

    def cut(recording_id: str) -> tuple[Iterable[Crop], list[str], list[str]]:
        return _cut_recording(
            recording_id,
            recordings[recording_id],
            rows_of[recording_id],
            complete_mask(annotations.complete, recording_id, annotations.classes),
            fold_of[recording_id],
            transform,
            config,
        )

    index, skipped, remarks = write_plans(
        plans, cut, out_dir, sound, workers=workers, progress=progress, report=report
    )
    manifest = Manifest(
        classes=annotations.classes,
        mean_box_s=mean_box_s(annotations.rows),
        frontend=config.frontend.model_dump(mode="json"),
        frontend_fingerprint=config.frontend.fingerprint,
        crop_frames=config.crop_frames,
        margin_frames=config.margin_frames,
        folds=config.training.folds,
        fold_seed=config.training.fold_seed,
        shards_id=plan_id,
        shards=shard_sizes(plans, out_dir),
        counts=_count_kinds(index),
        rows=annotations.counts,
        data_dir=str(data_dir.resolve()),
        recordings={
            name: {
                "path": os.path.relpath(source.path, data_dir),
                "offset": source.offset,
                "length": source.length,
                "fold": fold_of[name],
            }
            for name, source in recordings.items()
        },
        skipped=skipped,
        remarks=remarks,
        channel=channel,
        box_hz=box_hz(annotations.rows),
        complete=without_lost_rows(
            annotations.complete, rows[rows["present"]], index[index["kind"] == "tp"]
        ),
        code_version=rfcx_tf.__version__,
    )
    manifest = write_manifest(manifest, out_dir)
    report(f"Wrote {out_dir}/manifest.json, index.csv and the shards beside them.")
    return manifest


def _count_kinds(index: pd.DataFrame) -> dict[str, int]:
    """Crops by kind, absent ones only where there are any."""
    counts = {kind: int((index["kind"] == kind).sum()) for kind in KINDS}
    return {kind: n for kind, n in counts.items() if n or kind in ("tp", "fp", "unlabelled")}


def _plan_id(annotations: Annotations, plans: list[ShardPlan], config: Config) -> str:
    """Identifies what is to be written, so that two recipes never share a folder."""
    complete = [str(entry) for entry in sorted(annotations.complete.items())]
    parts = [
        str(SCHEMA_VERSION),
        config.frontend.fingerprint,
        config.crops.model_dump_json(exclude=None if complete else {"absent_per_minute"}),
        str([(plan.name, plan.recording_ids) for plan in plans]),
        annotations.rows.drop(columns="source").to_csv(index=False),
        str(annotations.classes),
        str(config.training.fold_seed),
        # Shards of the mean are those that were made before there was a choice.
        *([] if config.audio.channel == MEAN else [config.audio.channel]),
        # So are those of folders without complete.csv.
        *complete,
    ]
    return identify(parts)


def _plan_recording(
    recording_id: str, rows: np.ndarray, is_complete: bool, samples: int, config: Config
) -> tuple[np.ndarray, list[dict], list[str]]:
    """Decides what to cut from a recording of so many samples with these rows.

    Returns:
        Bool [rows], whether they lie in the recording; what is known of the crops, one for each of
        these, then those where no row lies; the other rows, in words.
    """
    duration_s = samples / config.frontend.sample_rate_hz
    outside = rows["t_max"] > duration_s + _END_TOLERANCE_S
    skipped = [
        f"{row['source']}: a box must lie in its recording, which is {duration_s:.2f} s long. "
        f"Received: t_min={row['t_min']:g}, t_max={row['t_max']:g}. Correct the row, or copy the "
        "recording again."
        for row in rows[outside]
    ]
    last_start = max(1 + samples // config.frontend.hop_length - config.stored_frames, 1)

    def planned(kind: str, species_id: int, songtype_id: int, box: tuple[float, ...]) -> dict:
        centre_s = (box[0] + box[1]) / 2
        start = round(centre_s / config.frontend.frame_s - config.stored_frames / 2)
        return {
            "kind": kind,
            "species_id": species_id,
            "songtype_id": songtype_id,
            "box": box,
            "start_frame": min(max(start, 0), last_start),
        }

    crops = []
    for row in rows[~outside]:
        kind, box = "tp" if row["present"] else "fp", tuple(float(row[name]) for name in BOX)
        crops.append(planned(kind, int(row["species_id"]), int(row["songtype_id"]), box))
    kind, wanted = "unlabelled", config.crops.unlabelled_per_recording
    if is_complete:
        kind, wanted = "absent", math.ceil(config.crops.absent_per_minute * duration_s / 60)
        # In the silence behind a short recording nothing calls either.
        duration_s = max(duration_s, config.crops.crop_s)
    half_s = config.crops.crop_s / 2
    for centre_s in _free_centres_s(recording_id, rows, duration_s, wanted, config):
        crops.append(planned(kind, -1, -1, (centre_s - half_s, centre_s + half_s, 0.0, 0.0)))
    return ~outside, crops, skipped


def _cut_recording(
    recording_id: str,
    source: AudioSource,
    rows: np.ndarray,
    complete: np.ndarray,
    fold: int,
    transform: RecordingTransform,
    config: Config,
) -> tuple[Iterable[Crop], list[str], list[str]]:
    """All crops of one recording, and in words what had to be left out, and what is to be said of a
    recording of which nothing is missing.
    """
    is_complete = bool(complete.any())

    def pieces(crops: list[dict]) -> list[tuple[int, int]]:
        return [(c["start_frame"], c["start_frame"] + config.stored_frames) for c in crops]

    def wanted_samples(samples: int) -> list[tuple[int, int]]:
        _, crops, _ = _plan_recording(recording_id, rows, is_complete, samples, config)
        return transform.samples_around(pieces(crops), samples)

    said: list[SoundRemark] = []
    try:
        waveform = read_audio_parts(source, config.frontend.sample_rate_hz, wanted_samples, said)
    except AudioError as error:
        return [], [str(error)], []
    inside, crops, skipped = _plan_recording(recording_id, rows, is_complete, len(waveform), config)
    # The species of a call that could not be used is not absent.
    lost = rows["class_index"][~inside & rows["present"]]
    complete = np.where(np.isin(np.arange(len(complete)), lost), 0, complete)
    skipped = [remark.text for remark in said if remark.is_cut] + skipped
    remarks = [remark.text for remark in said if not remark.is_cut]
    # Short recordings get silence behind them, as they do at prediction.
    missing = config.stored_frames * config.frontend.hop_length - len(waveform)
    if missing > 0:
        waveform = np.pad(waveform, (0, missing))
    spectrogram = transform.around(waveform, pieces(crops))
    highest = max(spectrogram.max(), -spectrogram.min())
    if not highest <= np.finfo(np.float16).max:
        raise UserError(
            f"Shards hold float16, up to 65504. The front end gave {highest:.3g} for {source}. "
            "Lower frontend.pcen.power or raise frontend.pcen.gain."
        )
    labels = {"rows": rows[inside], "complete": complete, "recording_id": recording_id}
    stored = (stored_piece(spectrogram, config=config, fold=fold, **labels, **c) for c in crops)
    return stored, skipped, remarks


def _free_centres_s(
    recording_id: str, rows: np.ndarray, duration_s: float, wanted: int, config: Config
) -> np.ndarray:
    """Centres of crops that touch no row, drawn from a grid of half crops; maybe fewer."""
    crop_s = config.crops.crop_s
    if wanted == 0 or duration_s < crop_s:
        return np.empty(0)
    generator = random_of(recording_id, config.training.fold_seed)
    step_s = crop_s / 2
    centres_s = np.arange(crop_s / 2, duration_s - crop_s / 2 + 1e-9, step_s)
    touches = (rows["t_min"][None] < centres_s[:, None] + crop_s / 2) & (
        rows["t_max"][None] > centres_s[:, None] - crop_s / 2
    )
    free = centres_s[~touches.any(axis=1)]
    return np.sort(generator.permutation(free)[:wanted])
