"""Rows of a data folder -> a few sure calls of every species, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

_PER_SPECIES = 5


class Reference(NamedTuple):
    """A call that the data folder marks as present."""

    species_id: int
    recording_id: str
    t_min: float
    t_max: float
    f_min: float
    f_max: float
    file: Path


def reference_calls(rows: pd.DataFrame, recordings: Mapping[str, Path]) -> list[Reference]:
    """The most usual calls of every species: those whose length is nearest to the median.

    Args:
        rows: `Annotations.rows`.
        recordings: sound files by recording_id; rows of others are passed over.

    Returns:
        At most five a species, each of another recording, the most usual first.
    """
    tp = rows[rows["present"] & rows["recording_id"].isin(recordings)]
    length_s = (tp["t_max"] - tp["t_min"]).astype(float)
    median_s = length_s.groupby(tp["species_id"]).transform("median")
    usual = (
        tp.assign(distance=np.abs(np.log(length_s / median_s)))
        .sort_values(["species_id", "distance", "recording_id", "t_min"], kind="stable")
        .drop_duplicates(["species_id", "recording_id"])
        .groupby("species_id")
        .head(_PER_SPECIES)
    )
    box = ["t_min", "t_max", "f_min", "f_max"]
    return [
        Reference(
            int(row.species_id),
            row.recording_id,
            *(float(getattr(row, name)) for name in box),
            recordings[row.recording_id],
        )
        for row in usual.itertuples()
    ]
