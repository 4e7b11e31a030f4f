"""Out-of-fold tables of one or several runs -> labels and scores of what all of them held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.crop_table import label_matrix, read_crops
from rfcx_tf.runs.kept import OOF_SCORES, of_run
from rfcx_tf.runs.open import Run, check_classes
from rfcx_tf.scoring.ensemble_weights import combine_scores, member_names
from rfcx_tf.scoring.score_table import read_scores

# Lines of two runs that agree in these are of one crop. Lines of one run that do are told apart by
# their order, which is that of the annotations.
_CROP = ["recording_id", "kind", "species_id", "t_min", "t_max"]
# Parts into which recordings are dealt where there are no folds to leave out.
_PARTS = 5


@dataclass(frozen=True)
class HeldOut:
    """What runs predicted for crops and recordings that all of them held out.

    Attributes:
        columns, names: of the classes, s<species_id> and species.
        members: of every run: run (name of its folder), weight, folds (finished ones).
        crops: DataFrame recording_id, kind, species_id, fold; a row a crop.
        present, absent: bool [crops, classes], where all runs know the same label.
        member_scores: [runs, crops, classes].
        scores: [crops, classes], their weighted mean.
        member_recordings: [runs, recordings, classes], scores of whole recordings.
        recordings: DataFrame recording_id and a column a class, their weighted mean.
        left_out_crops: by run, crops that another run did not hold out.
        left_out_labels: labels that some runs know and others do not, or know otherwise.
    """

    columns: list[str]
    names: list[str]
    members: list[dict]
    crops: pd.DataFrame
    present: np.ndarray
    absent: np.ndarray
    member_scores: np.ndarray
    scores: np.ndarray
    member_recordings: np.ndarray
    recordings: pd.DataFrame
    left_out_crops: list[int]
    left_out_labels: int


def read_held_out(runs: Sequence[Run], weights: Sequence[float] | None = None) -> HeldOut:
    """Reads and joins the out-of-fold tables of runs.

    Args:
        runs: of the same classes and folds.
        weights: of the runs, with sum 1; None: equal.

    Raises:
        UserError: if classes differ, a table is missing, a recording is in different folds of
            two runs, or the runs have no crop in common.
    """
    check_classes(runs)
    classes = runs[0].info.classes
    columns = [c.column for c in classes]
    weights = [1 / len(runs)] * len(runs) if weights is None else weights
    tables = [read_crops(run) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        _check_folds(runs[0], tables[0], run, table)
    tables = [
        t.assign(copy=t.groupby(_CROP).cumcount()).set_index([*_CROP, "copy"]) for t in tables
    ]
    common = tables[0].index
    for table in tables[1:]:
        common = common[common.isin(table.index)]
    if common.empty:
        raise UserError(
            "Runs are compared on crops that every run held out. There is none that all of "
            f"{', '.join(str(run.path) for run in runs)} did. Finish the same folds of each."
        )
    shared = [table.loc[common] for table in tables]
    present, absent = (
        np.stack([label_matrix(table[name], columns) for table in shared])
        for name in ("present", "absent")
    )
    known = present.all(axis=0) | absent.all(axis=0)
    member_scores = np.stack([table[columns].to_numpy(float) for table in shared])
    scored = [read_scores(of_run(run.path / OOF_SCORES)).set_index("recording_id") for run in runs]
    ids = [name for name in scored[0].index if all(name in table.index for table in scored)]
    member_recordings = np.stack([table.loc[ids, columns].to_numpy(float) for table in scored])
    recordings = pd.DataFrame(combine_scores(member_recordings, weights), columns=columns)
    recordings.insert(0, "recording_id", ids)
    return HeldOut(
        columns=columns,
        names=[c.name for c in classes],
        members=[
            {"run": name, "weight": round(float(weight), 4), "folds": sorted(run.finished_folds)}
            for name, weight, run in zip(
                member_names([run.path for run in runs]), weights, runs, strict=True
            )
        ],
        crops=shared[0].reset_index()[["recording_id", "kind", "species_id", "fold"]],
        present=present.all(axis=0),
        absent=absent.all(axis=0),
        member_scores=member_scores,
        scores=combine_scores(member_scores, weights),
        member_recordings=member_recordings,
        recordings=recordings,
        left_out_crops=[len(table) - len(common) for table in tables],
        left_out_labels=int(((present | absent).any(axis=0) & ~known).sum()),
    )


def parts_to_leave_out(crops: pd.DataFrame) -> tuple[np.ndarray, str]:
    """The part [crops] that every crop is left out with, and what a part is.

    Args:
        crops: DataFrame recording_id, fold.

    Raises:
        UserError: if there is one recording.
    """
    folds = crops["fold"].to_numpy()
    if len(np.unique(folds)) > 1:
        return folds, "fold"
    _, recording = np.unique(crops["recording_id"].to_numpy(str), return_inverse=True)
    if recording.max() == 0:
        raise UserError(
            "A fit is made on some recordings and tried on others. Only one was held out, "
            f"{crops['recording_id'].iloc[0]}. Finish more folds."
        )
    return recording % _PARTS, f"part of the recordings (of {min(_PARTS, recording.max() + 1)})"


def _check_folds(first: Run, one: pd.DataFrame, second: Run, other: pd.DataFrame) -> None:
    fold_of = one.drop_duplicates("recording_id").set_index("recording_id")["fold"]
    expected = other["recording_id"].map(fold_of).fillna(other["fold"])
    moved = other[expected != other["fold"]]
    if len(moved):
        recording, fold = moved.iloc[0][["recording_id", "fold"]]
        raise UserError(
            f"Runs must have the same folds. {recording} is in fold {fold_of[recording]} "
            f"of {first.path} and in fold {fold} of {second.path}. Train with the same "
            "training.folds and training.fold_seed."
        )
