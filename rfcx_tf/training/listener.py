"""Shards' rows and recordings + an embedding model -> a listener's run, all folds of it.

The regressions learn from the window centred on each TP and FP row, and from those windows of the
whole recording in which a row counts: at prediction too a call is rarely in the middle. Other runs
can label all windows for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from rfcx_tf.core.checksums import forget_checksums
from rfcx_tf.core.config import ListenerConfig, LossConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.windows import at_times
from rfcx_tf.labels.complete import complete_mask
from rfcx_tf.model.embedding import EmbeddingModel, hash_model
from rfcx_tf.model.regressions import MaskedRegressions, PseudoLabelledRows
from rfcx_tf.runs.embeddings import EmbeddingStore, embed_recordings
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.kept import keep_checksums
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.shards.cut import label_crop
from rfcx_tf.shards.pieces import rows_by_recording
from rfcx_tf.shards.pseudo_folder import PseudoLabels, names_with_windows, read_probability
from rfcx_tf.shards.records import LABELLED, NO_FOLD, Manifest, ShardReader
from rfcx_tf.training.checks import check_folds, check_labels_fit
from rfcx_tf.training.regression_folds import (
    NO_ROW,
    LabelledFeatures,
    describe_fit,
    fit_fold,
    write_held_out_crops,
)

# begins of windows in seconds, their recording -> target, known, partly [windows, classes]
Labeller = Callable[[np.ndarray, str], tuple[np.ndarray, ...]]


def train_listener(
    model_path: str | Path,
    config: ListenerConfig,
    tfrecords: str | Path,
    run_dir: str | Path,
    data_dir: Path | None = None,
    *,
    pseudo: PseudoLabels | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> tuple[ListenerRun, list[str], list[str]]:
    """Embeds the recordings of a folder of shards and fits the regressions of every fold.

    Of the shards only manifest and index are used: recordings, folds, classes and rows. The
    embeddings are kept in the run folder: the same call goes on after a stop, and one with
    another `c` only fits anew.

    Args:
        model_path: the embedding model.
        config: how it listens, and the regressions.
        tfrecords: folder of shards.
        run_dir: run folder, new or to be gone on with.
        data_dir: where the recordings are, if not where the shards were made from.
        pseudo: pseudo-labels to learn from as well. Their recordings without annotations are
            listened to as well.
        progress: whether to show a progress bar.
        report: takes a line at a time.

    Returns:
        The run; one line for every recording that could not be read; and for every one that was
        listened to as far as it goes.

    Raises:
        UserError: if model, config, shards and run folder do not go together, or a fold has
            nothing to train on.
    """
    reader = ShardReader(tfrecords)
    manifest = reader.manifest
    folds = list(range(manifest.folds))
    check_folds(manifest, folds, data_dir)
    labels_of = {fold: pseudo.of_fold(fold) for fold in folds} if pseudo else {}
    sources = {}
    for labels in labels_of.values():
        sources |= _labelled_elsewhere(labels, reader)
    extra = dict(sources)
    for fold in folds:
        sources |= manifest.audio_sources(fold, data_dir)
    model = EmbeddingModel.open(model_path, config)
    model_hash = hash_model(model_path)
    run = ListenerRun.create(run_dir, config, model_path, model_hash, manifest, tfrecords, pseudo)
    annotated = reader.index.iloc[reader.rows(folds, *LABELLED)]
    boxes_s = _boxes_s(annotated, [*manifest.recordings, *extra])
    store = EmbeddingStore(run.embeddings, run.embeddings_key, boxes_s, extra)
    failed, cut = embed_recordings(model, sources, store, progress=progress)
    label = _labeller(annotated, manifest, config.window_s)
    windows = annotated_windows(store, annotated, manifest, label)
    loss = LossConfig(unknown_negative_weight=config.unknown_negative_weight)
    for fold in folds:
        taught = None
        if fold in labels_of:
            taught = _pseudo_labelled_windows(labels_of[fold], fold, store, label, config)
        regressions = fit_fold(windows, fold, loss, config.c, taught)
        fitted_on = f"{(windows.folds != fold).sum()} windows"
        if taught is not None:
            fitted_on += f" and {len(taught.features)} pseudo-labelled ones"
        report(describe_fit(fold, regressions, manifest.classes, fitted_on))
        forget_checksums(run.fold(fold))
        write_held_out_crops(run, reader, windows, fold, regressions)
        _write_held_out_scores(run, store, manifest, fold, regressions)
        keep_checksums(run.fold(fold))
        # Last: with it the fold is finished.
        regressions.save(run.weights(fold))
    join_out_of_fold(run)
    report(f"Listened to {len(sources) - len(failed)} recordings, now or earlier.")
    return run, failed, cut


def annotated_windows(
    store: EmbeddingStore, annotated: pd.DataFrame, manifest: Manifest, label: Labeller
) -> LabelledFeatures:
    """The windows that can be learned from, labelled by all rows of their recording.

    Args:
        store: embeddings; recordings without any are left out.
        annotated: labelled lines of the shards' index, by their numbers.
        manifest: of the shards.
        label: says what is known of windows.
    """
    parts = []
    rows_of = dict(iter(annotated.groupby("recording_id")))
    for name in sorted(rows_of.keys() | manifest.complete.keys()):
        found = store.read(name)
        if found is None:
            continue
        fold, rows = manifest.recordings[name]["fold"], rows_of.get(name, annotated[:0])
        centred = label(found.row_start_s, name)
        parts.append((rows.index.to_numpy(), rows["fold"].to_numpy(), found.rows, *centred))
        target, known, partly = label(found.window_start_s, name)
        says = known.any(axis=1)
        count = int(says.sum())
        places = np.full(count, NO_ROW), np.full(count, fold)
        parts.append((*places, found.windows[says], target[says], known[says], partly[says]))
    if not parts:
        raise UserError(
            "A listener learns from recordings with TP or FP rows. None of them could be listened "
            f"to. The shards name {annotated['recording_id'].nunique()}."
        )
    return LabelledFeatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _pseudo_labelled_windows(
    labels: ShardReader,
    held_out: int,
    store: EmbeddingStore,
    label: Labeller,
    config: ListenerConfig,
) -> PseudoLabelledRows | None:
    """All windows of the other folds' recordings, with pseudo-labels of that time.

    Pseudo-labels may be of windows of another length and distance: they are interpolated at the
    middles of the listener's. What rows say of a window comes before what pseudo-labels say:
    there a class has no weight.

    Returns:
        None if none of the recordings is both labelled and listened to.
    """
    parts = []
    for name, entry in labels.manifest.recordings.items():
        if entry["fold"] == held_out:
            continue
        labelled, found = read_probability(labels.folder, name), store.read(name)
        if labelled is None or found is None:
            continue
        middles_s = found.window_start_s + config.window_s / 2
        own_s = np.repeat(labelled[0][:, np.newaxis], labelled[1].shape[1], axis=1)
        probability = at_times(own_s, labelled[1], middles_s)
        weights = np.full_like(probability, config.pseudo_weight)
        weights *= 1 - label(found.window_start_s, name)[1]
        parts.append((found.windows, probability, weights))
    if not parts:
        return None
    return PseudoLabelledRows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _labelled_elsewhere(labels: ShardReader, reader: ShardReader) -> dict:
    """Recordings with pseudo-labels that are not in the shards, by recording id."""
    check_labels_fit(labels, reader)
    names = set(names_with_windows(labels.folder))
    if not names:
        raise UserError(
            "A listener learns from the windows that were labelled. "
            f"{labels.folder}/windows holds none. Label again with rfcx-tf pseudo-label."
        )
    others = labels.manifest.audio_sources(NO_FOLD)
    return {name: source for name, source in others.items() if name in names}


def _boxes_s(annotated: pd.DataFrame, names: Iterable[str]) -> dict[str, np.ndarray]:
    boxes_s = dict.fromkeys(names, np.empty((0, 2)))
    for name, rows in annotated.groupby("recording_id"):
        boxes_s[str(name)] = rows[["t_min", "t_max"]].to_numpy(float)
    return boxes_s


def _labeller(annotated: pd.DataFrame, manifest: Manifest, window_s: float) -> Labeller:
    classes = manifest.classes
    boxes = annotated[annotated["kind"].isin(["tp", "fp"])]
    boxes_of = rows_by_recording(
        boxes.assign(present=boxes["kind"] == "tp"), classes, set(boxes["recording_id"])
    )
    # Every class may be heard in all of the window.
    spans = np.tile(np.float32([0, window_s]), (len(classes), 1))
    of_one = tf.function(
        lambda boxes, *rows: label_crop(boxes, *rows[:2], spans, rows[2]),
        [
            tf.TensorSpec([None, 2]),
            *[tf.TensorSpec([None], tf.int64)] * 2,
            tf.TensorSpec([len(classes)]),
        ],
    )

    def label(start_s: np.ndarray, recording_id: str) -> tuple[np.ndarray, ...]:
        complete = complete_mask(manifest.complete, recording_id, classes).astype(np.float32)
        labels = np.zeros((len(start_s), 3, len(classes)), np.float32)
        labels[:, 1] = complete
        rows = boxes_of.get(recording_id)
        if rows is not None:
            boxes_s = np.stack([rows["t_min"], rows["t_max"]], axis=1).astype(np.float32)
            numbers, present = (rows[c].astype(np.int64) for c in ("class_index", "present"))
            for window, start in enumerate(start_s):
                labels[window] = of_one(boxes_s - start, numbers, present, complete)
        return tuple(labels.transpose(1, 0, 2))

    return label


def _write_held_out_scores(
    run: ListenerRun,
    store: EmbeddingStore,
    manifest: Manifest,
    fold: int,
    regressions: MaskedRegressions,
) -> None:
    """Writes what the regressions say of the recordings of the fold that they did not see."""
    scores = {}
    for name, entry in manifest.recordings.items():
        if entry["fold"] == fold and (found := store.read(name)) is not None:
            scores[name] = regressions.probability(found.windows).numpy().max(axis=0)
    columns = [c.column for c in manifest.classes]
    table = pd.DataFrame.from_dict(scores, orient="index", columns=columns, dtype=np.float32)
    write_scores(table.rename_axis("recording_id").reset_index(), run.fold(fold) / "oof_scores.csv")
