"""Labelled features of all folds -> regressions of each: what listeners and baselines share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from rfcx_tf.core.config import LossConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.model.losses import label_weights
from rfcx_tf.model.regressions import MaskedRegressions, PseudoLabelledRows, fit_regressions
from rfcx_tf.runs.open import Run
from rfcx_tf.shards.records import ShardReader

# In the place of a row number, for windows that are centred on no row.
NO_ROW = -1


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of windows or crops with what is known of them.

    Attributes:
        rows: int64 [windows], number in the shards' index of the row that a window is centred
            on, or NO_ROW.
        folds: int64 [windows], fold of each window's recording.
        features: float32 [windows, features].
        target: float32 [windows, classes], 1 where the class is known to be present.
        known: float32 [windows, classes], 1 where the label is known.
        partly: float32 [windows, classes], 1 where less than half of a call is heard.
    """

    rows: np.ndarray
    folds: np.ndarray
    features: np.ndarray
    target: np.ndarray
    known: np.ndarray
    partly: np.ndarray


def fit_fold(
    labelled: LabelledFeatures,
    held_out: int,
    loss: LossConfig,
    c: float,
    pseudo: PseudoLabelledRows | None = None,
) -> MaskedRegressions:
    """Fits the regressions on the features of all folds but one, and on pseudo-labelled ones.

    Raises:
        UserError: if the other folds have none.
    """
    others = labelled.folds != held_out
    if not others.any():
        raise UserError(
            f"A fold needs crops to train on. Held out fold {held_out}, the others have none. "
            "Make shards with fewer training.folds, or add recordings."
        )
    target = labelled.target[others]
    labels = {
        "target": target,
        "known": labelled.known[others],
        "partly": labelled.partly[others],
        "pseudo": np.zeros(len(target), np.float32),
    }
    weights = keras.ops.convert_to_numpy(label_weights(labels, loss))
    return fit_regressions(labelled.features[others], target, weights, c, pseudo)


def describe_fit(
    fold: int, regressions: MaskedRegressions, classes: Sequence[SpeciesClass], fitted_on: str
) -> str:
    """How many classes were fitted on what, and which were not, in one line."""
    fitted = regressions.fitted
    left_out = [c.name for c, fits in zip(classes, fitted, strict=True) if not fits]
    zero = f"; scored 0: {', '.join(left_out)}" if left_out else ""
    return f"Fold {fold}: fitted {fitted.sum()} of {len(fitted)} classes on {fitted_on}{zero}."


def write_held_out_crops(
    run: Run,
    reader: ShardReader,
    labelled: LabelledFeatures,
    fold: int,
    regressions: MaskedRegressions,
) -> None:
    """Writes what the regressions say of the rows of the fold that they did not see."""
    own = (labelled.folds == fold) & (labelled.rows != NO_ROW)
    table = crop_table(
        reader.index.loc[labelled.rows[own]],
        reader.manifest.classes,
        labelled.target[own],
        labelled.known[own],
        regressions.probability(labelled.features[own]).numpy(),
    )
    write_crops(table, run.fold(fold) / "oof_crops.csv")
