"""Held-out crops' known labels and probabilities -> charts and tables of how reliable they are."""

from __future__ import annotations

import pandas as pd

from rfcx_tf.evaluation.calibration_report import BINS, calibration_error, reliability
from rfcx_tf.report.charts import Axis, Line, line_chart
from rfcx_tf.report.data_table import Column, data_table
from rfcx_tf.report.markup import Html, element, join
from rfcx_tf.report.run_measures import RunMeasures

_CALIBRATION = [
    Column("values", "Values"),
    Column("ece", "ECE", "expected calibration error, all classes together", 3),
    Column("class_ece", "ECE by class", "mean over classes of each one's", 3),
    Column("brier", "Brier", "mean squared error", 4),
    Column("log_loss", "Log loss", "nats a label", 4),
    Column("precision", "Precision", "at the thresholds, all labels together", 3),
    Column("recall", "Recall", "at the thresholds, all labels together", 3),
]
_BINS = [
    Column("bin", "Bin"),
    Column("values", "Values"),
    Column("count", "Labels"),
    Column("probability", "Mean", "score or probability of the labels in the bin", 3),
    Column("present", "Share present", digits=3),
]
# One class has few labels: in more bins its line would be noise.
_CLASS_BINS = 5


def reliability_charts(measures: RunMeasures) -> Html:
    """A reliability diagram of all species together, its numbers, and a small one of each."""
    crops, report = measures.crops, measures.calibration
    known = crops.present | crops.absent
    kinds = [("scores as they are", crops.scores)]
    parts = []
    if report is None:
        parts.append(element("p", f"Scores could not be calibrated. {measures.problem}"))
    else:
        kinds.append(("probabilities, out of fold", report.probability))
    words = (
        f"All {known.sum()} known labels of held-out crops, in {BINS} bins. Dots grow with the "
        "labels in their bin. On the diagonal, what is given a probability of 0.7 is there in 7 "
        "of 10 cases. Candidate boxes of annotators, that is: most windows of a recording hold "
        "none, so fewer detections are right there."
    )
    parts.append(element("p", words))
    lines, bins = [], []
    for style, (name, values) in enumerate(kinds):
        table = reliability(crops.present[known], values[known])
        error = calibration_error(crops.present[known], values[known])
        lines.append(_line(f"{name} (ECE {error:.3f})", table, style))
        bins.append(table.assign(values=name))
    name = "Share of labels that are present, by score or probability, all species"
    x, y = Axis(0, 1, "score or probability"), Axis(0, 1, "share present")
    chart = line_chart(lines[::-1], name, x, y, size=(340, 320), diagonal=True)
    parts.append(element("figure", chart))
    rows = pd.concat(bins, ignore_index=True)
    rows["bin"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(rows.low, rows.high, strict=True)
    ]
    table = data_table("reliability-bins", "Labels by score or probability", rows, _BINS)
    parts.append(element("details", element("summary", "The diagram in numbers"), table))
    if report is not None:
        caption = f"Calibration, thresholds for {report.calibration.wanted}"
        parts.append(data_table("calibration", caption, report.figures, _CALIBRATION))
        parts += [element("p", note, class_="quiet") for note in report.notes]
    small, unit = [], Axis(0, 1, steps=2)
    for c, species in enumerate(crops.names):
        own = known[:, c]
        if not own.any():
            continue
        of_class = [
            _line("", reliability(crops.present[own, c], values[own, c], _CLASS_BINS), style)
            for style, (_, values) in enumerate(kinds)
        ]
        name = f"Reliability of {species}"
        chart = line_chart(of_class[::-1], name, unit, unit, size=(180, 150), diagonal=True)
        small.append(element("figure", element("figcaption", element("strong", species)), chart))
    summary = element("summary", f"Reliability of each species, in {_CLASS_BINS} bins")
    parts.append(element("details", summary, element("div", *small, class_="charts small")))
    return join(parts)


def _line(name: str, bins: pd.DataFrame, style: int) -> Line:
    bins = bins[bins["count"] > 0]
    return Line(name, bins["probability"], bins["present"], style, dots=bins["count"])
