"""A run folder -> the sections of its page: what its folds did not see, training, configuration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import yaml

from rfcx_tf.core.documents import read_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.calibration_figure import CLASS_BINS
from rfcx_tf.evaluation.calibration_report import (
    BINS,
    CalibrationReport,
    reliability,
    report_calibration,
)
from rfcx_tf.evaluation.held_out import HeldOut, read_held_out
from rfcx_tf.evaluation.precision_recall import PrecisionRecall, precision_recall
from rfcx_tf.evaluation.recordings import Evaluation
from rfcx_tf.evaluation.run import evaluate_run
from rfcx_tf.evaluation.thresholds import parse_wanted
from rfcx_tf.report.held_out_charts import (
    class_reliability_charts,
    history_charts,
    precision_recall_charts,
    reliability_chart,
)
from rfcx_tf.report.page import PageSection, make_section
from rfcx_tf.runs.open import Run
from rfcx_tf.scoring.calibration import read_calibration


def run_sections(run: Run, truth: pd.DataFrame | None = None) -> list[PageSection]:
    """The sections of a run, in the order of a page.

    Args:
        run: with at least one finished fold.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only.

    Raises:
        UserError: if no fold is finished, a table is missing, or the truth does not fit.
    """
    # First, since it says in words which table is missing.
    held_out = read_held_out([run])
    crops, recordings = evaluate_run(run, truth)
    calibration, problem = _calibration(run, held_out, truth)
    known = held_out.present | held_out.absent
    curves = precision_recall(held_out.present, known, held_out.scores)
    species = _species(run, held_out, curves, calibration, recordings)
    kinds = {"scores as they are": held_out.scores}
    if calibration is not None:
        kinds["probabilities, out of fold"] = calibration.probability
    bins = pd.concat(
        reliability(held_out.present[known], values[known]).assign(values=name)
        for name, values in kinds.items()
    )
    bins["bin"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(bins["low"], bins["high"], strict=True)
    ]
    folds, remarks = _folds(run, crops)
    sections = [
        make_section(
            "held-out",
            "Held-out figures",
            planned=run.folds_and_seed[0],
            held_out=held_out,
            species=species,
            total=crops.iloc[-1],
            recordings=recordings,
            folds=folds,
            remarks=remarks,
        ),
        make_section("held-out-species", "Species, held out", species=species),
        make_section(
            "reliability",
            "Reliability",
            problem=problem,
            labels=known.sum(),
            # Where all labels are alike, the share present says nothing of the values.
            both=bool(held_out.present.any() and held_out.absent.any()),
            bin_count=BINS,
            chart=reliability_chart(held_out, kinds),
            bins=bins,
            calibration=calibration,
            class_bins=CLASS_BINS,
            class_charts=class_reliability_charts(held_out, kinds),
        ),
        make_section(
            "precision-recall",
            "Precision and recall",
            figures=precision_recall_charts(curves, held_out.names),
            without=[n for n, c in zip(held_out.names, curves, strict=True) if c is None],
        ),
    ]
    # A listener has no histories.
    paths = {k: run.path / f"fold{k}" / "history.csv" for k in run.finished_folds}
    histories = {k: pd.read_csv(path) for k, path in paths.items() if path.exists()}
    if histories:
        sections.append(make_section("training", "Training", figures=history_charts(histories)))
    recipe = run.config.model_dump(mode="json")
    sections.append(
        make_section(
            "configuration",
            "Configuration",
            run=run,
            is_listener=run.kind == "listener",
            recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        )
    )
    return sections


def _species(
    run: Run,
    held_out: HeldOut,
    curves: list[PrecisionRecall | None],
    calibration: CalibrationReport | None,
    recordings: Evaluation | None,
) -> pd.DataFrame:
    """A row for every class; columns as in held-out-species.html."""
    rows = held_out.crops.groupby(["species_id", "kind"]).size()
    ids = [c.species_id for c in run.info.classes]
    species = pd.DataFrame(
        {
            "class": held_out.columns,
            "name": held_out.names,
            "tp": [int(rows.get((i, "tp"), 0)) for i in ids],
            "fp": [int(rows.get((i, "fp"), 0)) for i in ids],
            "present": held_out.present.sum(axis=0),
            "absent": held_out.absent.sum(axis=0),
            "average_precision": [np.nan if c is None else c.average_precision for c in curves],
        }
    )
    if calibration is not None:
        species = species.join(calibration.species[["threshold", "precision", "recall", "ece"]])
    if recordings is not None:
        found = recordings.per_class.set_index("class")
        found = found.rename(columns={"average_precision": "recording_ap"})
        species = species.join(found[["positives", "lwlrap", "recording_ap", "roc_auc"]], "class")
    return species


def _calibration(
    run: Run, held_out: HeldOut, truth: pd.DataFrame | None
) -> tuple[CalibrationReport | None, str]:
    """Calibrates with the aim of the run's own calibration, or the default of rfcx-tf calibrate.

    Returns None and the reason where scores cannot be calibrated.
    """
    wanted = "precision=0.9"
    path = run.path / "calibration.yaml"
    if path.exists():
        wanted = read_calibration(path, held_out.columns).wanted.replace(" ", "=")
    try:
        return report_calibration(held_out, parse_wanted(wanted), truth), ""
    except UserError as error:
        return None, str(error)


def _folds(run: Run, monitors: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Monitors of folds with what their done.json says, and which folds a remark is on."""
    done = {}
    for fold in run.finished_folds:
        try:
            done[str(fold)] = read_json(run.fold(fold) / "done.json", "The record of a fold")
        except (OSError, ValueError):
            continue
    remarks = {}
    for fold, values in done.items():
        if values.get("checkpoint"):
            remarks.setdefault(values["checkpoint"], []).append(fold)
        if failed := values.get("recordings_failed"):
            text = f"{len(failed)} recordings could not be read, such as {failed[0]}"
            remarks.setdefault(text, []).append(fold)
    training = pd.DataFrame(
        {
            key: {fold: values.get(key) for fold, values in done.items()}
            for key in ("epochs", "seconds")
        },
        dtype=float,
    )
    return monitors.join(training.dropna(axis=1, how="all"), "fold"), remarks
