"""Judged events and their scores -> how likely an event of a score is right, with its uncertainty.

The model is the logistic regression of ecology's score calibrations (Wood & Kahl 2024), of all
species together:

    logit P(right) = slope * logit(score) + intercept + deviation of the species

A species has few verdicts, so its deviation is drawn towards 0, by a normal prior of a standard
deviation of `DEVIATION_SD`; one without verdicts has the common line. Verdicts count by the
inverse of their probability to be in the sample (Horvitz & Thompson 1952).

Uncertainty is that of draws: every draw weighs whole recordings anew, by exponential weights
(the Bayesian bootstrap of Rubin 1981, on clusters, since calls of one recording resemble each
other), moves the prior's centres by its own spread and fits again. The second is what keeps a
species without verdicts uncertain.

References:
    Wood & Kahl 2024, "Guidelines for appropriate use of BirdNET scores and other detector
        outputs", Journal of Ornithology 165.
    Rubin 1981, "The Bayesian bootstrap", Annals of Statistics 9.
    Newton & Raftery 1994, "Approximate Bayesian inference with the weighted likelihood
        bootstrap", Journal of the Royal Statistical Society B 56.
    Horvitz & Thompson 1952, "A generalization of sampling without replacement from a finite
        universe", Journal of the American Statistical Association 47.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

# Tables of events have six digits: closer to 0 or 1 no score is known.
_NEAREST = 1e-6
# Priors, in logits: the slope is that of scores that mean what they say, give or take a half.
SLOPE, SLOPE_SD, INTERCEPT_SD, DEVIATION_SD = 1.0, 0.5, 5.0, 1.0
# A higher score never means less.
_LEAST_SLOPE = 0.05
_STEPS, _LONGEST_STEP, _DONE = 60, 2.0, 1e-8


@dataclass(frozen=True)
class FieldModel:
    """Lines of the draws.

    Attributes:
        slope: float [draws], above 0.
        intercept: float [draws, classes].
    """

    slope: np.ndarray
    intercept: np.ndarray

    def draws(self, logits: np.ndarray, column: int) -> np.ndarray:
        """Probability of every draw that events of a class are right.

        Args:
            logits: of their scores, [events].
            column: number of the class.

        Returns:
            float [draws, events].
        """
        return expit(self.slope[:, None] * logits + self.intercept[:, column, None])


def score_logits(scores: np.ndarray) -> np.ndarray:
    """Logits of scores as tables of events hold them, finite."""
    return logit(np.clip(np.asarray(scores, np.float64), _NEAREST, 1 - _NEAREST))


def fit_field_model(
    logits: np.ndarray,
    right: np.ndarray,
    column: np.ndarray,
    recording: np.ndarray,
    weight: np.ndarray,
    classes: int,
    *,
    draws: int = 400,
    seed: int = 0,
) -> FieldModel:
    """Fits the model to judged events.

    Args:
        logits: of their scores, [verdicts].
        right: bool [verdicts].
        column: number of the class, int [verdicts].
        recording: number of the recording, int [verdicts].
        weight: how many events each stands for, [verdicts].
        classes: how many there are.
        draws: how often it is fitted.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    luck = random.exponential(size=(draws, recording.max() + 1))[:, recording]
    weights = luck * weight
    weights *= len(weight) / weights.sum(axis=1, keepdims=True)
    line_centre = np.array([SLOPE, 0.0]) + random.normal(size=(draws, 2)) * [SLOPE_SD, INTERCEPT_SD]
    centre = random.normal(size=(draws, classes)) * DEVIATION_SD
    line, deviation = _maximise(logits, right, column, weights, line_centre, centre)
    return FieldModel(np.maximum(line[:, 0], _LEAST_SLOPE), line[:, 1, None] + deviation)


def _maximise(
    logits: np.ndarray,
    right: np.ndarray,
    column: np.ndarray,
    weights: np.ndarray,
    line_centre: np.ndarray,
    centre: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable line [draws, 2] and deviations [draws, classes] of every draw.

    Newton's steps. Deviations touch their own verdicts only, so their block of the Hessian is
    diagonal and is eliminated.
    """
    x = np.stack([logits, np.ones_like(logits)])
    member = np.eye(centre.shape[1])[column]
    line_precision = np.array([SLOPE_SD, INTERCEPT_SD]) ** -2.0
    precision = DEVIATION_SD**-2.0
    line, deviation = line_centre * [1, 0], np.zeros_like(centre)
    line[:, 0] = SLOPE
    for _ in range(_STEPS):
        probability = expit(line @ x + deviation[:, column])
        residual = weights * (probability - right)
        curvature = weights * probability * (1 - probability)
        slope_line = residual @ x.T + line_precision * (line - line_centre)
        slope = residual @ member + precision * (deviation - centre)
        cross = np.stack([(curvature * row) @ member for row in x], axis=1)
        own = curvature @ member + precision
        block = np.einsum("dn,in,jn->dij", curvature, x, x) + np.diag(line_precision)
        block -= np.einsum("dic,djc->dij", cross / own[:, None], cross)
        rest = slope_line - np.einsum("dic,dc->di", cross, slope / own)
        step_line = np.linalg.solve(block, rest[..., None])[..., 0]
        step = (slope - np.einsum("dic,di->dc", cross, step_line)) / own
        longest = np.maximum(np.abs(step_line).max(axis=1), np.abs(step).max(axis=1))
        shorter = np.minimum(1, _LONGEST_STEP / np.maximum(longest, _DONE))[:, None]
        line, deviation = line - shorter * step_line, deviation - shorter * step
        if longest.max() < _DONE:
            break
    return line, deviation
