"""Out-of-fold predictions of several runs -> weights of an ensemble, and what each run adds.

Weights are fitted on the known labels of crops that every member held out. Figures of fitted
weights come from weights that were fitted on other crops: those of the other folds, or, where
the members have but one fold in common, of other recordings.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.held_out import HeldOut, parts_to_leave_out
from rfcx_tf.evaluation.held_out_windows import HeldOutWindows
from rfcx_tf.evaluation.markdown_table import markdown_table
from rfcx_tf.evaluation.metrics import (
    SMALLEST_PROBABILITY,
    masked_log_loss,
    single_label_lrap,
)
from rfcx_tf.evaluation.recordings import evaluate_scores

DEFAULT_SHRINKAGE = 0.01


def fit_weights(
    target: ArrayLike,
    known: ArrayLike,
    probability: ArrayLike,
    shrinkage: float = DEFAULT_SHRINKAGE,
) -> np.ndarray:
    """Weights w of the members that minimise, over w >= 0 with sum 1,

        masked log loss of sum_m w_m p_m  +  shrinkage * |w - 1/M|^2 / (1 - 1/M)

    The loss is convex in w and the second term strictly so: there is one minimum. The second
    term is 0 for equal weights and `shrinkage` for one of the M members alone, so that many
    nats a label must be gained before all others are given up. Members that are equal, and
    labels that say nothing, get equal weights.

    Args:
        target: bool [crops, classes], true for present; ignored where not known.
        known: bool [crops, classes], true where the label is known.
        probability: [members, crops, classes], in [0, 1].
        shrinkage: towards equal weights, in nats a label.

    Returns:
        float64 [members].
    """
    target, known = np.asarray(target, bool), np.asarray(known, bool)
    probability = np.asarray(probability, float)[:, known]
    # What each member gives to the truth; with weights that sum to 1 their mean does likewise.
    given = np.where(target[known], probability, 1 - probability)
    given = np.maximum(given, SMALLEST_PROBABILITY)
    members, labels = given.shape
    equal = np.full(members, 1 / members)
    if members == 1 or labels == 0:
        return equal
    strength = shrinkage / (1 - 1 / members)

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = weights @ given
        away = weights - equal
        loss = -np.log(mixed).mean() + strength * away @ away
        return loss, -(given / mixed).mean(axis=1) + 2 * strength * away

    found = minimize(
        loss_and_slope,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    )
    weights = np.clip(found.x, 0, 1)
    return weights / weights.sum()


def report_ensemble(
    held_out: HeldOut,
    truth: pd.DataFrame | None = None,
    shrinkage: float = DEFAULT_SHRINKAGE,
    windows: HeldOutWindows | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Fits the weights and evaluates each member, the ensemble, and the ensemble without each.

    Args:
        held_out: predictions of the members.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only. Recordings
            that were not held out by all are left out.
        shrinkage: of `fit_weights`.
        windows: of the same recordings, to try the rule `window`.

    Returns:
        weights: DataFrame member, weight (fitted on all crops), lowest and highest (of the fits
            that leave a part out).
        figures: DataFrame of predictions (which), log_loss (of the known labels, nats), lrap
            (of the present labels of TP crops) and, with a truth, lwlrap (of whole recordings).
        text: all of it as Markdown.

    Raises:
        UserError: if there are fewer than two runs or two have folders of one name, nothing is
            known of the crops, or the truth has other classes or none of the recordings.
    """
    names = [member["run"] for member in held_out.members]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            "An ensemble needs at least two runs, in folders of different names. "
            f"Received: {', '.join(names)}."
        )
    recordings = held_out.recordings["recording_id"]
    if truth is not None:
        truth = truth[truth["recording_id"].isin(recordings)]
        if truth.empty:
            raise UserError(
                "The truth must name recordings that every run held out. It names none of the "
                f"{first_few(recordings)}."
            )
    if not (held_out.present.any() or held_out.absent.any()):
        raise UserError(
            f"Weights are fitted on known labels. Those of the {len(held_out.crops)} crops in "
            "common differ from run to run or are not known."
        )
    parts, part_name = parts_to_leave_out(held_out.crops)
    rows = []

    def add(
        predictions: str,
        crop_weights: np.ndarray,
        recording_weights: np.ndarray,
        scores: np.ndarray | None = None,
    ):
        """Adds the figures of weights [members] or [rows, members]."""
        crops = _weighted(held_out.member_scores, crop_weights)
        if scores is None:
            scores = _weighted(held_out.member_recordings, recording_weights)
        rows.append({"predictions": predictions} | _figures(held_out, truth, crops, scores))

    def equal(members: np.ndarray) -> list[np.ndarray]:
        return [members / members.sum()] * 2

    everyone = np.full(len(names), True)
    for name, alone in zip(names, np.eye(len(names), dtype=bool), strict=True):
        add(f"{name} alone", *equal(alone))
    # Without one of two, the other is alone.
    for name, alone in zip(names, np.eye(len(names), dtype=bool), strict=True):
        if len(names) > 2:
            add(f"without {name}, equal weights", *equal(~alone))
            _, *others = _fit_by_part(held_out, parts, ~alone, shrinkage)
            add(f"without {name}, fitted weights", *others)
    add("all, equal weights", *equal(everyone))
    by_part, *fitted = _fit_by_part(held_out, parts, everyone, shrinkage)
    add("all, fitted weights", *fitted)
    if windows is not None:
        # A crop is one window: of crops the figures are those of the mean.
        for kind, (crop_weights, weights) in (("equal", equal(everyone)), ("fitted", fitted)):
            weights = np.broadcast_to(weights, (len(recordings), len(names)))
            scores = windows.scores(recordings, weights)
            add(f"all, {kind} weights of windows", crop_weights, weights, scores)
    whole = _fit(held_out, np.full(len(parts), True), everyone, shrinkage)
    add("all, weights fitted on the same crops (flattered)", whole, whole)
    figures = pd.DataFrame(rows)
    lowest, highest = by_part.min(axis=0), by_part.max(axis=0)
    weights = pd.DataFrame({"member": names, "weight": whole, "lowest": lowest, "highest": highest})
    chance = figures.pop("chance").iloc[0] if truth is not None else None
    text = _format_report(held_out, weights, figures, chance, part_name, shrinkage)
    return weights, figures, text


def _weighted(member_scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[members, rows, classes] by weights [members] or [rows, members] -> [rows, classes]."""
    return np.einsum("...m,m...c->...c", weights, member_scores)


def _figures(
    held_out: HeldOut, truth: pd.DataFrame | None, crops: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """Figures of predictions [crops, classes] and [recordings, classes]."""
    is_tp = (held_out.crops["kind"] == "tp").to_numpy()
    known = held_out.present | held_out.absent
    figures = {
        "log_loss": masked_log_loss(held_out.present, known, crops),
        "lrap": single_label_lrap(held_out.present[is_tp], crops[is_tp]),
    }
    if truth is None:
        return figures
    table = held_out.recordings.assign(**dict(zip(held_out.columns, scores.T, strict=True)))
    evaluation = evaluate_scores(table, truth)
    return figures | {"lwlrap": evaluation.lwlrap, "chance": evaluation.chance}


def _fit(held_out: HeldOut, used: np.ndarray, members: np.ndarray, shrinkage: float) -> np.ndarray:
    """Weights [members] fitted on the crops that are used; 0 for members that are left out."""
    present, known = held_out.present[used], (held_out.present | held_out.absent)[used]
    weights = np.zeros(len(members))
    weights[members] = fit_weights(
        present, known, held_out.member_scores[members][:, used], shrinkage
    )
    return weights


def _fit_by_part(
    held_out: HeldOut, parts: np.ndarray, members: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of fits that leave a part of the crops out.

    Returns:
        [parts, members]; then, each of the fit without its own part, [crops, members] and
        [recordings, members].
    """
    names, part_of_crop = np.unique(parts, return_inverse=True)
    by_part = np.stack([_fit(held_out, parts != part, members, shrinkage) for part in names])
    of_crops = by_part[part_of_crop]
    # A recording without crops was in no fit, so that of all crops is as honest as any.
    whole = _fit(held_out, np.full(len(parts), True), members, shrinkage)
    own = dict(zip(held_out.crops["recording_id"], of_crops, strict=True))
    of_recordings = [own.get(name, whole) for name in held_out.recordings["recording_id"]]
    return by_part, of_crops, np.stack(of_recordings)


def _format_report(
    held_out: HeldOut,
    weights: pd.DataFrame,
    figures: pd.DataFrame,
    chance: float | None,
    part_name: str,
    shrinkage: float,
) -> str:
    folds = ", ".join(map(str, sorted(held_out.crops["fold"].unique())))
    left_out = ", ".join(
        f"{count} of {name}"
        for name, count in zip(weights["member"], held_out.left_out_crops, strict=True)
    )
    losses = figures.set_index("predictions")["log_loss"]
    gain = losses["all, equal weights"] - losses["all, fitted weights"]
    lines = [
        f"# Ensemble of {', '.join(weights['member'])}",
        "",
        f"Crops that every member held out: {len(held_out.crops)} of "
        f"{held_out.crops['recording_id'].nunique()} recordings, fold(s) {folds}; left out: "
        f"{left_out}. Known labels: {held_out.present.sum()} present, {held_out.absent.sum()} "
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
    if chance is not None:
        lines.append(
            f"`lwlrap`: of {len(held_out.recordings)} held-out recordings, as far as the truth "
            f"lists them; chance {chance:.4f}. The truth took no part in any fit."
        )
    return "\n".join(lines) + "\n"
