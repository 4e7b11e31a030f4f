"""A reliability diagram: how often what has some probability is there, before and after."""

from __future__ import annotations

import io

import numpy as np

from rfcx_tf.evaluation.calibration_fit import HeldOutCrops
from rfcx_tf.evaluation.calibration_report import (
    BINS,
    CalibrationReport,
    calibration_error,
    reliability,
)

# Okabe and Ito's colours, which people with any colour vision tell apart.
_BEFORE, _AFTER = "#D55E00", "#0072B2"
_COLUMNS = 5
# One class has few labels: in more bins its line would be noise.
_CLASS_BINS = 5
# More small panels than this would be too small to read: then the worst classes are drawn.
_MOST_CLASSES = 25


def draw_reliability(crops: HeldOutCrops, report: CalibrationReport) -> bytes:
    """Draws all classes together, counts of the bins, and a small panel a class.

    A point lies at the mean probability of a bin and the share of its labels that are present;
    its area grows with the count. Probabilities are those of fits without the crop's part.

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
    for name, colour, values, offset in (
        ("scores as they are", _BEFORE, crops.scores[known], 0.3),
        ("probabilities, out of fold", _AFTER, report.probability[known], 0.7),
    ):
        bins = reliability(target, values)
        error = calibration_error(target, values)
        _draw_bins(pooled, bins, colour, f"{name} (ECE {error:.3f})", largest=250)
        middle = bins["low"] + offset / BINS
        counts.bar(middle, bins["count"], 0.4 / BINS, color=colour, label=name)
    _diagonal(pooled)
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
        _diagonal(axis)
        for colour, values in ((_BEFORE, crops.scores), (_AFTER, report.probability)):
            bins = reliability(crops.present[own, c], values[own, c], _CLASS_BINS)
            _draw_bins(axis, bins, colour, None, 60)
        row = report.species.iloc[c]
        axis.axvline(row["threshold"], color=_AFTER, linewidth=1, linestyle=":")
        pooled_mark = ", pooled" if row["method"] == "pooled" else ""
        axis.set_title(
            f"{crops.names[c]} ({row['present']} of {own.sum()}{pooled_mark})", fontsize=9
        )
        axis.set_xticks([0, 0.5, 1])
        axis.set_yticks([0, 0.5, 1])
    for axis in panels[len(order) :]:
        axis.set_axis_off()
    bottom.supxlabel("score or probability; dotted: the threshold", fontsize=10)
    bottom.supylabel("share present (present of known labels in brackets)", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _draw_bins(axis, bins, colour: str, label: str | None, largest: float):
    """A line through the bins that hold something; areas grow with their root counts."""
    bins = bins[bins["count"] > 0]
    size = np.maximum(largest * np.sqrt(bins["count"] / bins["count"].max()), 6)
    axis.plot(bins["probability"], bins["present"], color=colour, linewidth=1, alpha=0.7)
    axis.scatter(bins["probability"], bins["present"], s=size, color=colour, alpha=0.7, label=label)


def _diagonal(axis):
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=0)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
