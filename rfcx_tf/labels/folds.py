"""Cross-validation folds: every recording in exactly one, species spread evenly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from rfcx_tf.core.errors import UserError


def assign_folds(
    rows: pd.DataFrame, recordings: list[str], folds: int, seed: int
) -> dict[str, int]:
    """Gives every recording a fold, so that no recording is on both sides of a split.

    Args:
        rows: annotations with recording_id, species_id, present. TP and FP rows of a species
            are spread evenly over the folds, as far as whole recordings allow.
        recordings: all recording ids; those without rows are dealt out in turn.
        folds: number of folds.
        seed: of the shuffle.

    Returns:
        Fold number from 0 by recording id.

    Raises:
        UserError: with fewer annotated recordings than folds.
    """
    rows = rows[rows["recording_id"].isin(set(recordings))]
    annotated = rows["recording_id"].nunique()
    if annotated < folds:
        raise UserError(
            f"Each of the {folds} folds needs an annotated recording of its own. Found "
            f"{annotated} annotated recordings. Lower training.folds or add recordings."
        )
    stratum = rows["species_id"].astype(str) + rows["present"].map({True: "tp", False: "fp"})
    codes = stratum.astype("category").cat.codes
    # The splitter warns of (and handles) strata smaller than the number of folds; a common
    # stratum for those rare ones says the same without the warning.
    rare = codes.map(codes.value_counts()) < folds
    codes = codes.where(~rare, -1)
    if rare.sum() < folds:
        codes = codes.where(~rare, codes.mode()[0])
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    ids = rows["recording_id"].to_numpy()
    fold_of: dict[str, int] = {}
    for fold, (_, held_out) in enumerate(splitter.split(ids, codes.to_numpy(), groups=ids)):
        fold_of |= {recording_id: fold for recording_id in ids[held_out]}
    others = sorted(set(recordings) - set(fold_of))
    np.random.default_rng(seed).shuffle(others)
    fold_of |= {recording_id: index % folds for index, recording_id in enumerate(others)}
    return fold_of
