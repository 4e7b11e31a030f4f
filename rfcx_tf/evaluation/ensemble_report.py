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

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.held_out import HeldOut, parts_to_leave_out
from rfcx_tf.evaluation.held_out_windows import highest_windows
from rfcx_tf.evaluation.markdown_table import markdown_table
from rfcx_tf.evaluation.metrics import SMALLEST_PROBABILITY, masked_log_loss, single_label_lrap
from rfcx_tf.evaluation.recordings import evaluate_scores, truth_of_recordings

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
    # Probabilities of the true labels [members, labels]; those of the ensemble are their mean.
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
    windows: dict[str, np.ndarray] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Fits the weights and evaluates each member, the ensemble, and the ensemble without each.

    Args:
        held_out: predictions of the members.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only. Recordings
            that were not held out by all are left out.
        shrinkage: of `fit_weights`.
        windows: of `held_out_windows`, to try the rule `window` on the truth.

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
    known = held_out.present | held_out.absent
    if not known.any():
        raise UserError(
            f"Weights are fitted on known labels. Those of the {len(known)} crops in common "
            "differ from run to run or are not known."
        )
    recordings = held_out.recordings["recording_id"]
    if truth is not None:
        truth = truth_of_recordings(truth, recordings)
    parts, part_name = parts_to_leave_out(held_out.crops)

    def equal(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (members / members.sum(),) * 2

    # By name, weights of crops and of recordings: [members], or [rows, members].
    alone = dict(zip(names, np.eye(len(names), dtype=bool), strict=True))
    tried = {f"{name} alone": equal(own) for name, own in alone.items()}
    # Without one of two, the other is alone.
    for name, own in alone.items() if len(names) > 2 else ():
        tried[f"without {name}, equal weights"] = equal(~own)
        fitted = _fit_by_part(held_out, parts, ~own, shrinkage)
        tried[f"without {name}, fitted weights"] = fitted[2:]
    everyone = np.full(len(names), True)
    weights, by_part, *fitted = _fit_by_part(held_out, parts, everyone, shrinkage)
    tried["all, equal weights"] = equal(everyone)
    tried["all, fitted weights"] = fitted
    if windows is not None:
        # A crop is one window: of crops the figures are those of the mean.
        tried["all, equal weights of windows"] = equal(everyone)
        tried["all, fitted weights of windows"] = fitted
    tried["all, weights fitted on the same crops (flattered)"] = weights, weights

    is_tp = (held_out.crops["kind"] == "tp").to_numpy()
    rows, chance = [], None
    for predictions, (crop_weights, recording_weights) in tried.items():
        crops = _weighted(held_out.member_scores, crop_weights)
        row = {
            "predictions": predictions,
            "log_loss": masked_log_loss(held_out.present, known, crops),
            "lrap": single_label_lrap(held_out.present[is_tp], crops[is_tp]),
        }
        if truth is not None:
            if predictions.endswith("of windows"):
                scores = highest_windows(windows, recordings, recording_weights)
            else:
                scores = _weighted(held_out.member_recordings, recording_weights)
            table = held_out.recordings.assign(**dict(zip(held_out.columns, scores.T, strict=True)))
            evaluation = evaluate_scores(table, truth)
            row["lwlrap"], chance = evaluation.lwlrap, evaluation.chance
        rows.append(row)
    figures = pd.DataFrame(rows)
    table = pd.DataFrame({"member": names, "weight": weights})
    table["lowest"], table["highest"] = by_part.min(axis=0), by_part.max(axis=0)
    text = _format_report(held_out, table, figures, chance, part_name, shrinkage)
    return table, figures, text


def _weighted(member_scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[members, rows, classes] by weights [members] or [rows, members] -> [rows, classes]."""
    return np.einsum("...m,m...c->...c", weights, member_scores)


def _fit_by_part(
    held_out: HeldOut, parts: np.ndarray, members: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights fitted on all crops [members], 0 for those that are not in `members`.

    Then those of fits that leave a part out: [parts, members], and of the fit without the own part
    [crops, members] and [recordings, members].
    """

    def fit(used: np.ndarray) -> np.ndarray:
        present, known = held_out.present[used], (held_out.present | held_out.absent)[used]
        weights = np.zeros(len(members))
        scores = held_out.member_scores[members][:, used]
        weights[members] = fit_weights(present, known, scores, shrinkage)
        return weights

    names, part_of_crop = np.unique(parts, return_inverse=True)
    by_part = np.stack([fit(parts != part) for part in names])
    of_crops = by_part[part_of_crop]
    # A recording without crops was in no fit, so that of all crops is as honest as any.
    whole = fit(np.full(len(parts), True))
    own = dict(zip(held_out.crops["recording_id"], of_crops, strict=True))
    of_recordings = [own.get(name, whole) for name in held_out.recordings["recording_id"]]
    return whole, by_part, of_crops, np.stack(of_recordings)


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
