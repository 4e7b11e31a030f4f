"""Where a fold goes wrong, class by class: one figure from its held-out crops."""

from __future__ import annotations

import numpy as np

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.precision_recall import precision_recall
from rfcx_tf.frontend.picture import figure_png

_PRESENT, _ABSENT = "#009E73", "#D55E00"


def outranked_by(present: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """What ranks first in crops that hold a class: [classes, classes], rows add up to one.

    Entry (c, k) is the share of the crops with class c in which k has the highest probability;
    the diagonal is the share of first places of the right class. NaN rows have no crop. A
    class that is really there too, but was not marked, counts as outranking.
    """
    first = probability.argmax(axis=1)
    classes = present.shape[1]
    counts = present.T.astype(int) @ np.eye(classes, dtype=int)[first]
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def draw_diagnosis(
    present: np.ndarray, known: np.ndarray, probability: np.ndarray, classes: list[SpeciesClass]
) -> bytes:
    """Draws average precision by class, what outranks it, and its TP and FP scores.

    Args:
        present, known: bool [crops, classes].
        probability: [crops, classes].
        classes: the species.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    count = len(classes)
    names = [c.name for c in classes]
    position = np.arange(count)
    figure = Figure(figsize=(17, max(4.0, 1.5 + 0.28 * count)), layout="constrained")
    bars, matrix, scores = figure.subplots(1, 3)
    curves = precision_recall(present, known, probability)
    precision = [0.0 if curve is None else curve.average_precision for curve in curves]
    bars.barh(position, precision, color=_PRESENT)
    bars.set(xlim=(0, 1), title="average precision, TP against FP crops")
    share = outranked_by(present, probability)
    image = matrix.imshow(share, vmin=0, vmax=1, cmap="magma", aspect="auto")
    figure.colorbar(image, ax=matrix, shrink=0.6)
    matrix.set_xticks(position, names, rotation=90, fontsize=8)
    matrix.set_title("in crops of the row's class, this ranks first")
    for c in range(count):
        for kind, colour, offset in ((present, _PRESENT, -0.15), (~present, _ABSENT, 0.15)):
            own = probability[known[:, c] & kind[:, c], c]
            scores.plot(own, np.full(len(own), c + offset), "|", color=colour, alpha=0.5)
    scores.set(xlim=(0, 1), title="scores of TP (green) and FP crops (orange)")
    for axis in (bars, matrix, scores):
        axis.set_yticks(position, names, fontsize=8)
        axis.set_ylim(count - 0.5, -0.5)
    return figure_png(figure)
