"""Window probabilities of a recording -> pseudo-labelled crops: which windows, which labels."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.shards.cut import label_crop
from rfcx_tf.shards.pieces import random_of, stored_piece
from rfcx_tf.shards.records import Crop

_label_crop = tf.function(label_crop, reduce_retracing=True)


def window_starts(frames: int, config: Config) -> np.ndarray:
    """First frames [windows] of the windows that are labelled, `pseudo.slide_s` apart.

    Args:
        frames: number of frames in the recording's spectrogram.
        config: the recipe; a window is as long as a training crop.
    """
    step = config.pseudo_slide_cells * config.model.backbone.stride[0]
    return np.arange(0, max(frames - config.crop_frames, 0) + 1, step)


def say_rows_first(
    probability: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    complete: np.ndarray,
    spans: np.ndarray,
    config: Config,
) -> np.ndarray:
    """What people say of windows, and models where people say nothing: float32 [windows, classes].

    By the rule of all crops (`rfcx_tf.shards.cut.label_crop`): 1 where a class is present by a row,
    0 where it is absent by one, or all its calls in the recording are marked and none lies there.

    Args:
        probability, starts, rows, complete: as of `cut_windows`.
        spans: float32 [classes, 2], the frames that count for every class (`crop_spans`).
        config: the recipe.
    """
    # Of windows without a box; those with one follow.
    said = np.where(complete > 0, 0, probability).astype(np.float32)
    boxes = np.stack([rows["t_min"], rows["t_max"]], axis=1) / config.frontend.frame_s
    classes, present = (rows[name].astype(np.int64) for name in ("class_index", "present"))
    for number, start in enumerate(starts):
        near = (boxes[:, 1] > start) & (boxes[:, 0] < start + config.crop_frames)
        if near.any():
            relative = (boxes[near] - start).astype(np.float32)
            target, known, _ = _label_crop(
                tf.constant(relative),
                classes[near],
                present[near],
                spans,
                complete.astype(np.float32),
            )
            said[number] = np.where(known > 0, target, probability[number])
    return said


def choose_windows(probability: np.ndarray, recording_id: str, config: Config) -> np.ndarray:
    """Which windows of a recording become crops.

    They are drawn at random, since the most confident ones teach the least: windows that hold
    a class at or above `pseudo.present_above`, and up to `pseudo.background` of the crops from
    others.

    Args:
        probability: [windows, classes], see `say_rows_first`.
        recording_id: decides, with `seed`, which are drawn.
        config: the recipe.

    Returns:
        Indices of at most `pseudo.windows_per_recording` windows, ascending.
    """
    limit = config.pseudo.windows_per_recording
    holds = (probability >= config.pseudo.present_above).any(axis=1)
    generator = random_of(recording_id, config.seed)
    background = generator.permutation(np.flatnonzero(~holds))[
        : round(limit * config.pseudo.background)
    ]
    present = generator.permutation(np.flatnonzero(holds))[: limit - len(background)]
    return np.sort(np.concatenate([present, background]))


def cut_windows(
    spectrogram: np.ndarray,
    probability: np.ndarray,
    said: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    complete: np.ndarray,
    recording_id: str,
    fold: int,
    species_ids: list[int],
    config: Config,
) -> list[Crop]:
    """Crops of windows, with soft labels where the teacher is sure.

    Args:
        spectrogram: the whole recording, float16 [frames, bands], at least as long as a
            stored crop.
        probability: the teacher's, for every window [windows, classes].
        said: the same after the rows had their say, see `say_rows_first`.
        starts: their first frames [windows].
        rows: annotated boxes of the recording, see `rows_by_recording`. What they say comes
            before what the teacher says.
        complete: int64 [classes], 1 where all calls of the class in the recording are marked.
        recording_id, fold: the recording and its fold; -1 if it is in none.
        species_ids: species of the classes, in the order of the columns.
        config: the recipe.

    Returns:
        A crop a window, of kind `pseudo`. Its species is the most probable one by `said` if it
        counts as present, else -1.
    """
    options, frame_s = config.pseudo, config.frontend.frame_s
    crops = []
    for start, values, said_here in zip(starts, probability, said, strict=True):
        last = len(spectrogram) - config.stored_frames
        best = int(np.argmax(said_here))
        sure = (values >= options.present_above) | (values <= options.absent_below)
        crops.append(
            stored_piece(
                spectrogram,
                rows,
                complete,
                int(np.clip(start - config.margin_frames, 0, last)),
                config,
                recording_id=recording_id,
                fold=fold,
                kind="pseudo",
                species_id=species_ids[best] if said_here[best] >= options.present_above else -1,
                songtype_id=-1,
                box=(start * frame_s, (start + config.crop_frames) * frame_s, 0.0, 0.0),
                soft_target=values.astype(np.float32),
                soft_known=sure.astype(np.int64),
            )
        )
    return crops
