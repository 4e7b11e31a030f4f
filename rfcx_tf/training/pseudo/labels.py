"""Teachers label the windows of all recordings -> folders of pseudo-labelled shards.

Teachers give every window of every recording a probability for every class, and a folder of
shards takes the windows that teach something (`rfcx_tf.shards.pseudo_crops`). Who labels what is a
choice:

- One folder for all folds: a recording with a fold is labelled by the teachers' detectors of that
  fold, which never saw its annotations; others by all detectors. But these detectors were trained
  on the rows of the other folds. What a student is tested on has taught those who labelled its
  training recordings, so its out-of-fold scores are flattered.
- A folder for every fold: what a fold's student learns from is labelled by that fold's detectors
  alone, and nothing comes from the rows that it is tested on. It takes as many times the space.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

import rfcx_tf
from rfcx_tf.audio.decode import AudioError, AudioSource, SoundRemark, decode_blocks
from rfcx_tf.core.config import Config
from rfcx_tf.core.windows import at_times, crop_spans
from rfcx_tf.frontend.recording import RecordingTransform
from rfcx_tf.labels.complete import complete_mask
from rfcx_tf.scoring.scorer import RecordingScores, ScoreStream
from rfcx_tf.shards.pieces import rows_by_recording
from rfcx_tf.shards.plans import (
    identify,
    look_at_sound,
    open_plan,
    plan_shards,
    read_complete,
    shard_sizes,
    write_plans,
)
from rfcx_tf.shards.pseudo_crops import (
    choose_windows,
    cut_windows,
    say_rows_first,
    window_starts,
)
from rfcx_tf.shards.pseudo_folder import begin_per_fold, fold_folder, write_probability
from rfcx_tf.shards.records import (
    KINDS,
    NO_FOLD,
    SCHEMA_VERSION,
    Crop,
    Manifest,
    ShardReader,
    write_manifest,
)
from rfcx_tf.training.pseudo.labelling_runs import LabellingRuns

_BLOCK_S = 60.0
# Of the files beside the shards.
_WINDOWS_VERSION = 3
# What counts only when labels are learned from.
_OF_TRAINING = {
    "fraction",
    "weight",
    "power",
    "draw",
    "balance_classes",
    "mixup",
    "mixup_into_rows",
}


def write_pseudo_labels(
    teachers: LabellingRuns,
    reader: ShardReader,
    config: Config,
    out_dir: Path,
    *,
    extra: dict[str, AudioSource],
    data_dir: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Writes a folder of pseudo-labelled shards; a folder that is begun is completed.

    Args:
        teachers: label. Those of one fold alone leave out that fold's recordings, which its
            student does not learn from.
        reader: the annotated shards: recordings, folds, rows and classes.
        config: of the student: its front end makes the spectrograms.
        out_dir: folder of the shards.
        extra: recordings without annotations, in no fold, by recording id. Annotated ones among
            them are not taken for others.
        data_dir: where the annotated recordings are, if not where the shards were made from.
        workers: recordings that are worked on at once; None: one a core.
        progress: whether to show a progress bar.

    Returns:
        The manifest; its `skipped` names recordings that could not be read, or not to their ends.

    Raises:
        UserError: as `open_plan` and `write_plans`.
    """
    manifest = reader.manifest
    extra = {
        name: replace(source, channel=manifest.channel)
        for name, source in extra.items()
        if name not in manifest.recordings
    }
    sources = {**extra}
    fold_of = dict.fromkeys(extra, NO_FOLD)
    for fold in (k for k in range(manifest.folds) if k != teachers.only_fold):
        own = manifest.audio_sources(fold, data_dir)
        sources |= own
        fold_of |= dict.fromkeys(own, fold)
    plans = plan_shards(sources, fold_of, config.crops.recordings_per_shard)
    plan_id = _hash_labelling(teachers.fingerprint, manifest, config, sorted(extra))
    open_plan(out_dir, plan_id)
    sound = look_at_sound(sources)
    finished = read_complete(plans, out_dir, sound)
    if finished is not None:
        return finished
    teachers.load(fold_of.values(), manifest.shards_id)
    transform = RecordingTransform(config)
    boxes = reader.index[reader.index["kind"].isin(["tp", "fp"])]
    boxes = boxes.assign(present=boxes["kind"] == "tp")
    boxes_of = rows_by_recording(boxes, manifest.classes, sources)
    species_ids = [c.species_id for c in manifest.classes]
    spans = crop_spans(config, manifest.classes, manifest.mean_box_s)

    def cut(recording_id: str) -> tuple[list[Crop], list[str], list[str]]:
        source, fold = sources[recording_id], fold_of[recording_id]
        # What a listener has kept it knows by the names of annotated recordings.
        stream = teachers.scorer(fold).stream(None if fold == NO_FOLD else recording_id)
        rates_hz = teachers.scorer(fold).sample_rates_hz
        said: list[SoundRemark] = []
        with tempfile.TemporaryFile() as file:
            try:
                spectrogram, found = _hear(source, transform, stream, rates_hz, config, file, said)
            except AudioError as error:
                return [], [str(error)], []
            starts = window_starts(len(spectrogram), config)
            centres_s = (starts + config.crop_frames / 2) * config.frontend.frame_s
            own_s = teachers.scorer(fold).card.centres_s(len(found.window_scores))
            probability = at_times(own_s, found.window_scores, centres_s)
            write_probability(out_dir, recording_id, centres_s, probability)
            rows = boxes_of[recording_id]
            complete = complete_mask(manifest.complete, recording_id, manifest.classes)
            known_first = say_rows_first(probability, starts, rows, complete, spans, config)
            kept = choose_windows(known_first, recording_id, config)
            crops = cut_windows(
                spectrogram,
                probability[kept],
                known_first[kept],
                starts[kept],
                rows,
                complete,
                recording_id,
                fold,
                species_ids,
                config,
            )
            cut_short = [remark.text for remark in said if remark.is_cut]
            return crops, cut_short, [remark.text for remark in said if not remark.is_cut]

    index, skipped, remarks = write_plans(
        plans, cut, out_dir, sound, workers=workers, progress=progress
    )
    labelled = replace(
        manifest,
        shards_id=plan_id,
        shards=shard_sizes(plans, out_dir),
        counts={kind: int((index["kind"] == kind).sum()) for kind in KINDS if kind != "absent"},
        recordings={
            name: {
                # Relative paths only help where all lie in one folder.
                "path": str(Path(source.path).resolve()),
                "offset": source.offset,
                "length": source.length,
                "fold": fold_of[name],
            }
            for name, source in sources.items()
        },
        skipped=skipped,
        remarks=remarks,
        code_version=rfcx_tf.__version__,
    )
    return write_manifest(labelled, out_dir)


def _hear(
    source: AudioSource,
    transform: RecordingTransform,
    stream: ScoreStream,
    rates_hz: Sequence[int],
    config: Config,
    file: BinaryIO,
    said: list[SoundRemark],
) -> tuple[np.ndarray, RecordingScores]:
    """The student's spectrogram, float16 [frames, bands], and the teachers' scores.

    The recording is decoded once. The spectrogram lies in the file, so that memory does not grow
    with the recording's length. What is to be said of the sound goes to `said`. Silence follows a
    recording that is shorter than a stored crop.
    """
    rate_hz, samples, front_end = config.frontend.sample_rate_hz, 0, transform.stream()

    def write(frames: np.ndarray) -> None:
        file.write(frames.astype(np.float16).tobytes())

    for sound in decode_blocks(source, sorted({rate_hz, *rates_hz}), _BLOCK_S, said):
        stream.push(sound)
        samples += len(sound[rate_hz])
        write(front_end.push(sound[rate_hz]))
    missing = config.stored_frames * config.frontend.hop_length - samples
    write(front_end.push(np.zeros(max(0, missing), np.float32)))
    write(front_end.finish())
    file.flush()
    spectrogram = np.memmap(file, np.float16, "r").reshape(-1, config.frontend.bands)
    return spectrogram, stream.finish()


def write_pseudo_labels_per_fold(
    teachers: LabellingRuns,
    reader: ShardReader,
    config: Config,
    out_dir: Path,
    folds: list[int],
    *,
    extra: dict[str, AudioSource],
    data_dir: Path | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Writes a folder of pseudo-labelled shards for every fold, by its own detectors alone.

    Args:
        teachers: of all folds.
        folds: which get labels. More can follow, in the same folder.
        report: takes a line at a time.
        reader, config, out_dir, extra, data_dir, progress: as of `write_pseudo_labels`.

    Returns:
        What is known of recordings that could not be read, or not to their ends, a line each.

    Raises:
        UserError: as `write_pseudo_labels`, or if other labels are in the folder.
    """
    # The same for all folds, however many of them are finished.
    labelled_by = f"per fold {teachers.recipe_fingerprint}"
    begin_per_fold(out_dir, _hash_labelling(labelled_by, reader.manifest, config, sorted(extra)))
    skipped: dict[str, None] = {}
    for fold in folds:
        report(f"Labels for fold {fold}, by its own detectors.")
        own = write_pseudo_labels(
            teachers.of_fold(fold),
            reader,
            config,
            fold_folder(out_dir, fold),
            extra=extra,
            data_dir=data_dir,
            progress=progress,
        )
        skipped |= dict.fromkeys(own.skipped)
    return list(skipped)


def _hash_labelling(labelled_by: str, manifest: Manifest, config: Config, extra: list[str]) -> str:
    """Identifies labels, so that those of other teachers or bounds never share a folder."""
    labelling = config.pseudo.model_dump(exclude=_OF_TRAINING)
    parts = [
        str(SCHEMA_VERSION),
        str(_WINDOWS_VERSION),
        manifest.shards_id,
        config.frontend.fingerprint,
        config.crops.model_dump_json(exclude={"absent_per_minute"}),
        str(labelling),
        str(config.seed),
        str(extra),
        labelled_by,
    ]
    return identify(parts)
