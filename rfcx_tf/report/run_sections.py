"""Figures of a run -> the sections of its page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import yaml

from rfcx_tf.report.charts import Axis, Line, legend, line_chart
from rfcx_tf.report.data_table import Column, data_table
from rfcx_tf.report.markup import Html, element, join
from rfcx_tf.report.page import Section, tiles
from rfcx_tf.report.precision_recall import draw_curves
from rfcx_tf.report.reliability_charts import reliability_charts
from rfcx_tf.report.run_measures import RunMeasures
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.run import RunFolder

_MONITORS = [
    Column("fold", "Fold"),
    Column("tp_crops", "TP crops"),
    Column("fp_crops", "FP crops"),
    Column("tp_log_loss", "TP log loss", "of labels that are known to be present, nats", 3),
    Column("fp_log_loss", "FP log loss", "of labels that are known to be absent, nats", 3),
    Column("lrap", "LRAP", "mean reciprocal rank of the present species of TP crops", 3),
    Column("epochs", "Epochs", digits=0),
    Column("seconds", "Seconds", "of training", 0),
]
_SPECIES = [
    Column("name", "Species"),
    Column("class", "Class"),
    Column("average_precision", "AP", "average precision over held-out crops, present of known", 3),
    Column("lwlrap", "LWLRAP", "mean precision in the ranking of the recordings it is in", 3),
    Column("recording_ap", "AP, recordings", "average precision over held-out recordings", 3),
    Column("roc_auc", "ROC AUC", "over held-out recordings", 3),
    Column("positives", "Recordings", "held-out recordings that the truth has it in"),
    Column("tp", "TP rows", "annotated boxes with the species"),
    Column("fp", "FP rows", "annotated boxes without it"),
    Column("present", "Present", "crops that are known to hold it"),
    Column("absent", "Absent", "crops that are known not to"),
    Column("threshold", "Threshold", "probability from which it counts as detected", 3),
    Column("precision", "Precision", "at the threshold, out of fold; dash: nothing detected", 3),
    Column("recall", "Recall", "at the threshold, out of fold", 3),
    Column("ece", "ECE", "expected calibration error of its probabilities, out of fold", 3),
]
_HISTORY = {
    "loss": "Training loss",
    "val_tp_log_loss": "Held-out TP log loss",
    "val_fp_log_loss": "Held-out FP log loss",
    "val_lrap": "Held-out LRAP",
}


def run_sections(run: RunFolder | ListenerRun, measures: RunMeasures) -> list[Section]:
    """The sections of a run, in the order of a page."""
    sections = [
        Section("held-out", "Held-out figures", _summary(run, measures)),
        Section("held-out-species", "Species, held out", _species(measures)),
        Section("reliability", "Reliability", reliability_charts(measures)),
        Section("precision-recall", "Precision and recall", _precision_recall(measures)),
    ]
    if measures.histories:
        sections.append(Section("training", "Training", _training(measures.histories)))
    return [*sections, Section("configuration", "Configuration", _configuration(run))]


def shown_columns(columns: Sequence[Column], rows: pd.DataFrame) -> list[Column]:
    """Those of the columns that a table has."""
    return [column for column in columns if column.key in rows]


def _summary(run: RunFolder | ListenerRun, measures: RunMeasures) -> Html:
    total, recordings = measures.evaluation.crops.iloc[-1], measures.evaluation.recordings
    folds = len(measures.evaluation.crops) - 1
    planned = run.info.folds if isinstance(run, ListenerRun) else run.config.training.folds
    figures = [
        ("Folds finished", f"{folds} of {planned}", ""),
        ("Species", str(len(run.info.classes)), ""),
        (
            "Held-out recordings",
            str(len(measures.crops.recordings)),
            f"{total['tp_crops']} TP and {total['fp_crops']} FP crops",
        ),
        ("TP log loss", f"{total['tp_log_loss']:.3f}", "of known-present labels"),
        ("FP log loss", f"{total['fp_log_loss']:.3f}", "of known-absent labels"),
        ("LRAP", f"{total['lrap']:.3f}", "present species of TP crops"),
        (
            "Mean AP",
            f"{measures.species['average_precision'].mean():.3f}",
            "crops, over species",
        ),
    ]
    if recordings is not None:
        remark = f"{recordings.recordings} recordings; chance {recordings.chance:.3f}"
        figures.insert(0, ("LWLRAP", f"{recordings.lwlrap:.3f}", remark))
    parts = [
        tiles(figures),
        data_table(
            "folds",
            "Held-out crops by fold",
            measures.folds,
            shown_columns(_MONITORS, measures.folds),
        ),
        *(element("p", text, class_="quiet") for text in measures.remarks),
    ]
    return join(parts)


def _species(measures: RunMeasures) -> Html:
    return data_table(
        "species",
        f"{len(measures.species)} species, on what their folds did not see",
        measures.species,
        shown_columns(_SPECIES, measures.species),
        filter_label="Filter by species",
        filter_keys=("name", "class"),
    )


def _precision_recall(measures: RunMeasures) -> Html:
    without = [n for n, c in zip(measures.crops.names, measures.curves, strict=True) if c is None]
    words = (
        "Precision (upwards) by recall, over the held-out crops whose label is known. AP is "
        "average precision, then how many labels of how many are present. The dashed line is "
        "chance."
    )
    if without:
        words += f" Never present or never absent, so without a curve: {', '.join(without)}."
    return join([element("p", words), draw_curves(measures.curves)])


def _training(histories: dict[int, pd.DataFrame]) -> Html:
    figures = []
    for key, title in _HISTORY.items():
        of = {k: h[["epoch", key]].dropna() for k, h in histories.items() if key in h}
        of = {k: h for k, h in of.items() if len(h)}
        if not of:
            continue
        values = np.concatenate([h[key] for h in of.values()])
        epochs = max(h["epoch"].max() for h in of.values())
        y = Axis(min(values.min(), 0.0), max(values.max(), 1e-6)).up_to_tick()
        lines = [Line("", h["epoch"], h[key], k) for k, h in of.items()]
        last = ", ".join(f"{h[key].iloc[-1]:.3f}" for h in of.values())
        name = f"{title} by epoch. At the last epoch of every fold: {last}"
        chart = line_chart(lines, name, Axis(0, max(epochs, 1), "epoch"), y)
        figures.append(element("figure", element("figcaption", element("strong", title)), chart))
    folds = legend([(f"fold {k}", k) for k in histories])
    return join([folds, element("div", *figures, class_="charts")])


def _configuration(run: RunFolder | ListenerRun) -> Html:
    info = run.info
    facts = {
        "Run": run.path.name,
        "Command": info.command,
        "Shards": f"{info.tfrecords} ({info.shards_id})",
        "Versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }
    if isinstance(run, ListenerRun):
        facts["Model"] = f"{info.model} ({info.model_hash[:16]})"
    else:
        facts["Crops"] = ", ".join(f"{count} {kind}" for kind, count in info.counts.items())
        facts["Pseudo-labels"], facts["Start"] = info.pseudo, info.start
    listed = [
        join([element("dt", key), element("dd", value)]) for key, value in facts.items() if value
    ]
    text = yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    recipe = element("details", element("summary", "The recipe, every value"), element("pre", text))
    return join([element("dl", *listed, class_="facts"), recipe])
