"""Shards' rows and recordings + an embedding model -> a listener's run, all folds of it.

The regressions learn from the window centred on each TP and FP row, and from those windows of the
whole recording in which a row counts: at prediction too a call is rarely in the middle. Teachers
can label all windows for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from rfcx_tf.core.config import LossConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.listener_config import ListenerConfig
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.model.embedding import EmbeddingModel, hash_model
from rfcx_tf.model.losses import label_weights
from rfcx_tf.model.regressions import MaskedRegressions, SoftRows, fit_regressions
from rfcx_tf.runs.embeddings import EmbeddingStore, embed_recordings
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.shards.cut import label_crop
from rfcx_tf.shards.pseudo_folder import PseudoLabels, names_with_windows
from rfcx_tf.shards.records import NO_FOLD, Manifest, ShardReader
from rfcx_tf.training.pseudo.soft_windows import soft_windows
from rfcx_tf.training.run import check_folds, check_labels_fit

# In the place of a row number, for windows that are centred on no row.
NO_ROW = -1


@dataclass(frozen=True)
class LabelledWindows:
    """Embedded windows with what is known of them.

    Attributes:
        rows: int64 [windows], number in the shards' index of the row that the window is centred
            on, or NO_ROW.
        folds: int64 [windows], fold of each window's recording.
        embeddings: float32 [windows, size].
        target: float32 [windows, classes], 1 where the class is known to be present.
        known: float32 [windows, classes], 1 where the label is known.
    """

    rows: np.ndarray
    folds: np.ndarray
    embeddings: np.ndarray
    target: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class ListenerTraining:
    """A trained listener.

    Attributes:
        run: its folder.
        recordings: number of recordings that were listened to, now or earlier.
        failed: one line for every recording that could not be read.
    """

    run: ListenerRun
    recordings: int
    failed: list[str]


def train_listener(
    model_path: str | Path,
    config: ListenerConfig,
    tfrecords: str | Path,
    run_dir: str | Path,
    data_dir: Path | None = None,
    *,
    pseudo: Path | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> ListenerTraining:
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
        pseudo: folder of pseudo-labels (`rfcx_tf.shards.pseudo_folder`) to learn from as well. Its
            recordings without annotations are listened to as well.
        progress: whether to show a progress bar.
        report: takes a line at a time.

    Raises:
        UserError: if model, config, shards and run folder do not go together, or a fold has
            nothing to train on.
    """
    reader = ShardReader(tfrecords)
    manifest = reader.manifest
    folds = list(range(manifest.folds))
    check_folds(manifest, folds, data_dir)
    labels = PseudoLabels(pseudo) if pseudo else None
    taught = {fold: labels.of_fold(fold) for fold in folds} if labels else {}
    extra = {}
    for labelled in taught.values():
        check_labels_fit(labelled, reader)
        names = set(names_with_windows(labelled.folder))
        if not names:
            raise UserError(
                "A listener learns from the windows that teachers labelled. "
                f"{labelled.folder}/windows holds none. Label again with rfcx-tf pseudo-label."
            )
        others = labelled.manifest.audio_sources(NO_FOLD)
        extra |= {name: source for name, source in others.items() if name in names}
    model = EmbeddingModel.open(model_path, config)
    model_hash = hash_model(model_path)
    run = ListenerRun.create(run_dir, config, model_path, model_hash, manifest, tfrecords, labels)
    annotated = reader.index.iloc[reader.rows(folds, "tp", "fp")]
    boxes_s = _boxes_s(annotated, [*manifest.recordings, *extra])
    store = EmbeddingStore(run.embeddings, run.embeddings_key, boxes_s, extra)
    sources = {**extra}
    for fold in folds:
        sources |= manifest.audio_sources(fold, data_dir)
    failed = embed_recordings(model, sources, store, progress=progress)
    windows = label_windows(store, annotated, manifest, config.window_s)
    label = _labeller(manifest.classes, config.window_s)
    for fold in folds:
        soft = None
        if fold in taught:
            recordings = taught[fold].manifest.recordings
            names = [name for name, entry in recordings.items() if entry["fold"] != fold]
            soft = soft_windows(taught[fold].folder, names, store, annotated, label, config)
        head = fit_fold(windows, fold, config, soft)
        report(_describe(fold, head, int((windows.folds != fold).sum()), soft, manifest.classes))
        _write_held_out(run, store, annotated, manifest, windows, fold, head)
        # Last: with it the fold is finished.
        head.save(run.weights(fold))
    join_out_of_fold(run)
    return ListenerTraining(run, len(sources) - len(failed), failed)


def label_windows(
    store: EmbeddingStore, annotated: pd.DataFrame, manifest: Manifest, window_s: float
) -> LabelledWindows:
    """The windows that can be learned from, labelled by all rows of their recording.

    Args:
        store: embeddings; recordings without any are left out.
        annotated: TP and FP lines of the shards' index, by their numbers.
        manifest: of the shards.
        window_s: length of a window.
    """
    label = _labeller(manifest.classes, window_s)
    parts = []
    for name, rows in annotated.groupby("recording_id"):
        found = store.read(str(name))
        if found is None:
            continue
        target, known = label(found.row_start_s, rows)
        parts.append((rows.index.to_numpy(), rows["fold"].to_numpy(), found.rows, target, known))
        target, known = label(found.window_start_s, rows)
        says = known.any(axis=1)
        count = int(says.sum())
        places = np.full(count, NO_ROW), np.full(count, rows["fold"].iloc[0])
        parts.append((*places, found.windows[says], target[says], known[says]))
    if not parts:
        raise UserError(
            "A listener learns from recordings with TP or FP rows. None of them could be listened "
            f"to. The shards name {annotated['recording_id'].nunique()}."
        )
    return LabelledWindows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def fit_fold(
    windows: LabelledWindows,
    held_out: int,
    config: ListenerConfig,
    soft: SoftRows | None = None,
) -> MaskedRegressions:
    """Fits the regressions on the windows of all folds but one, and on what teachers labelled.

    Raises:
        UserError: if the other folds have none.
    """
    others = windows.folds != held_out
    if not others.any():
        raise UserError(
            f"A fold needs windows to train on. Held out fold {held_out}, the others have none. "
            "Make shards with fewer training.folds, or add recordings."
        )
    target = windows.target[others]
    labels = {
        "target": target,
        "known": windows.known[others],
        "pseudo": np.zeros(len(target), np.float32),
    }
    loss = LossConfig(unknown_negative_weight=config.unknown_negative_weight)
    weights = keras.ops.convert_to_numpy(label_weights(labels, loss))
    return fit_regressions(windows.embeddings[others], target, weights, config.c, soft)


def _boxes_s(annotated: pd.DataFrame, names: Iterable[str]) -> dict[str, np.ndarray]:
    boxes_s = dict.fromkeys(names, np.empty((0, 2)))
    for name, rows in annotated.groupby("recording_id"):
        boxes_s[str(name)] = rows[["t_min", "t_max"]].to_numpy(float)
    return boxes_s


def _labeller(classes: list[SpeciesClass], window_s: float) -> Callable:
    """A function from begins of windows and rows to target and known [windows, classes]."""
    number_of = {c.species_id: number for number, c in enumerate(classes)}
    # Every class may be heard in all of the window.
    spans = np.tile(np.float32([0, window_s]), (len(classes), 1))
    of_one = tf.function(
        lambda boxes, numbers, present: label_crop(boxes, numbers, present, spans),
        [tf.TensorSpec([None, 2]), *[tf.TensorSpec([None], tf.int64)] * 2],
    )

    def label(start_s: np.ndarray, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        boxes_s = rows[["t_min", "t_max"]].to_numpy(np.float32)
        numbers = rows["species_id"].map(number_of).to_numpy(np.int64)
        present = (rows["kind"] == "tp").to_numpy(np.int64)
        labels = np.array([of_one(boxes_s - start, numbers, present) for start in start_s])
        return labels[:, 0], labels[:, 1]

    return label


def _describe(
    fold: int,
    head: MaskedRegressions,
    windows: int,
    soft: SoftRows | None,
    classes: list[SpeciesClass],
) -> str:
    left_out = [c.name for c, fitted in zip(classes, head.fitted, strict=True) if not fitted]
    zero = f"; scored 0: {', '.join(left_out)}" if left_out else ""
    more = "" if soft is None else f" and {len(soft.features)} that teachers labelled"
    return (
        f"Fold {fold}: fitted {head.fitted.sum()} of {len(classes)} classes on {windows} "
        f"windows{more}{zero}."
    )


def _write_held_out(
    run: ListenerRun,
    store: EmbeddingStore,
    annotated: pd.DataFrame,
    manifest: Manifest,
    windows: LabelledWindows,
    fold: int,
    head: MaskedRegressions,
) -> None:
    """Writes what the regressions say of the fold that they did not see."""
    own = (windows.folds == fold) & (windows.rows != NO_ROW)
    table = crop_table(
        annotated.loc[windows.rows[own]],
        manifest.classes,
        windows.target[own],
        windows.known[own],
        head.probability(windows.embeddings[own]).numpy(),
    )
    write_crops(table, run.fold(fold) / "oof_crops.csv")
    scores = {}
    for name, entry in manifest.recordings.items():
        if entry["fold"] == fold and (found := store.read(name)) is not None:
            scores[name] = head.probability(found.windows).numpy().max(axis=0)
    columns = [c.column for c in manifest.classes]
    table = pd.DataFrame.from_dict(scores, orient="index", columns=columns, dtype=np.float32)
    write_scores(table.rename_axis("recording_id").reset_index(), run.fold(fold) / "oof_scores.csv")
