"""Figures of merit for scores [rows, classes] against labels [rows, classes]; NumPy only.

Ranks are counted inside a row, from 1 for the highest score. The rank of a class is the number
of scores in its row at or above its own, so tied scores share the *worst* of their ranks: a
wrong class with the same score counts against the right one, and a constant score earns no
more than a last place. That is the rule of scikit-learn's
`label_ranking_average_precision_score` (`rankdata(..., "max")`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

SMALLEST_PROBABILITY = 1e-7


def lwlrap(truth: ArrayLike, scores: ArrayLike) -> float:
    """Label-weighted label-ranking average precision, the metric of the competition.

    The mean, over all pairs of a row i and a class c that is truly in it, of

        precision(i, c) = (true classes of i ranked at or above c) / rank(i, c)

    so a row counts as often as it has classes, and rows without any are left out. Only the
    order of the scores inside a row matters.

    Args:
        truth: [recordings, classes], true where the class is in the recording.
        scores: [recordings, classes], higher for more certain; any scale.

    Returns:
        A value in (0, 1], 1 where every true class is ranked above every other; NaN where
        nothing is true.

    Raises:
        ValueError: if the shapes differ or a score is NaN, which has no rank.

    Reference:
        Fonseca et al. 2019, "Audio tagging with noisy labels and minimal supervision"
        (DCASE 2019 task 2, where the metric was introduced).
    """
    precision, _ = _pair_precisions(truth, scores)
    return _mean(precision)


def lwlrap_per_class(truth: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """LWLRAP taken apart by class; arguments and errors are those of `lwlrap`.

    Returns:
        precision [classes], the mean of precision(i, c) over the rows that c is in (NaN where
        there are none), and weight [classes], the class's share of all positives. LWLRAP is
        the sum of weight * precision over the classes that have positives.
    """
    precision, classes = _pair_precisions(truth, scores)
    n_classes = np.shape(truth)[1]
    positives = np.bincount(classes, minlength=n_classes)
    total = np.bincount(classes, weights=precision, minlength=n_classes)
    mean = np.full(n_classes, np.nan)
    np.divide(total, positives, out=mean, where=positives > 0)
    return mean, positives / max(1, len(classes))


def chance_lwlrap(truth: ArrayLike) -> float:
    """LWLRAP that random scores (no ties) reach on average, exactly.

    A true class of a row with k true classes out of C has any rank r with probability 1 / C,
    and the k - 1 others lie anywhere among the C - 1 other ranks. With H_C = sum over r of 1/r,

        E[precision] = 1/C sum over r of (1 + (r - 1) (k - 1) / (C - 1)) / r
                     = 1/C (H_C + (k - 1) / (C - 1) (C - H_C))

    Args:
        truth: [recordings, classes], true where the class is in the recording.

    Returns:
        A value in (0, 1]; NaN where nothing is true.
    """
    truth = np.asarray(truth, bool)
    n_classes = truth.shape[1]
    harmonic = np.sum(1 / np.arange(1, n_classes + 1))
    true_classes = truth.sum(axis=1)
    share_of_others = (true_classes - 1) / max(1, n_classes - 1)
    expected = (harmonic + share_of_others * (n_classes - harmonic)) / n_classes
    return _mean(np.repeat(expected, true_classes))


def single_label_lrap(target: ArrayLike, probability: ArrayLike) -> float:
    """The write-up's LRAP on TP crops: the mean of 1 / rank over the present labels.

    It takes every crop to hold exactly one label, so every other class counts as wrong, a
    second known-present one too: 1 is reached only where the label comes first.

    Args:
        target: [crops, classes], true where the class is known to be present; crops without
            any are left out.
        probability: [crops, classes]; only the order inside a crop matters.

    Returns:
        A value in (0, 1]; NaN where nothing is present.

    Raises:
        ValueError: if the shapes differ or a probability is NaN.
    """
    target, probability = _checked(target, probability)
    crops, classes = np.nonzero(target)
    ranks = _at_or_above(probability, crops, classes).sum(axis=1)
    return _mean(1 / ranks)


def masked_log_loss(target: ArrayLike, known: ArrayLike, probability: ArrayLike) -> float:
    """Mean binary log loss (natural logarithm) over the known labels.

        -mean(target ln p + (1 - target) ln(1 - p)),  p clipped to [1e-7, 1 - 1e-7]

    Args:
        target: [..., classes], 1 for present, 0 for absent; ignored where not known.
        known: same shape, true where the label is known.
        probability: same shape, in [0, 1].

    Returns:
        Nats per label; NaN where nothing is known.
    """
    known = np.asarray(known, bool)
    target = np.asarray(target, float)[known]
    probability = np.asarray(probability, float)[known]
    probability = np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _mean(-(target * np.log(probability) + (1 - target) * np.log1p(-probability)))


def tp_log_loss(target: ArrayLike, known: ArrayLike, probability: ArrayLike) -> float:
    """`masked_log_loss` over the known-present labels alone."""
    present = np.asarray(known, bool) & np.asarray(target, bool)
    return masked_log_loss(target, present, probability)


def fp_log_loss(target: ArrayLike, known: ArrayLike, probability: ArrayLike) -> float:
    """`masked_log_loss` over the known-absent labels alone."""
    absent = np.asarray(known, bool) & ~np.asarray(target, bool)
    return masked_log_loss(target, absent, probability)


def _pair_precisions(truth: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """precision(i, c) [pairs] of every true class of every row, and its class c [pairs]."""
    truth, scores = _checked(truth, scores)
    rows, classes = np.nonzero(truth)
    at_or_above = _at_or_above(scores, rows, classes)
    precision = (at_or_above & truth[rows]).sum(axis=1) / at_or_above.sum(axis=1)
    return precision, classes


def _at_or_above(scores: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """[pairs, classes]: which classes of the pair's row score at least what its class does."""
    return scores[rows] >= scores[rows, classes][:, None]


def _checked(truth: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(truth, bool), np.asarray(scores)
    if truth.ndim != 2 or truth.shape != scores.shape:
        raise ValueError(
            "Labels and scores must have one shape [rows, classes]. "
            f"Received: {truth.shape} and {scores.shape}."
        )
    if np.isnan(scores).any():
        row, column = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"Scores must not be NaN. Received one at row {row}, class {column}.")
    return truth, scores


def _mean(values: np.ndarray) -> float:
    """NaN for no values, without NumPy's warning."""
    return float(np.mean(values)) if len(values) else float("nan")
