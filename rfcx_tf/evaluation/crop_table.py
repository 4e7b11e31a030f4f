"""Held-out crops with what is known of them and what was predicted: `oof_crops.csv`.

Columns: recording_id, fold, kind, species_id, t_min, t_max of an annotated row; present and
absent, the species ids that are known in its crop, separated by `;`; s<id>, probabilities;
species, the name of species_id; then, of networks that find boxes, what was found of that species
in the crop (`FOUND` of `rfcx_tf.evaluation.box_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.box_fit import FOUND
from rfcx_tf.runs.kept import OOF_CROPS, of_run
from rfcx_tf.runs.open import Run

_ROW = ["recording_id", "fold", "kind", "species_id", "t_min", "t_max"]


def crop_table(
    rows: pd.DataFrame,
    classes: Sequence[SpeciesClass],
    target: np.ndarray,
    known: np.ndarray,
    probability: np.ndarray,
    found: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Joins lines of an index with the labels and predictions of their crops.

    Args:
        rows: lines of a shards' index.
        classes: the species, in the order of the arrays.
        target: [crops, classes], 1 where the class is known to be present.
        known: [crops, classes], 1 where the label is known.
        probability: [crops, classes].
        found: of `found_boxes`, a line a crop; None: no boxes.
    """
    species = np.array([c.species_id for c in classes])
    table = rows[_ROW].reset_index(drop=True)
    known = known > 0
    for name, mask in (("present", known & (target > 0)), ("absent", known & (target == 0))):
        table[name] = [";".join(map(str, species[crop])) for crop in mask]
    probabilities = pd.DataFrame(probability, columns=[c.column for c in classes])
    names = {c.species_id: c.name for c in classes}
    species_name = table["species_id"].map(names).fillna("").rename("species")
    return pd.concat([table, probabilities, species_name, found], axis=1)


def write_crops(table: pd.DataFrame, path: Path) -> None:
    """Writes such a table in one step."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")


def read_crops(run: Run) -> pd.DataFrame:
    """The table of a run's finished folds; `present`, `absent`, `t_min` and `t_max` as text.

    Equal times are written equally, and text compares exactly. What folds of earlier versions did
    not keep is NaN.

    Raises:
        UserError: if no fold is finished, or the table is missing or damaged.
    """
    path = run.path / OOF_CROPS
    if not run.finished_folds or not path.exists():
        raise UserError(
            "A run needs at least one finished fold, and oof_crops.csv of what that held out. "
            f"{run.path} has {'no oof_crops.csv' if run.finished_folds else 'none'}. Train it to "
            "its end."
        )
    as_text = ("recording_id", "kind", "t_min", "t_max", "present", "absent")
    table = pd.read_csv(of_run(path), dtype=dict.fromkeys(as_text, str), keep_default_na=False)
    kept = [name for name in FOUND if name in table]
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in kept})


def label_matrix(cells: pd.Series, columns: list[str]) -> np.ndarray:
    """Bool [crops, classes] from cells such as `3;17` and columns such as s3."""
    named = cells.str.get_dummies(";").add_prefix("s")
    return named.reindex(columns=columns, fill_value=0).to_numpy(bool)
