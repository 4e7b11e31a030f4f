"""A run folder -> the sections of its page: what its folds did not see, training, configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.calibration_figure import CLASS_BINS, plot_reliability
from rfcx_tf.evaluation.calibration_fit import HeldOutCrops, read_crops
from rfcx_tf.evaluation.calibration_report import (
    BINS,
    CalibrationReport,
    calibration_error,
    reliability,
    report_calibration,
)
from rfcx_tf.evaluation.precision_recall import PrecisionRecall, precision_recall
from rfcx_tf.evaluation.run import RunEvaluation, evaluate_run, read_held_out_crops
from rfcx_tf.evaluation.thresholds import parse_wanted
from rfcx_tf.report.charts import (
    LINES,
    QUIET,
    add_legend,
    line_style,
    name_axes,
    new_chart,
    small_chart,
    svg,
)
from rfcx_tf.report.page import Column, Section, data_table, render
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import read_calibration

_FOLDS = [
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
_HISTORY = {
    "loss": "Training loss",
    "val_tp_log_loss": "Held-out TP log loss",
    "val_fp_log_loss": "Held-out FP log loss",
    "val_lrap": "Held-out LRAP",
}


def run_sections(run: RunFolder | ListenerRun, truth: pd.DataFrame | None = None) -> list[Section]:
    """The sections of a run, in the order of a page.

    Args:
        run: with at least one finished fold.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only.

    Raises:
        UserError: if no fold is finished, a table is missing, or the truth does not fit.
    """
    # First, since it says in words which table is missing.
    crops = read_crops([run], [1.0])
    evaluation = evaluate_run(run, truth)
    calibration, problem = _calibration_report(run, crops, truth)
    curves = precision_recall(crops.present, crops.present | crops.absent, crops.scores)
    species = _species(run, crops, curves, calibration, evaluation)
    sections = [
        Section("held-out", "Held-out figures", _held_out(run, crops, evaluation, species)),
        Section(
            "held-out-species",
            "Species, held out",
            data_table(
                "species",
                f"{len(species)} species, on what their folds did not see",
                species,
                _SPECIES,
                filter_label="Filter by species",
                filter_keys=("name", "class"),
            ),
        ),
        Section("reliability", "Reliability", _reliability(crops, calibration, problem)),
        Section(
            "precision-recall",
            "Precision and recall",
            render(
                "precision_recall.html",
                of="the held-out crops whose label is known",
                counted="labels",
                figures=precision_recall_charts(curves, crops.names),
                without=[n for n, c in zip(crops.names, curves, strict=True) if c is None],
            ),
        ),
    ]
    figures = _history_charts(run)
    if figures:
        sections.append(Section("training", "Training", render("charts.html", figures=figures)))
    return [*sections, Section("configuration", "Configuration", _configuration(run))]


def precision_recall_charts(
    curves: Sequence[PrecisionRecall | None], names: Sequence[str]
) -> list[tuple[str, str, Markup]]:
    """A small chart for every class that has a curve: its name, its figures, and the SVG."""
    figures = []
    for curve, name in zip(curves, names, strict=True):
        if curve is None:
            continue
        axis = small_chart()
        chance = curve.present / curve.known
        axis.plot([0, 1], [chance, chance], clip_on=False, **line_style(1))
        # Between two thresholds precision is that of the lower one: what average precision sums.
        axis.step(curve.recall, curve.precision, where="post", clip_on=False, **line_style(0))
        words = (
            f"Precision by recall of {name}: average precision "
            f"{curve.average_precision:.3f}, by chance {chance:.3f}"
        )
        known = f"AP {curve.average_precision:.3f}, {curve.present} of {curve.known}"
        figures.append((name, known, svg(axis.figure, words)))
    return figures


def _calibration_report(
    run: RunFolder | ListenerRun, crops: HeldOutCrops, truth: pd.DataFrame | None
) -> tuple[CalibrationReport | None, str]:
    """By the method and for what the run's own calibration is, or else calibrate.py's defaults.

    None, and the reason, where scores cannot be calibrated.
    """
    method, wanted = "platt", "precision=0.9"
    path = run.path / "calibration.yaml"
    if path.exists():
        own = read_calibration(path, crops.columns)
        # A class with few rows has the map of all classes together, and says so instead.
        method = next((r["method"] for r in own.rows if r["method"] != "pooled"), method)
        wanted = own.wanted.replace(" ", "=")
    try:
        return report_calibration(crops, method, parse_wanted(wanted), truth), ""
    except UserError as error:
        return None, str(error)


def _species(
    run: RunFolder | ListenerRun,
    crops: HeldOutCrops,
    curves: list[PrecisionRecall | None],
    calibration: CalibrationReport | None,
    evaluation: RunEvaluation,
) -> pd.DataFrame:
    """A row for every class: what `_SPECIES` says of it."""
    rows = read_held_out_crops(run).groupby(["species_id", "kind"]).size()
    ids = [c.species_id for c in run.info.classes]
    species = pd.DataFrame(
        {
            "class": crops.columns,
            "name": crops.names,
            "tp": [int(rows.get((i, "tp"), 0)) for i in ids],
            "fp": [int(rows.get((i, "fp"), 0)) for i in ids],
            "present": crops.present.sum(axis=0),
            "absent": crops.absent.sum(axis=0),
            "average_precision": [np.nan if c is None else c.average_precision for c in curves],
        }
    )
    if calibration is not None:
        species = species.join(calibration.species[["threshold", "precision", "recall", "ece"]])
    if evaluation.recordings is not None:
        found = evaluation.recordings.per_class.set_index("class")
        found = found.rename(columns={"average_precision": "recording_ap"})
        species = species.join(found[["positives", "lwlrap", "recording_ap", "roc_auc"]], "class")
    return species


def _held_out(
    run: RunFolder | ListenerRun,
    crops: HeldOutCrops,
    evaluation: RunEvaluation,
    species: pd.DataFrame,
) -> Markup:
    total, recordings = evaluation.crops.iloc[-1], evaluation.recordings
    planned = run.info.folds if isinstance(run, ListenerRun) else run.config.training.folds
    tiles = [
        ("Folds finished", f"{len(evaluation.crops) - 1} of {planned}", ""),
        ("Species", len(species), ""),
        (
            "Held-out recordings",
            len(crops.recordings),
            f"{total['tp_crops']} TP and {total['fp_crops']} FP crops",
        ),
        ("TP log loss", f"{total['tp_log_loss']:.3f}", "of known-present labels"),
        ("FP log loss", f"{total['fp_log_loss']:.3f}", "of known-absent labels"),
        ("LRAP", f"{total['lrap']:.3f}", "present species of TP crops"),
        ("Mean AP", f"{species['average_precision'].mean():.3f}", "crops, over species"),
    ]
    if recordings is not None:
        remark = f"{recordings.recordings} recordings; chance {recordings.chance:.3f}"
        tiles.insert(0, ("LWLRAP", f"{recordings.lwlrap:.3f}", remark))
    folds = evaluation.crops.copy()
    done = {str(fold): _read_done(run, fold) for fold in run.finished_folds}
    for key in ("epochs", "seconds"):
        if any(key in values for values in done.values()):
            of = {fold: values.get(key) for fold, values in done.items()}
            folds[key] = pd.to_numeric(folds["fold"].map(of))
    remarks = {}
    for fold, values in done.items():
        if "checkpoint" in values:
            remarks.setdefault(values["checkpoint"], []).append(fold)
        if failed := values.get("recordings_failed"):
            text = f"{len(failed)} recordings could not be read, such as {failed[0]}"
            remarks.setdefault(text, []).append(fold)
    table = data_table("folds", "Held-out crops by fold", folds, _FOLDS)
    return render("held_out.html", tiles=tiles, folds=table, remarks=remarks)


def _read_done(run: RunFolder | ListenerRun, fold: int) -> dict:
    try:
        return json.loads((run.path / f"fold{fold}" / "done.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _reliability(
    crops: HeldOutCrops, calibration: CalibrationReport | None, problem: str
) -> Markup:
    """A reliability diagram of all species together, its numbers, and a small one of each."""
    known = crops.present | crops.absent
    target = crops.present[known]
    kinds = {"scores as they are": crops.scores}
    if calibration is not None:
        kinds["probabilities, out of fold"] = calibration.probability
    curves, bins = [], []
    for colour, (name, values) in zip(LINES, kinds.items(), strict=False):
        error = calibration_error(target, values[known])
        curves.append((f"{name} (ECE {error:.3f})", colour, values[known]))
        bins.append(reliability(target, values[known]).assign(values=name))
    axis = new_chart(340, 320, top=56, below=36)
    plot_reliability(axis, target, curves, diagonal=QUIET)
    name_axes(axis, "score or probability", "share present")
    add_legend(axis, loc="lower left", bbox_to_anchor=(-0.02, 1.08))
    rows = pd.concat(bins, ignore_index=True)
    rows["bin"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(rows.low, rows.high, strict=True)
    ]
    figures = []
    for c, species in enumerate(crops.names):
        own = known[:, c]
        if own.any():
            of_class = [
                ("", colour, values[own, c])
                for colour, values in zip(LINES, kinds.values(), strict=False)
            ]
            small = small_chart()
            plot_reliability(
                small,
                crops.present[own, c],
                of_class,
                bins=CLASS_BINS,
                largest_dot=60,
                diagonal=QUIET,
            )
            figures.append((species, "", svg(small.figure, f"Reliability of {species}")))
    name = "Share of labels that are present, by score or probability, all species"
    table = calibration and data_table(
        "calibration",
        f"Calibration, thresholds for {calibration.calibration.wanted}",
        calibration.figures,
        _CALIBRATION,
    )
    return render(
        "reliability.html",
        problem=problem,
        labels=known.sum(),
        bins=BINS,
        chart=svg(axis.figure, name),
        numbers=data_table("reliability-bins", "Labels by score or probability", rows, _BINS),
        calibration=table,
        notes=calibration.notes if calibration else [],
        class_bins=CLASS_BINS,
        figures=figures,
    )


def _history_charts(run: RunFolder | ListenerRun) -> list[tuple[str, str, Markup]]:
    """A chart for every figure of the epochs, with a line for every fold; a listener has none."""
    paths = {k: run.path / f"fold{k}" / "history.csv" for k in run.finished_folds}
    histories = {k: pd.read_csv(path) for k, path in paths.items() if path.exists()}
    figures = []
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
        name = f"{title} by epoch. At the last epoch of every fold: {last}"
        figures.append((title, "", svg(axis.figure, name)))
    return figures


def _configuration(run: RunFolder | ListenerRun) -> Markup:
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
    text = yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return render("configuration.html", facts=facts, recipe=text)
