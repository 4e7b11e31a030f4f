"""Facts and a recipe -> what every fold will hold out."""

from __future__ import annotations

import pandas as pd

from rfcx_tf.check.facts import Facts
from rfcx_tf.core.config import TrainingConfig
from rfcx_tf.labels.folds import assign_folds


def fold_table(facts: Facts, training: TrainingConfig) -> pd.DataFrame:
    """A line for every fold, as `make-tfrecords` will make them.

    Columns: fold; recordings that are held out, and of them those with rows (annotated); tp, fp
    (rows); without_tp (names of the species of which no TP row is held out); untaught (names of
    those of which all TP rows are held out).

    Raises:
        UserError: as `assign_folds`.
    """
    rows = facts.used_rows
    fold_of = assign_folds(rows, list(facts.recordings), training.folds, training.fold_seed)
    fold = rows["recording_id"].map(fold_of)
    names = dict(zip(facts.species["species_id"], facts.species["name"], strict=True))
    tp = rows[rows["present"]]
    all_species = set(tp["species_id"])
    lines = []
    for number in range(training.folds):
        held_out, others = tp[fold[tp.index] == number], tp[fold[tp.index] != number]
        lines.append(
            {
                "fold": number,
                "recordings": sum(own == number for own in fold_of.values()),
                "annotated": rows.loc[fold == number, "recording_id"].nunique(),
                "tp": len(held_out),
                "fp": int((~rows["present"] & (fold == number)).sum()),
                "without_tp": _named(all_species - set(held_out["species_id"]), names),
                "untaught": _named(all_species - set(others["species_id"]), names),
            }
        )
    return pd.DataFrame(lines)


def _named(ids: set[int], names: dict[int, str]) -> str:
    return ", ".join(names[id_] for id_ in sorted(ids))
