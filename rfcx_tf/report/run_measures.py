"""A run folder -> all figures that a page shows of it; of what its folds did not see."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.calibration_fit import HeldOutCrops, read_crops
from rfcx_tf.evaluation.calibration_report import CalibrationReport, make_report
from rfcx_tf.evaluation.run import RunEvaluation, evaluate_run, read_held_out_crops
from rfcx_tf.evaluation.thresholds import parse_wanted
from rfcx_tf.report.precision_recall import PrecisionRecall, precision_recall
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import read_calibration


@dataclass(frozen=True)
class RunMeasures:
    """What held-out crops and recordings say of a run.

    Attributes:
        evaluation: monitors by fold, and LWLRAP where there is a truth.
        crops: the crops' known labels and scores.
        calibration: reliability, thresholds; None where scores cannot be calibrated.
        problem: why they cannot, or "".
        curves: precision and recall of every class's crops.
        species: DataFrame, a row a class: class, name, tp, fp (annotated rows), present, absent
            (known labels of crops), average_precision; threshold, precision, recall, ece where
            calibrated; positives, lwlrap, recording_ap, roc_auc with a truth.
        folds: DataFrame, a row for every finished fold and a last row `all`: the monitors, and
            epochs and seconds of training where the run has them.
        histories: by fold, a row for every epoch; a listener has none.
        remarks: on single folds, such as which epoch's weights were kept.
    """

    evaluation: RunEvaluation
    crops: HeldOutCrops
    calibration: CalibrationReport | None
    problem: str
    curves: list[PrecisionRecall | None]
    species: pd.DataFrame
    folds: pd.DataFrame
    histories: dict[int, pd.DataFrame]
    remarks: list[str]


def measure_run(run: RunFolder | ListenerRun, truth: pd.DataFrame | None = None) -> RunMeasures:
    """Measures a run.

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
    known = crops.present | crops.absent
    curves = precision_recall(crops.present, known, crops.scores, crops.names)
    species = _species(run, crops, curves)
    if calibration is not None:
        own = ["threshold", "precision", "recall", "ece"]
        species = species.join(calibration.species[own])
    if evaluation.recordings is not None:
        found = evaluation.recordings.per_class.set_index("class")
        found = found.rename(columns={"average_precision": "recording_ap"})
        own = ["positives", "lwlrap", "recording_ap", "roc_auc"]
        species = species.join(found[own], on="class")
    done = {k: _read_done(run, k) for k in run.finished_folds}
    folds = evaluation.crops.copy()
    for key in ("epochs", "seconds"):
        if any(key in values for values in done.values()):
            of = {str(k): values.get(key) for k, values in done.items()}
            folds[key] = pd.to_numeric(folds["fold"].map(of))
    remarks = {}
    for k, values in done.items():
        for text in (values.get("checkpoint"), _failed_in_words(values)):
            if text:
                remarks.setdefault(text, []).append(str(k))
    return RunMeasures(
        evaluation,
        crops,
        calibration,
        problem,
        curves,
        species,
        folds,
        _histories(run),
        [f"Fold {', '.join(numbers)}: {text}." for text, numbers in remarks.items()],
    )


def _calibration_report(
    run: RunFolder | ListenerRun, crops: HeldOutCrops, truth: pd.DataFrame | None
) -> tuple[CalibrationReport | None, str]:
    """By the method and for what the run's own calibration is, or else calibrate.py's defaults."""
    method, wanted = "platt", "precision=0.9"
    path = run.path / "calibration.yaml"
    if path.exists():
        own = read_calibration(path, crops.columns)
        # A class with few rows has the map of all classes together, and says so instead.
        method = next((r["method"] for r in own.rows if r["method"] != "pooled"), method)
        wanted = own.wanted.replace(" ", "=")
    try:
        return make_report(crops, method, parse_wanted(wanted), truth), ""
    except UserError as error:
        return None, str(error)


def _species(
    run: RunFolder | ListenerRun, crops: HeldOutCrops, curves: list[PrecisionRecall | None]
) -> pd.DataFrame:
    table = read_held_out_crops(run)
    rows = table.groupby(["species_id", "kind"]).size()
    ids = [c.species_id for c in run.info.classes]
    return pd.DataFrame(
        {
            "class": crops.columns,
            "name": crops.names,
            "tp": [int(rows.get((i, "tp"), 0)) for i in ids],
            "fp": [int(rows.get((i, "fp"), 0)) for i in ids],
            "present": crops.present.sum(axis=0),
            "absent": crops.absent.sum(axis=0),
            "average_precision": [
                float("nan") if c is None else c.average_precision for c in curves
            ],
        }
    )


def _read_done(run: RunFolder | ListenerRun, fold: int) -> dict:
    try:
        return json.loads((run.path / f"fold{fold}" / "done.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _failed_in_words(done: dict) -> str:
    failed = done.get("recordings_failed")
    return f"{len(failed)} recordings could not be read, such as {failed[0]}" if failed else ""


def _histories(run: RunFolder | ListenerRun) -> dict[int, pd.DataFrame]:
    paths = {k: run.path / f"fold{k}" / "history.csv" for k in run.finished_folds}
    return {k: pd.read_csv(path) for k, path in paths.items() if path.exists()}
