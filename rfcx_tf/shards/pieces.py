"""A recording's spectrogram and rows -> the pieces that shards store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.shards.records import Crop


def rows_by_recording(
    rows: pd.DataFrame, classes: Sequence[SpeciesClass], recording_ids: Iterable[str]
) -> dict[str, np.ndarray]:
    """The rows of every recording, maybe none: a structured array [rows].

    Few rows at a time cost much less in arrays than in tables.

    Args:
        rows: rows of all recordings, with recording_id, species_id, t_min, t_max and present.
        classes: the species, in the order of the model's outputs.
        recording_ids: recordings that get an entry, even if they have no row.

    Returns:
        Arrays whose fields are the columns of `rows`, and `class_index`.
    """
    class_index = {c.species_id: i for i, c in enumerate(classes)}
    rows = rows.assign(class_index=rows["species_id"].map(class_index))
    records = np.asarray(rows.to_records(index=False))
    places = rows.groupby("recording_id").indices
    none = np.empty(0, np.intp)
    return {name: records[places.get(name, none)] for name in recording_ids}


def stored_piece(
    spectrogram: np.ndarray,
    rows: np.ndarray,
    complete: np.ndarray,
    start_frame: int,
    config: Config,
    **entries,
) -> Crop:
    """The piece that begins at a frame, with all rows that touch it.

    Args:
        spectrogram: the whole recording [frames, bands].
        rows: rows of the recording, see `rows_by_recording`.
        complete: int64 [classes], see `labels.complete.complete_mask`.
        start_frame: first frame of the piece.
        config: the recipe.
        entries: the other attributes of `Crop`, which say what it was cut for.
    """
    end, frame_s = start_frame + config.stored_frames, config.frontend.frame_s
    touching = rows[(rows["t_max"] > start_frame * frame_s) & (rows["t_min"] < end * frame_s)]
    return Crop(
        # A copy, for the spectrogram may lie in a file that goes away.
        spectrogram=np.array(spectrogram[start_frame:end], np.float16),
        start_frame=start_frame,
        box_times_s=np.stack([touching["t_min"], touching["t_max"]], axis=1).astype(np.float32),
        box_classes=touching["class_index"].astype(np.int64),
        box_present=touching["present"].astype(np.int64),
        complete=complete if complete.any() else None,
        **entries,
    )


def random_of(recording_id: str, seed: int) -> np.random.Generator:
    """Random numbers for one recording, whichever others there are."""
    name_seed = int.from_bytes(hashlib.sha256(recording_id.encode()).digest()[:4], "big")
    return np.random.default_rng([seed, name_seed])
