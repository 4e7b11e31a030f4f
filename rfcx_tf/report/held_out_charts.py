"""Known labels and scores of what was held out -> charts of how good the scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from rfcx_tf.evaluation.calibration_figure import CLASS_BINS, plot_reliability
from rfcx_tf.evaluation.calibration_report import calibration_error
from rfcx_tf.evaluation.held_out import HeldOut
from rfcx_tf.evaluation.precision_recall import PrecisionRecall
from rfcx_tf.report.charts import (
    LINES,
    QUIET,
    Chart,
    add_legend,
    line_style,
    name_axes,
    new_chart,
    small_chart,
    svg,
)

_HISTORY = {
    "loss": "Training loss",
    "val_tp_log_loss": "Held-out TP log loss",
    "val_fp_log_loss": "Held-out FP log loss",
    "val_lrap": "Held-out LRAP",
    "val_event_f1": "Held-out event F1",
    "val_median_iou": "Held-out IoU in time, median",
}


def precision_recall_charts(
    curves: Sequence[PrecisionRecall | None], names: Sequence[str]
) -> list[Chart]:
    """A small chart of every class that has a curve."""
    charts = []
    for curve, name in zip(curves, names, strict=True):
        if curve is None:
            continue
        axis = small_chart()
        chance = curve.present / curve.known
        axis.plot([0, 1], [chance, chance], clip_on=False, **line_style(1))
        # Between two thresholds precision is that of the lower one: what average precision sums.
        axis.step(curve.recall, curve.precision, where="post", clip_on=False, **line_style(0))
        average = f"{curve.average_precision:.3f}"
        said = f"Precision by recall of {name}: average precision {average}, by chance {chance:.3f}"
        words = f"AP {average}, {curve.present} of {curve.known}"
        charts.append((name, words, svg(axis.figure, said)))
    return charts


def reliability_chart(held_out: HeldOut, kinds: Mapping[str, np.ndarray]) -> Markup:
    """A reliability diagram of all classes together.

    Args:
        held_out: with their known labels.
        kinds: scores or probabilities [crops, classes] by their name.
    """
    known = held_out.present | held_out.absent
    target = held_out.present[known]
    axis = new_chart(340, 320, top=56, below=36)
    curves = [
        (f"{name} (ECE {calibration_error(target, values[known]):.3f})", colour, values[known])
        for colour, (name, values) in zip(LINES, kinds.items(), strict=False)
    ]
    plot_reliability(axis, target, curves, diagonal=QUIET)
    name_axes(axis, "score or probability", "share present")
    add_legend(axis, loc="lower left", bbox_to_anchor=(-0.02, 1.08))
    said = "Share of labels that are present, by score or probability, all species"
    return svg(axis.figure, said)


def class_reliability_charts(held_out: HeldOut, kinds: Mapping[str, np.ndarray]) -> list[Chart]:
    """A small reliability diagram of every class with known labels; as `reliability_chart`."""
    charts = []
    for c, name in enumerate(held_out.names):
        own = held_out.present[:, c] | held_out.absent[:, c]
        if own.any():
            axis = small_chart()
            curves = [
                ("", colour, values[own, c])
                for colour, values in zip(LINES, kinds.values(), strict=False)
            ]
            target = held_out.present[own, c]
            plot_reliability(axis, target, curves, bins=CLASS_BINS, largest_dot=60, diagonal=QUIET)
            charts.append((name, "", svg(axis.figure, f"Reliability of {name}")))
    return charts


def history_charts(histories: Mapping[int, pd.DataFrame]) -> list[Chart]:
    """A chart of every figure of epochs, with a line for every fold.

    Args:
        histories: a fold's rows of history.csv, by fold.
    """
    charts = []
    for key, title in _HISTORY.items():
        of = {k: h[["epoch", key]].dropna() for k, h in histories.items() if key in h}
        of = {k: h for k, h in of.items() if len(h)}
        if not of:
            continue
        axis = new_chart(340, 250, top=28, below=36)
        for fold, history in of.items():
            axis.plot(history["epoch"], history[key], label=f"fold {fold}", **line_style(fold))
        lowest, highest = axis.get_ylim()
        axis.set(xlim=(0, None), ylim=(min(lowest, 0), highest))
        name_axes(axis, "epoch")
        add_legend(axis, loc="lower right", bbox_to_anchor=(1.02, 1), ncols=5)
        last = ", ".join(f"{h[key].iloc[-1]:.3f}" for h in of.values())
        said = f"{title} by epoch. At the last epoch of every fold: {last}"
        charts.append((title, "", svg(axis.figure, said)))
    return charts
