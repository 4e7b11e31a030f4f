"""Known labels and scores of classes -> a precision-recall curve each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve


@dataclass(frozen=True)
class PrecisionRecall:
    """The curve of one class.

    Attributes:
        recall, precision: float [points], from the lowest threshold to the highest.
        average_precision: the area below the curve, in steps.
        present, known: how many labels are.
    """

    recall: np.ndarray
    precision: np.ndarray
    average_precision: float
    present: int
    known: int


def precision_recall(
    present: np.ndarray, known: np.ndarray, scores: np.ndarray
) -> list[PrecisionRecall | None]:
    """A curve for every class; None for one that is never present or never absent.

    Args:
        present, known: bool [rows, classes]; labels that are not known are left out.
        scores: [rows, classes].
    """
    curves = []
    for c in range(present.shape[1]):
        labels, values = present[known[:, c], c], scores[known[:, c], c]
        if not labels.any() or labels.all():
            curves.append(None)
            continue
        precision, recall, _ = precision_recall_curve(labels, values, drop_intermediate=True)
        average = float(average_precision_score(labels, values))
        curves.append(PrecisionRecall(recall, precision, average, int(labels.sum()), len(labels)))
    return curves
