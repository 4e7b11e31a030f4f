"""Window probabilities of a recording -> pseudo-labelled crops: which windows, which labels."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from rfcx_tf.core.config import Config
from rfcx_tf.shards.records import Crop


def window_starts(frames: int, config: Config) -> np.ndarray:
    """First frames [windows] of the windows that are labelled, `pseudo.slide_s` apart.

    Args:
        frames: of the recording's spectrogram.
        config: the recipe; a window is as long as a training crop.
    """
    step = config.pseudo_slide_cells * config.model.backbone.stride[0]
    return np.arange(0, max(frames - config.crop_frames, 0) + 1, step)


def choose_windows(probability: np.ndarray, recording_id: str, config: Config) -> np.ndarray:
    """Which windows of a recording become crops.

    They are drawn at random, since the most confident ones teach the least: windows that hold
    a class at or above `pseudo.present_above`, and up to `pseudo.background` of the crops from
    others.

    Args:
        probability: [windows, classes].
        recording_id: decides, with `seed`, which are drawn.
        config: the recipe.

    Returns:
        Indices of at most `pseudo.windows_per_recording` windows, ascending.
    """
    limit = config.pseudo.windows_per_recording
    holds = (probability >= config.pseudo.present_above).any(axis=1)
    name_seed = int.from_bytes(hashlib.sha256(recording_id.encode()).digest()[:4], "big")
    generator = np.random.default_rng([config.seed, name_seed])
    background = generator.permutation(np.flatnonzero(~holds))[
        : round(limit * config.pseudo.background)
    ]
    present = generator.permutation(np.flatnonzero(holds))[: limit - len(background)]
    return np.sort(np.concatenate([present, background]))


def cut_windows(
    spectrogram: np.ndarray,
    probability: np.ndarray,
    starts: np.ndarray,
    rows: pd.DataFrame,
    recording_id: str,
    fold: int,
    species_ids: list[int],
    config: Config,
) -> list[Crop]:
    """Crops of windows, with soft labels where the teacher is sure.

    Args:
        spectrogram: of the whole recording, float16 [frames, bands], at least as long as a
            stored crop.
        probability: of the windows [windows, classes].
        starts: their first frames [windows].
        rows: annotated boxes of the recording: t_min, t_max, species_id, kind (`tp`, `fp`).
            What they say comes before what the teacher says.
        recording_id, fold: of the recording; fold -1 for one that is in none.
        species_ids: of the classes, in the order of the columns.
        config: the recipe.

    Returns:
        A crop a window, of kind `pseudo`. Its species is the most probable one if it counts as
        present, else -1.
    """
    options, frame_s = config.pseudo, config.frontend.frame_s
    stored_frames = config.crop_frames + 2 * config.margin_frames
    class_of = {species: number for number, species in enumerate(species_ids)}
    crops = []
    for start, values in zip(starts, probability, strict=True):
        begin = int(np.clip(start - config.margin_frames, 0, len(spectrogram) - stored_frames))
        begin_s, end_s = begin * frame_s, (begin + stored_frames) * frame_s
        touching = rows[(rows["t_max"] > begin_s) & (rows["t_min"] < end_s)]
        best = int(np.argmax(values))
        sure = (values >= options.present_above) | (values <= options.absent_below)
        crops.append(
            Crop(
                # A copy, for the recording may lie in a file that goes away.
                spectrogram=np.array(spectrogram[begin : begin + stored_frames]),
                recording_id=recording_id,
                fold=fold,
                kind="pseudo",
                species_id=species_ids[best] if values[best] >= options.present_above else -1,
                songtype_id=-1,
                box=(start * frame_s, (start + config.crop_frames) * frame_s, 0.0, 0.0),
                start_frame=begin,
                box_times_s=touching[["t_min", "t_max"]].to_numpy(np.float32),
                box_classes=touching["species_id"].map(class_of).to_numpy(np.int64),
                box_present=(touching["kind"] == "tp").to_numpy(np.int64),
                soft_target=values.astype(np.float32),
                soft_known=sure.astype(np.int64),
            )
        )
    return crops
