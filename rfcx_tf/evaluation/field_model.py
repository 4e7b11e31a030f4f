"""Judged events and their scores -> how likely an event of a score is right, with its uncertainty.

The model is the logistic regression of ecology's score calibrations (Wood & Kahl 2024), of all
species together:

    logit P(right) = value + slope * (logit(score) - middle),   value and slope of the species

A species has few verdicts, so its line is drawn towards a common one, by a normal prior of
`DEVIATION_SD`; one without verdicts has the common line. Verdicts count by the inverse of their
probability to be in the sample (Horvitz & Thompson 1952).

Uncertainty is that of draws: every draw weighs whole recordings anew, by exponential weights
(the Bayesian bootstrap of Rubin 1981, on clusters, since calls of one recording resemble each
other), moves the prior's centres by its own spread and fits again. The second is what keeps a
species without verdicts uncertain. The third is that the curve need not be a
logistic one all along: every part of the scores has an offset from the line (`part_offsets`), and
its own verdicts say how large it may be.

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
from threadpoolctl import threadpool_limits

# Tables of events have six digits: closer to 0 or 1 no score is known.
_NEAREST = 1e-6
# Priors of slope and value in the middle, in logits: the slope is about that of scores that mean
# what they say; the value may be anything. Species differ from the common line.
LINE, LINE_SD = np.array([1.0, 0.0]), np.array([1.0, 5.0])
DEVIATION_SD = np.array([0.6, 1.5])
# Of the offset of a part of the scores, in logits, and the offsets that are tried.
_OFFSET_SD, _OFFSETS = 1.0, np.linspace(-6, 6, 121)
# A higher score never means less.
_LEAST_SLOPE = 0.05
_STEPS, _DONE = 60, 1e-6


@dataclass(frozen=True)
class FieldModel:
    """Lines of the draws.

    Attributes:
        lines: float [draws, classes, 2]: slope, above 0, and value at `middle`.
        middle: the logit of a score that lies in the middle of the verdicts.
    """

    lines: np.ndarray
    middle: float

    def draws(
        self, logits: np.ndarray, column: int, offsets: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Probability of every draw that events of a class are right.

        Args:
            logits: of their scores, [events].
            column: number of the class.
            offsets: from the line, in logits, [draws, events].

        Returns:
            float [draws, events].
        """
        return expit(self._on_lines(logits, np.full(len(logits), column)) + offsets)

    def part_offsets(
        self,
        logits: np.ndarray,
        right: np.ndarray,
        column: np.ndarray,
        random: np.random.Generator,
    ) -> np.ndarray:
        """How far a part of the scores lies off the lines, in logits, by its verdicts.

        Without verdicts that is the prior, normal with a deviation of one logit.

        Args:
            logits: of the scores of these verdicts, [verdicts].
            right: bool [verdicts].
            column: number of the class, int [verdicts].
            random: chooses one for every draw, by how likely each is.

        Returns:
            float [draws].
        """
        margins = self._on_lines(logits, column)[:, np.newaxis] + _OFFSETS[:, np.newaxis]
        likely = -np.logaddexp(0, np.where(right, -1, 1) * margins).sum(axis=2)
        likely -= (_OFFSETS / _OFFSET_SD) ** 2 / 2
        share = np.cumsum(np.exp(likely - likely.max(axis=1, keepdims=True)), axis=1)
        chance = random.random((len(share), 1)) * share[:, -1:]
        return _OFFSETS[(share < chance).sum(axis=1)]

    def _on_lines(self, logits: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Logits of the probabilities of the draws, [draws, events]."""
        slope, value = self.lines[:, column, 0], self.lines[:, column, 1]
        return slope * (logits - self.middle) + value


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
    line_centre = LINE + random.normal(size=(draws, 2)) * LINE_SD
    centre = random.normal(size=(draws, classes, 2)) * DEVIATION_SD
    middle = float(np.median(logits))
    x = np.stack([logits - middle, np.ones_like(logits)], axis=1)
    # Several threads only wait for each other, on a busy machine a hundred times as long.
    with threadpool_limits(1, "blas"):
        line, deviation = most_probable(x, right, column, weights, line_centre, centre)
    lines = line[:, None] + deviation
    lines[..., 0] = np.maximum(lines[..., 0], _LEAST_SLOPE)
    return FieldModel(lines, middle)


def most_probable(
    x: np.ndarray,
    right: np.ndarray,
    column: np.ndarray,
    weights: np.ndarray,
    line_centre: np.ndarray,
    centre: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable common line and deviations of the classes from it, for every draw.

    The minimum of the sum over verdicts of weight * log loss of sigmoid(x . (line + deviation of
    the class)), and of half the squared distances from the centres, in standard deviations of
    the priors. It is unique. Newton's steps find it; deviations of a class touch only its own
    verdicts, so that the Hessian is inverted in blocks of two.

    Args:
        x: what lines multiply, [verdicts, 2].
        right: bool [verdicts].
        column: of the class, int [verdicts].
        weights: [draws, verdicts].
        line_centre: of the prior, [draws, 2].
        centre: of the deviations' prior, [draws, classes, 2].

    Returns:
        Lines [draws, 2] and deviations [draws, classes, 2].
    """
    member = np.eye(centre.shape[1])[column]
    products = np.einsum("ni,nj,nc->ncij", x, x, member)
    own_x = np.einsum("ni,nc->nci", x, member)
    line_precision, precision = LINE_SD**-2.0, DEVIATION_SD**-2.0

    def margins(line: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return np.einsum("ni,dni->dn", x, (line[:, None] + deviation)[:, column])

    def loss(line: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        likely = np.logaddexp(0, np.where(right, -1, 1) * margins(line, deviation))
        prior = (line_precision * (line - line_centre) ** 2).sum(axis=1)
        prior += (precision * (deviation - centre) ** 2).sum(axis=(1, 2))
        return (weights * likely).sum(axis=1) + prior / 2

    line, deviation = np.broadcast_to(LINE, line_centre.shape), np.zeros_like(centre)
    lowest, part = loss(line, deviation), np.ones(len(line))
    for _ in range(_STEPS):
        probability = expit(margins(line, deviation))
        residual = weights * (probability - right)
        curvature = weights * probability * (1 - probability)
        slope = np.tensordot(residual, own_x, 1)
        slope_line = slope.sum(axis=1) + line_precision * (line - line_centre)
        slope = slope + precision * (deviation - centre)
        shared = np.tensordot(curvature, products, 1)
        inverse = np.linalg.inv(shared + np.diag(precision))
        carried = shared @ inverse
        block = (shared - carried @ shared).sum(axis=1) + np.diag(line_precision)
        rest = slope_line - np.einsum("dcij,dcj->di", carried, slope)
        step_line = np.linalg.solve(block, rest[..., None])[..., 0]
        step = slope - np.einsum("dcij,dj->dci", shared, step_line)
        step = np.einsum("dcij,dcj->dci", inverse, step)
        if max(np.abs(step_line).max(), np.abs(step).max()) < _DONE:
            break
        # A whole step can go too far: of a draw whose loss it does not lower, a quarter is next.
        next_line = line - part[:, None] * step_line
        next_deviation = deviation - part[:, None, None] * step
        found = loss(next_line, next_deviation)
        lower = found <= lowest
        line = np.where(lower[:, None], next_line, line)
        deviation = np.where(lower[:, None, None], next_deviation, deviation)
        lowest, part = np.where(lower, found, lowest), np.where(lower, 1.0, part / 4)
    return line, deviation
