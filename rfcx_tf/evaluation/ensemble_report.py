"""Out-of-fold predictions of several runs -> weights of an ensemble, and what each run adds.

Weights are fitted on the known labels of crops that every member held out. Figures of fitted
weights come from weights that were fitted on other crops: those of the other folds, or, where
the members have but one fold in common, of other recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.held_out_windows import HeldOutWindows
from rfcx_tf.evaluation.metrics import masked_log_loss, single_label_lrap
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.evaluation.run import label_matrix
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.open import check_classes
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.ensemble import (
    DEFAULT_SHRINKAGE,
    combine_scores,
    fit_weights,
    member_names,
)
from rfcx_tf.scoring.score_table import class_columns, read_scores

# What makes a crop the same one in two runs. Lines that agree in all of it are told apart by
# their order, which is that of the annotations.
_CROP = ["recording_id", "kind", "species_id", "t_min", "t_max"]
# Parts into which recordings are dealt where there are no folds to leave out.
_PARTS = 5


@dataclass(frozen=True)
class HeldOut:
    """What all members predicted for crops and recordings that all of them held out.

    Attributes:
        names: of the members.
        columns: of the classes, s<species_id>.
        crops: DataFrame recording_id, kind, fold; a row a crop.
        target, known: bool [crops, classes]; known where all members know the same label.
        probability: [members, crops, classes].
        recordings: ids of the whole recordings.
        scores: [members, recordings, classes].
        left_out_crops: by member, crops that another member did not hold out.
        left_out_labels: labels that some members know and others do not, or know otherwise.
    """

    names: list[str]
    columns: list[str]
    crops: pd.DataFrame
    target: np.ndarray
    known: np.ndarray
    probability: np.ndarray
    recordings: list[str]
    scores: np.ndarray
    left_out_crops: list[int]
    left_out_labels: int


@dataclass(frozen=True)
class EnsembleReport:
    """Fitted weights and what they are worth.

    Attributes:
        weights: DataFrame member, weight (fitted on all crops), lowest and highest (of the fits
            that leave a part out).
        figures: DataFrame of predictions (which), log_loss (of the known labels, nats),
            lrap (of the present labels of TP crops) and lwlrap (of whole recordings). NaN where
            a figure does not exist.
        chance: LWLRAP of random scores; NaN without truth.
        text: all of it as Markdown.
    """

    weights: pd.DataFrame
    figures: pd.DataFrame
    chance: float
    text: str


def join_members(runs: Sequence[RunFolder | ListenerRun]) -> HeldOut:
    """Joins the out-of-fold tables of runs.

    Raises:
        UserError: if there are fewer than two runs, two have folders of one name, classes
            differ, a table is missing, a recording is in different folds of two runs, or the
            runs have no crop in common.
    """
    names = member_names([run.path for run in runs])
    if len(runs) < 2 or len(set(names)) < len(names):
        raise UserError(
            "An ensemble needs at least two runs, in folders of different names. "
            f"Received: {', '.join(names)}."
        )
    check_classes(runs)
    tables = [_read_crops(run) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        _check_folds(runs[0], tables[0], run, table)
    common = tables[0].index
    for table in tables[1:]:
        common = common[common.isin(table.index)]
    if common.empty:
        raise UserError(
            "Weights are fitted on crops that every run held out. There is none that all of "
            f"{', '.join(str(run.path) for run in runs)} did. Finish the same folds of each."
        )
    columns = class_columns(tables[0])
    shared = [table.loc[common] for table in tables]
    present, absent = (
        np.stack([label_matrix(table[name], columns) for table in shared])
        for name in ("present", "absent")
    )
    known = present.all(axis=0) | absent.all(axis=0)
    scores = [read_scores(run.path / "oof_scores.csv").set_index("recording_id") for run in runs]
    recordings = [r for r in scores[0].index if all(r in table.index for table in scores)]
    return HeldOut(
        names=names,
        columns=columns,
        crops=shared[0].reset_index()[["recording_id", "kind", "fold"]],
        target=present.all(axis=0),
        known=known,
        probability=np.stack([table[columns].to_numpy(float) for table in shared]),
        recordings=recordings,
        scores=np.stack([table.loc[recordings, columns].to_numpy(float) for table in scores]),
        left_out_crops=[len(table) - len(common) for table in tables],
        left_out_labels=int(((present | absent).any(axis=0) & ~known).sum()),
    )


def report_ensemble(
    held_out: HeldOut,
    truth: pd.DataFrame | None = None,
    shrinkage: float = DEFAULT_SHRINKAGE,
    windows: HeldOutWindows | None = None,
) -> EnsembleReport:
    """Fits the weights and evaluates each member, the ensemble, and the ensemble without each.

    Args:
        held_out: predictions of the members.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only. Recordings
            that were not held out by all are left out.
        shrinkage: of `fit_weights`.
        windows: of the same recordings, to try the rule `window`.

    Raises:
        UserError: if nothing is known of the crops, or the truth has other classes or none of
            the recordings.
    """
    if not held_out.known.any():
        raise UserError(
            "Weights are fitted on known labels. Those of the "
            f"{len(held_out.crops)} crops in common differ from run to run or are not known."
        )
    if truth is not None:
        truth = truth[truth["recording_id"].isin(held_out.recordings)]
        if truth.empty:
            raise UserError(
                "The truth must name recordings that every run held out. It names none of the "
                f"{len(held_out.recordings)}: {first_few(held_out.recordings)}."
            )
    everyone = list(range(len(held_out.names)))
    parts, part_name = parts_to_leave_out(held_out.crops)
    fits = _FoldedFit(held_out, parts, everyone, shrinkage)
    rows = []

    def add(predictions: str, probability: np.ndarray, scores: np.ndarray):
        figures = _figures(held_out, truth, probability, scores)
        rows.append({"predictions": predictions, **figures})

    def add_equal(predictions: str, members: list[int]):
        weights = [1 / len(members)] * len(members)
        add(
            predictions,
            combine_scores(held_out.probability[members], weights),
            combine_scores(held_out.scores[members], weights),
        )

    for member, name in enumerate(held_out.names):
        add_equal(f"{name} alone", [member])
    # Without one of two, the other is alone.
    for member, name in enumerate(held_out.names if len(everyone) > 2 else []):
        others = [m for m in everyone if m != member]
        add_equal(f"without {name}, equal weights", others)
        without = _FoldedFit(held_out, parts, others, shrinkage)
        add(f"without {name}, fitted weights", without.probability, without.scores)
    add_equal("all, equal weights", everyone)
    add("all, fitted weights", fits.probability, fits.scores)
    if windows is not None:
        # A crop is one window: of crops the figures are those of the mean.
        shape = len(held_out.recordings), len(everyone)
        equal = np.full(shape, 1 / len(everyone))
        for kind, probability, weights in (
            ("equal", held_out.probability.mean(axis=0), equal),
            ("fitted", fits.probability, fits.weights_of_recordings),
        ):
            scores = windows.scores(held_out.recordings, weights)
            add(f"all, {kind} weights of windows", probability, scores)
    add(
        "all, weights fitted on the same crops (flattered)",
        np.tensordot(fits.weights, held_out.probability, 1),
        np.tensordot(fits.weights, held_out.scores, 1),
    )
    weights = pd.DataFrame(
        {
            "member": held_out.names,
            "weight": fits.weights,
            "lowest": fits.weights_of_parts.min(axis=0),
            "highest": fits.weights_of_parts.max(axis=0),
        }
    )
    figures = pd.DataFrame(rows)
    chance = figures.pop("chance").iloc[0]
    text = _format_report(held_out, weights, figures, chance, part_name, shrinkage)
    return EnsembleReport(weights, figures, chance, text)


def _figures(
    held_out: HeldOut, truth: pd.DataFrame | None, probability: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """Figures of predictions [crops, classes] and [recordings, classes]."""
    is_tp = (held_out.crops["kind"] == "tp").to_numpy()
    lwlrap = chance = float("nan")
    if truth is not None:
        table = pd.DataFrame(scores, columns=held_out.columns)
        table.insert(0, "recording_id", held_out.recordings)
        evaluation = evaluate_scores(table, truth)
        lwlrap, chance = evaluation.lwlrap, evaluation.chance
    return {
        "log_loss": masked_log_loss(held_out.target, held_out.known, probability),
        "lrap": single_label_lrap(held_out.target[is_tp], probability[is_tp]),
        "lwlrap": lwlrap,
        "chance": chance,
    }


class _FoldedFit:
    """Weights fitted on all crops, and predictions with weights fitted on other crops.

    Attributes:
        weights: [members], of all crops.
        weights_of_parts: [parts, members], each of all crops but those of the part.
        weights_of_recordings: [recordings, members], of the part that each is in.
        probability: [crops, classes]; scores: [recordings, classes]; both with the weights of
            the part that they are in.
    """

    def __init__(self, held_out: HeldOut, parts: np.ndarray, members: list[int], shrinkage: float):
        target, known = held_out.target, held_out.known
        probability, scores = held_out.probability[members], held_out.scores[members]

        def fit(crops: np.ndarray) -> np.ndarray:
            return fit_weights(target[crops], known[crops], probability[:, crops], shrinkage)

        self.weights = fit(np.full(len(parts), True))
        self.weights_of_parts = np.stack([fit(parts != part) for part in np.unique(parts)])
        _, part_of_crop = np.unique(parts, return_inverse=True)
        weights = self.weights_of_parts[part_of_crop]
        self.probability = np.einsum("im,mic->ic", weights, probability)
        # A recording without crops was in no fit, so that of all crops is as honest as any.
        own = dict(zip(held_out.crops["recording_id"], weights, strict=True))
        self.weights_of_recordings = np.stack(
            [own.get(r, self.weights) for r in held_out.recordings]
        )
        self.scores = np.einsum("im,mic->ic", self.weights_of_recordings, scores)


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


def _read_crops(run: RunFolder | ListenerRun) -> pd.DataFrame:
    """The table of a run's held-out crops, indexed by what makes a crop the same one."""
    try:
        table = pd.read_csv(
            run.path / "oof_crops.csv",
            # Times as text: equal numbers are written equally, and text compares exactly.
            dtype=dict.fromkeys([*_CROP, "present", "absent"], str),
            keep_default_na=False,
        )
    except OSError:
        raise UserError(
            f"A member needs at least one finished fold. {run.path} has no oof_crops.csv. Train "
            "it to its end."
        ) from None
    return table.assign(copy=table.groupby(_CROP).cumcount()).set_index([*_CROP, "copy"])


def _check_folds(
    first: RunFolder | ListenerRun,
    one: pd.DataFrame,
    second: RunFolder | ListenerRun,
    other: pd.DataFrame,
):
    fold_of = dict(zip(one.index.get_level_values("recording_id"), one["fold"], strict=True))
    for recording, fold in zip(
        other.index.get_level_values("recording_id"), other["fold"], strict=True
    ):
        if fold_of.get(recording, fold) != fold:
            raise UserError(
                f"Members must have the same folds. {recording} is in fold {fold_of[recording]} "
                f"of {first.path} and in fold {fold} of {second.path}. Train with the same "
                "training.folds and training.fold_seed."
            )


def _format_report(
    held_out: HeldOut,
    weights: pd.DataFrame,
    figures: pd.DataFrame,
    chance: float,
    part_name: str,
    shrinkage: float,
) -> str:
    folds = ", ".join(map(str, sorted(held_out.crops["fold"].unique())))
    present = int((held_out.known & held_out.target).sum())
    left_out = ", ".join(
        f"{count} of {name}"
        for name, count in zip(held_out.names, held_out.left_out_crops, strict=True)
    )
    losses = figures.set_index("predictions")["log_loss"]
    gain = losses["all, equal weights"] - losses["all, fitted weights"]
    if np.isnan(chance):
        figures = figures.drop(columns="lwlrap")
    lines = [
        f"# Ensemble of {', '.join(held_out.names)}",
        "",
        f"Crops that every member held out: {len(held_out.crops)} of "
        f"{held_out.crops['recording_id'].nunique()} recordings, fold(s) {folds}; left out: "
        f"{left_out}. Known labels: {present} present, {int(held_out.known.sum()) - present} "
        f"absent; left out because members do not agree on them: {held_out.left_out_labels}.",
        "",
        *markdown_table(weights),
        "",
        f"Weights of the masked log loss of the weighted mean probability, with shrinkage "
        f"{shrinkage:g} nats a label towards equal weights. Lowest and highest: of the fits that "
        f"leave out one {part_name}.",
        "",
        *markdown_table(figures),
        "",
        "`log_loss`: nats per known label of the crops, lower is better. `lrap`: mean reciprocal "
        "rank of the present labels of TP crops.",
        f"Fitted weights are tried on what they were not fitted on: one {part_name} at a time is "
        "left out of the fit. The flattered line is what the weights in use show on the crops "
        "that they were fitted on.",
        f"On crops left out of the fit, fitted weights are {abs(gain):.5f} nats a label "
        f"{'better' if gain > 0 else 'worse'} than equal ones.",
        "A member whose epoch was chosen by a monitor of these crops is flattered by that choice.",
    ]
    if not np.isnan(chance):
        lines.append(
            f"`lwlrap`: of {len(held_out.recordings)} held-out recordings, as far as the truth "
            f"lists them; chance {chance:.4f}. The truth took no part in any fit."
        )
    return "\n".join(lines) + "\n"


def markdown_table(table: pd.DataFrame) -> list[str]:
    """Markdown lines, floats with four digits."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.4f}"
        return str(value)

    lines = [table.columns, ["---"] * len(table.columns)]
    lines += [map(cell, row) for row in table.itertuples(index=False)]
    return [f"| {' | '.join(line)} |" for line in lines]
