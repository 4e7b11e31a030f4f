"""Known labels and values of crops -> reliability diagrams: the share present by value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rfcx_tf.evaluation.calibration_report import (
    BINS,
    CalibrationReport,
    calibration_error,
    reliability,
)
from rfcx_tf.evaluation.held_out import HeldOut
from rfcx_tf.frontend.picture import figure_png

# One class has few labels: in more bins its line would be noise.
CLASS_BINS = 5
# Okabe and Ito's colours, which people with any colour vision tell apart.
_BEFORE, _AFTER = "#D55E00", "#0072B2"
_COLUMNS = 5
# More small panels than this would be too small to read: then the worst classes are drawn.
_MOST_CLASSES = 25


def plot_reliability(
    axis,
    target: np.ndarray,
    curves: Sequence[tuple[str, str, np.ndarray]],
    *,
    bins: int = BINS,
    largest_dot: float = 250,
    diagonal: str = "0.6",
) -> None:
    """Plots how reliable values are, and a dashed diagonal where both are equal.

    A point lies at the mean value of a bin and the share of its labels that are present; its area
    grows with the root of their count.

    Args:
        axis: matplotlib axes.
        target: bool [labels], true for present.
        curves: label, colour and values [labels] in [0, 1] of each.
        bins: how many.
        largest_dot: area [points^2].
        diagonal: colour.
    """
    axis.plot([0, 1], [0, 1], color=diagonal, linewidth=1, linestyle="--", zorder=0)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    for label, colour, values in curves:
        filled = reliability(target, values, bins).query("count > 0")
        areas = np.maximum(largest_dot * np.sqrt(filled["count"] / filled["count"].max()), 6)
        axis.plot(filled["probability"], filled["present"], color=colour, linewidth=1, alpha=0.7)
        axis.scatter(
            filled["probability"], filled["present"], areas, colour, alpha=0.7, label=label
        )


def draw_reliability(crops: HeldOut, report: CalibrationReport) -> bytes:
    """Draws all classes together, counts of the bins, and a small panel a class.

    Probabilities are those of fits without the crop's part.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    known = crops.present | crops.absent
    order = [c for c in range(len(crops.columns)) if known[:, c].any()]
    if len(order) > _MOST_CLASSES:
        worst = report.species["ece"].to_numpy()
        order = sorted(sorted(order, key=lambda c: -worst[c])[:_MOST_CLASSES])
    rows = -(-len(order) // _COLUMNS)
    figure = Figure(figsize=(13, 5 + 2.3 * rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[5, 2.3 * rows])
    pooled, counts = top.subplots(1, 2)
    target = crops.present[known]
    curves = []
    for name, colour, values, offset in (
        ("scores as they are", _BEFORE, crops.scores[known], 0.3),
        ("probabilities, out of fold", _AFTER, report.probability[known], 0.7),
    ):
        curves.append((f"{name} (ECE {calibration_error(target, values):.3f})", colour, values))
        bins = reliability(target, values)
        middle = bins["low"] + offset / BINS
        counts.bar(middle, bins["count"], 0.4 / BINS, color=colour, label=name)
    plot_reliability(pooled, target, curves)
    pooled.set(
        title=f"all {len(crops.columns)} classes, {known.sum()} labels",
        xlabel="score or probability (mean of the bin)",
        ylabel="share present",
    )
    pooled.legend(loc="upper left", frameon=False)
    counts.set(
        yscale="log",
        ylim=(0.7, None),
        xlim=(0, 1),
        title="labels in each bin",
        xlabel="score or probability",
        ylabel="labels",
    )
    counts.legend(loc="upper right", frameon=False)
    panels = bottom.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, c in zip(panels, order, strict=False):
        own = known[:, c]
        curves = [
            ("", colour, values[own, c])
            for colour, values in ((_BEFORE, crops.scores), (_AFTER, report.probability))
        ]
        plot_reliability(axis, crops.present[own, c], curves, bins=CLASS_BINS, largest_dot=60)
        row = report.species.iloc[c]
        axis.axvline(row["threshold"], color=_AFTER, linewidth=1, linestyle=":")
        pooled_mark = ", pooled" if row["method"] == "pooled" else ""
        axis.set_title(
            f"{crops.names[c]} ({row['present']} of {own.sum()}{pooled_mark})", fontsize=9
        )
    for axis in panels[len(order) :]:
        axis.set_axis_off()
    bottom.supxlabel("score or probability; dotted: the threshold", fontsize=10)
    bottom.supylabel("share present (present of known labels in brackets)", fontsize=10)
    return figure_png(figure)
