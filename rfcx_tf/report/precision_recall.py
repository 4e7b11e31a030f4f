"""Known labels and scores of classes -> a precision-recall curve each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from rfcx_tf.report.charts import Axis, Line, line_chart
from rfcx_tf.report.markup import Html, element


@dataclass(frozen=True)
class PrecisionRecall:
    """The curve of one class.

    Attributes:
        name: of the class.
        recall, precision: float [points], from the lowest threshold to the highest.
        average_precision: the area below the curve, in steps.
        present, known: labels.
    """

    name: str
    recall: np.ndarray
    precision: np.ndarray
    average_precision: float
    present: int
    known: int


def precision_recall(
    present: np.ndarray, known: np.ndarray, scores: np.ndarray, names: Sequence[str]
) -> list[PrecisionRecall | None]:
    """A curve for every class; None for one that is never present or never absent.

    Args:
        present, known: bool [rows, classes]; labels that are not known are left out.
        scores: [rows, classes].
        names: of the classes.
    """
    curves = []
    for c, name in enumerate(names):
        labels, values = present[known[:, c], c], scores[known[:, c], c]
        if not labels.any() or labels.all():
            curves.append(None)
            continue
        precision, recall, _ = precision_recall_curve(labels, values, drop_intermediate=True)
        average = float(average_precision_score(labels, values))
        curves.append(
            PrecisionRecall(name, recall, precision, average, int(labels.sum()), len(labels))
        )
    return curves


def draw_curves(curves: Sequence[PrecisionRecall | None]) -> Html:
    """A small chart for every class that has a curve."""
    figures = []
    for curve in curves:
        if curve is None:
            continue
        # Between two thresholds precision is that of the lower one: what average precision sums.
        steps = Line("", np.repeat(curve.recall, 2)[1:], np.repeat(curve.precision, 2)[:-1])
        chance = curve.present / curve.known
        base = Line("", [0, 1], [chance, chance], style=1)
        name = (
            f"Precision by recall of {curve.name}: average precision "
            f"{curve.average_precision:.3f}, by chance {chance:.3f}"
        )
        unit = Axis(0, 1, steps=2)
        words = f"AP {curve.average_precision:.3f}, {curve.present} of {curve.known}"
        caption = element("figcaption", element("strong", curve.name), element("br"), words)
        chart = line_chart([base, steps], name, unit, unit, size=(180, 150))
        figures.append(element("figure", caption, chart))
    return element("div", *figures, class_="charts small")
