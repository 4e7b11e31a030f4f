"""Scores of recordings against their complete truth -> LWLRAP, overall and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.species import check_same_columns
from rfcx_tf.evaluation.metrics import chance_lwlrap, lwlrap, lwlrap_per_class
from rfcx_tf.scoring.score_table import class_columns


@dataclass(frozen=True)
class Evaluation:
    """How well scores agree with the truth.

    Attributes:
        lwlrap: label-weighted label-ranking average precision, in (0, 1].
        chance: what random scores reach on the same truth.
        per_class: one row a class, in the truth's order; columns: class (s<id>), name (only if
            names were given), positives (recordings that it is in), lwlrap (its mean precision
            in the ranking of those recordings), average_precision and roc_auc (over recordings).
            NaN without positives, or for roc_auc without negatives.
        recordings: recordings in the truth, all of them scored.
        silent_recordings: those of them with no class present, which LWLRAP leaves out.
        ignored_recordings: scored recordings that the truth does not list.
    """

    lwlrap: float
    chance: float
    per_class: pd.DataFrame
    recordings: int
    silent_recordings: int
    ignored_recordings: int

    @property
    def table(self) -> pd.DataFrame:
        """`per_class` and a last row `all`: LWLRAP, and plain means over classes of the rest."""
        overall = {
            "class": "all",
            "name": "",
            "positives": self.per_class["positives"].sum(),
            "lwlrap": self.lwlrap,
            "average_precision": self.per_class["average_precision"].mean(),
            "roc_auc": self.per_class["roc_auc"].mean(),
        }
        row = pd.DataFrame([overall])[self.per_class.columns]
        return pd.concat([self.per_class, row], ignore_index=True)


def evaluate_scores(
    scores: pd.DataFrame, truth: pd.DataFrame, names: Mapping[str, str] | None = None
) -> Evaluation:
    """Compares scores with truth, matched by recording_id and by class column.

    Args:
        scores: recording_id and s<id> columns of finite numbers.
        truth: recording_id and s<id> columns of 0/1, complete: 0 means absent, not unknown.
        names: species names by class column, such as {"s0": "Eleutherodactylus coqui"}.

    Raises:
        UserError: if the classes differ, a recording of the truth has no scores, or the truth
            names no species at all.
    """
    columns = class_columns(truth)
    check_same_columns(
        "Scores and truth must have the same classes.",
        *("the truth", columns, "the scores", class_columns(scores)),
    )
    recordings = pd.Index(truth["recording_id"])
    unscored = recordings.difference(scores["recording_id"], sort=False)
    if len(unscored):
        raise UserError(
            "Every recording of the truth must have scores. "
            f"Without: {first_few(unscored)}; predict those too, or take them out of the truth."
        )
    present = truth[columns].to_numpy(bool)
    if not present.any():
        raise UserError(
            "LWLRAP needs a species that is present somewhere. The truth has none in "
            f"{len(truth)} recordings; check its columns."
        )
    values = scores.set_index("recording_id").reindex(recordings)[columns].to_numpy(float)
    pairs = list(zip(present.T, values.T, strict=True))
    per_class = pd.DataFrame(
        {
            "class": columns,
            "positives": present.sum(axis=0),
            "lwlrap": lwlrap_per_class(present, values)[0],
            "average_precision": [
                average_precision_score(p, v) if p.any() else np.nan for p, v in pairs
            ],
            "roc_auc": [
                roc_auc_score(p, v) if p.any() and not p.all() else np.nan for p, v in pairs
            ],
        }
    )
    if names is not None:
        per_class.insert(1, "name", [names.get(column, "") for column in columns])
    return Evaluation(
        lwlrap=lwlrap(present, values),
        chance=chance_lwlrap(present),
        per_class=per_class,
        recordings=len(truth),
        silent_recordings=int((~present.any(axis=1)).sum()),
        ignored_recordings=int((~scores["recording_id"].isin(recordings)).sum()),
    )


def truth_of_recordings(truth: pd.DataFrame, recordings: pd.Series) -> pd.DataFrame:
    """The lines of a truth that are of some recordings, which were held out.

    Raises:
        UserError: if there is none.
    """
    kept = truth[truth["recording_id"].isin(recordings)]
    if kept.empty:
        raise UserError(
            "The truth must name recordings that were held out. It names none of the "
            f"{first_few(recordings)}."
        )
    return kept


def format_evaluation(evaluation: Evaluation) -> str:
    """Text for a terminal: the overall figures, then the classes, worst LWLRAP first."""
    table = evaluation.table
    classes, overall = table[:-1].sort_values("lwlrap", kind="stable"), table[-1:]
    table = pd.concat([classes, overall])
    # pandas aligns an index to the left and columns to the right, as names and numbers want it.
    labels = [column for column in ("class", "name") if column in table]
    width = table["class"].str.len().max() + 2
    table.index = [" ".join([row[0].ljust(width), *row[1:]]) for row in table[labels].to_numpy()]
    text = table.drop(columns=labels).to_string(float_format="{:.4f}".format, na_rep="-")
    return (
        f"LWLRAP {evaluation.lwlrap:.4f} (chance {evaluation.chance:.4f})\n"
        f"{evaluation.recordings} recordings, {evaluation.silent_recordings} of them without any "
        f"species (not in LWLRAP); {evaluation.ignored_recordings} scored ones without truth "
        f"(ignored)\n\nWorst classes first:\n{text}"
    )
