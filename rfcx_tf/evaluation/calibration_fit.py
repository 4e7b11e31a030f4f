"""Scores of held-out annotated crops -> a calibration: maps to probabilities, and thresholds.

The rows of a class are the held-out crops whose label of it is known, present or absent. A crop
knows the label of every annotated box that lies in it, so a box counts in each crop that it is
in, at various places of the window, as the windows of a recording have it. Its score is that of
the one fold that held it out; of a new recording the folds' scores are averaged, which spreads
them less.

A map is Platt's: logit of the probability = slope * logit of the score + intercept of the class.
One slope serves all classes, since a slope for every class was worse on crops of other folds.
Intercepts are drawn towards each other. A class with too few rows has the map of all classes
together (method `pooled`). Isotonic regression was worse than both on crops of other folds.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.held_out import HeldOut
from rfcx_tf.evaluation.metrics import SMALLEST_PROBABILITY
from rfcx_tf.evaluation.thresholds import Wanted, choose_threshold
from rfcx_tf.scoring.calibration import LARGEST_LOGIT, Calibration, map_scores

# Fewer known present or known absent labels than this are too few for a map of their own.
FEWEST_ROWS = 10
# 1 takes labels to be independent. Here one box is known in about four crops. On other folds of
# two runs all from 10 to 100 was better than 1.
SHRINKAGE = 10.0


def fit_platt(
    scores: np.ndarray, present: np.ndarray, absent: np.ndarray, shrinkage: float
) -> tuple[float, np.ndarray]:
    """Platt scaling of the logits z of scores: slope a, common intercept b, deviations d_c.

    The minimum, over the labels that are known present or absent, of

        sum of log loss of sigmoid(a z + b + d_c)  +  shrinkage / 2 (a^2 + sum over c of d_c^2)

    A class has few known labels, so its intercept is shrunk towards the common one, and the
    slope is not its own. The penalty of the slope is small beside hundreds of labels; it keeps
    the slope finite where present and absent are fully apart. The minimum is unique.

    Args:
        scores: [rows, classes], in [0, 1].
        present, absent: bool [rows, classes], the known labels.
        shrinkage: above 0. 1 takes log odds to differ by about 1 between classes.

    Returns:
        The slope, above 0, and the intercepts b + d_c [classes].

    Raises:
        UserError: if nothing is known present or nothing absent, or higher scores do not mean
            presence.

    Reference:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """
    if not (present.any() and absent.any()):
        raise UserError(
            "A calibration needs labels that are known to be present and labels that are known "
            f"to be absent. Held out were {present.sum()} present and {absent.sum()} absent ones. "
            "Where the data has no such rows, have people judge what the model hears (rfcx-tf "
            "predict --results, rfcx-tf review serve) and train on what they say, or list "
            "recordings in which all calls are marked in complete.csv of the data. Where it has "
            "some, finish more folds."
        )
    known = present | absent
    logits, sign = logits_of(scores[known]), np.where(present[known], 1.0, -1.0)
    column = np.nonzero(known)[1]
    classes = known.shape[1]

    def loss_and_slope(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, common, deviations = parameters[0], parameters[1], parameters[2:]
        margin = sign * (slope * logits + common + deviations[column])
        residual = -sign * expit(-margin)
        penalty = shrinkage / 2 * (slope**2 + deviations @ deviations)
        by_class = np.bincount(column, residual, classes) + shrinkage * deviations
        gradient = [residual @ logits + shrinkage * slope, residual.sum(), *by_class]
        return np.logaddexp(0, -margin).sum() + penalty, np.array(gradient)

    found = minimize(
        loss_and_slope,
        np.zeros(2 + classes),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 10_000, "maxfun": 100_000},
    ).x
    if found[0] <= 0:
        raise UserError(
            "Scores must be higher where a species is present. Of what was held out they are "
            f"not (the slope of their calibration is {found[0]:.3g}, by {present.sum()} present "
            f"and {absent.sum()} absent labels). Finish more folds, have more events judged, or "
            "train longer."
        )
    return float(found[0]), found[1] + found[2:]


def logits_of(scores: np.ndarray) -> np.ndarray:
    """The logits that `fit_platt` fits on, finite."""
    return logit(np.clip(scores, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))


def fit_calibration(
    held_out: HeldOut, wanted: Wanted, used: np.ndarray | slice = slice(None)
) -> Calibration:
    """Fits a map and chooses a threshold for every class.

    Args:
        held_out: the crops.
        wanted: what the thresholds are for.
        used: bool [crops], those that are fitted on.

    Raises:
        UserError: as `fit_platt`.
    """
    scores, present, absent = (
        values[used] for values in (held_out.scores, held_out.present, held_out.absent)
    )
    known = present | absent
    counts = np.stack([present.sum(axis=0), absent.sum(axis=0)])
    is_pooled = counts.min(axis=0) < FEWEST_ROWS
    every_class = (values[known][:, np.newaxis] for values in (scores, present, absent))
    pooled_slope, pooled_intercept = fit_platt(*every_class, SHRINKAGE)
    slope, intercepts = fit_platt(scores, present, absent, SHRINKAGE)
    # A straight line has two knots, at its ends.
    x = np.tile([-LARGEST_LOGIT, LARGEST_LOGIT], (len(is_pooled), 1))
    y = np.where(is_pooled, pooled_slope, slope)[:, np.newaxis] * x
    y += np.where(is_pooled, pooled_intercept, intercepts)[:, np.newaxis]
    x, y = np.float32(x), np.float32(y)
    thresholds, rows = np.empty(len(x), np.float32), []
    for c, name in enumerate(held_out.names):
        notes = []
        if is_pooled[c]:
            notes.append(
                f"fewer than {FEWEST_ROWS} present or absent labels: map and threshold are those "
                "of all classes together"
            )
        own = scores[known] if is_pooled[c] else scores[known[:, c], c]
        probability = map_scores(own, x[c], y[c])
        thresholds[c], reached = choose_threshold(probability, wanted)
        if not reached:
            notes.append(
                f"no held-out crop has a probability of {wanted.value:g} (highest "
                f"{probability.max():.3f}), so no threshold has the wanted {wanted}: it is "
                f"{wanted.value:g} itself, which none of these crops reaches"
            )
        rows.append(
            {
                "name": name,
                "method": "pooled" if is_pooled[c] else "platt",
                "present": int(counts[0, c]),
                "absent": int(counts[1, c]),
                "note": "; ".join(notes),
            }
        )
    return Calibration(held_out.columns, x, y, thresholds, rows, str(wanted), held_out.members)
