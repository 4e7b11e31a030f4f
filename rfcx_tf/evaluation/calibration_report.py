"""What a calibration is worth, measured on held-out crops that took no part in its fit.

Maps and thresholds are fitted on all folds but one and tried on that one, fold by fold. With a
complete truth the same maps and thresholds are also tried on the scores of whole recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.calibration_fit import METHODS, HeldOutCrops, fit_crops
from rfcx_tf.evaluation.ensemble_report import markdown_table, parts_to_leave_out
from rfcx_tf.evaluation.metrics import masked_log_loss
from rfcx_tf.evaluation.thresholds import Wanted
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.score_table import class_columns

# Bins of equal width in [0, 1] for calibration errors and figures.
BINS = 10


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration of all held-out crops, and figures of those that leave a part out.

    Attributes:
        calibration: fitted on all crops.
        probability: float32 [crops, classes], each of a fit without the crop's part.
        figures: DataFrame, a row for the scores as they are and one a method: values (which),
            ece, class_ece (the mean over classes of each one's ECE), brier, log_loss; and of the
            thresholds precision and recall over all labels and classes together.
        species: DataFrame class, name, method, present, absent, threshold, score_threshold, and
            on parts left out: precision, recall at the thresholds, ece_before, ece. NaN where
            nothing is detected or there.
        recordings: as `figures`, of whole recordings, and mean (of the values), present (the
            share of pairs of recording and species that are there); None without truth.
        notes: what has to be said of single classes and of the whole, a line each.
        text: all of it as Markdown.
    """

    calibration: Calibration
    probability: np.ndarray
    figures: pd.DataFrame
    species: pd.DataFrame
    recordings: pd.DataFrame | None
    notes: list[str]
    text: str


def reliability(target: ArrayLike, probability: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """How often what has some probability is there, in bins of equal width.

    Ten bins are [0, 0.1), [0.1, 0.2), ... [0.9, 1].

    Args:
        target: bool [labels], true for present.
        probability: [labels], in [0, 1].
        bins: how many.

    Returns:
        DataFrame with a row a bin: low, high, count, probability (mean), present (share). NaN
        where the count is 0.
    """
    target, probability = np.asarray(target, bool), np.asarray(probability, float)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], probability, side="right")
    count = np.bincount(bin_of, minlength=bins)
    means = [
        np.divide(
            np.bincount(bin_of, values, minlength=bins),
            count,
            out=np.full(bins, np.nan),
            where=count > 0,
        )
        for values in (probability, target)
    ]
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "probability": means[0],
            "present": means[1],
        }
    )


def calibration_error(target: ArrayLike, probability: ArrayLike) -> float:
    """Expected calibration error: the mean over labels of |probability - share present| of bins.

    ECE = sum over bins of count / labels * |mean probability - share present|, with the bins of
    `reliability`. Few labels make it large by chance alone. NaN where there are none.

    Reference:
        Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
        binning".
    """
    bins = reliability(target, probability)
    if not bins["count"].any():
        return float("nan")
    gap = (bins["probability"] - bins["present"]).abs()
    return float((gap * bins["count"]).sum() / bins["count"].sum())


def report_calibration(
    crops: HeldOutCrops, method: str, wanted: Wanted, truth: pd.DataFrame | None = None
) -> CalibrationReport:
    """Fits a calibration and tries it, and the other method, out of fold.

    Args:
        crops: what was held out.
        method: of the calibration, platt or isotonic.
        wanted: what its thresholds are for.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only.

    Raises:
        UserError: as `fit_crops`, for a part left out as well; or if the truth has other
            classes or none of the recordings.
    """
    present, kept = (None, None) if truth is None else _truth_of(crops, truth)
    parts, part_name = parts_to_leave_out(
        pd.DataFrame({"recording_id": crops.recording_id, "fold": crops.fold})
    )
    known = crops.present | crops.absent
    trials = {name: _CrossFit(crops, parts, name, wanted) for name in METHODS}
    rows = [{"values": "scores as they are"} | _figures(crops.present, known, crops.scores)]
    for name, trial in trials.items():
        figures = _figures(crops.present, known, trial.probability, trial.detected)
        rows.append({"values": f"{name}, out of fold"} | figures)
    trial = trials[method]
    figures = pd.DataFrame(rows)
    recordings = None if present is None else _of_recordings(crops, trials, present, kept)
    species = _species(crops, known, trial)
    notes = _notes(trial.whole, figures, method, wanted)
    text = _format(crops, trial.whole, figures, species, recordings, notes, part_name, method)
    return CalibrationReport(
        trial.whole, trial.probability, figures, species, recordings, notes, text
    )


class _CrossFit:
    """Probabilities, and what is detected, each by the fit without the part that it is in.

    Attributes:
        whole: the calibration fitted on all crops.
        probability, detected: [crops, classes].
        recording_probability, recording_detected: [recordings, classes]. A recording without
            crops took part in no fit, so that of all crops is as honest as any.
    """

    def __init__(self, crops: HeldOutCrops, parts: np.ndarray, method: str, wanted: Wanted):
        scores = crops.recordings[crops.columns].to_numpy(float)
        part_of = dict(zip(crops.recording_id, parts, strict=True))
        recording_parts = np.array([part_of.get(r, -1) for r in crops.recordings["recording_id"]])
        self.whole = fit_crops(crops, method, wanted)
        self.probability = np.empty(crops.scores.shape, np.float32)
        self.recording_probability = self.whole.probabilities(scores)
        self.detected = np.empty(crops.scores.shape, bool)
        self.recording_detected = self.recording_probability >= self.whole.thresholds
        for part in np.unique(parts):
            fit = fit_crops(crops, method, wanted, used=parts != part)
            inside = parts == part
            self.probability[inside] = fit.probabilities(crops.scores[inside])
            self.detected[inside] = self.probability[inside] >= fit.thresholds
            inside = recording_parts == part
            self.recording_probability[inside] = fit.probabilities(scores[inside])
            self.recording_detected[inside] = self.recording_probability[inside] >= fit.thresholds


def _figures(
    present: np.ndarray,
    known: np.ndarray,
    probability: np.ndarray,
    detected: np.ndarray | None = None,
) -> dict[str, float]:
    """Figures of values [rows, classes], over the known labels of all classes together."""
    target, values = present[known], np.asarray(probability, float)[known]
    by_class = [
        calibration_error(present[rows, c], probability[rows, c])
        for c, rows in enumerate(known.T)
        if rows.any()
    ]
    precision = recall = float("nan")
    if detected is not None:
        precision, recall = _precision_recall(target, detected[known])
    return {
        "ece": calibration_error(target, values),
        "class_ece": float(np.mean(by_class)),
        "brier": float(np.mean((values - target) ** 2)),
        "log_loss": masked_log_loss(present, known, probability),
        "precision": precision,
        "recall": recall,
    }


def _precision_recall(target: np.ndarray, detected: np.ndarray) -> tuple[float, float]:
    """Of labels [labels]; NaN where nothing is detected, or nothing there."""
    found = int((target & detected).sum())
    return tuple(
        found / int(total) if total else float("nan") for total in (detected.sum(), target.sum())
    )


def _of_recordings(
    crops: HeldOutCrops, trials: dict[str, _CrossFit], present: np.ndarray, kept: np.ndarray
) -> pd.DataFrame:
    """Figures of recordings [kept], all of whose labels `present` [kept, classes] are known."""
    scores = crops.recordings[crops.columns].to_numpy(float)[kept]
    rows = [("scores as they are", scores, None)] + [
        (f"{name}, out of fold", trial.recording_probability[kept], trial.recording_detected[kept])
        for name, trial in trials.items()
    ]
    known = np.full(present.shape, True)
    return pd.DataFrame(
        {"values": which}
        | _figures(present, known, values, detected)
        | {"mean": float(values.mean()), "present": float(present.mean())}
        for which, values, detected in rows
    )


def _species(crops: HeldOutCrops, known: np.ndarray, trial: _CrossFit) -> pd.DataFrame:
    calibration = trial.whole
    rows = []
    for c, (row, threshold, score_threshold) in enumerate(
        zip(
            calibration.rows,
            calibration.thresholds,
            calibration.score_thresholds(),
            strict=True,
        )
    ):
        own = known[:, c]
        target = crops.present[own, c]
        precision, recall = _precision_recall(target, trial.detected[own, c])
        rows.append(
            {
                "class": calibration.columns[c],
                **{key: row[key] for key in ("name", "method", "present", "absent")},
                "threshold": float(threshold),
                "score_threshold": float(score_threshold),
                "precision": precision,
                "recall": recall,
                "ece_before": calibration_error(target, crops.scores[own, c]),
                "ece": calibration_error(target, trial.probability[own, c]),
            }
        )
    return pd.DataFrame(rows)


def _notes(
    calibration: Calibration, figures: pd.DataFrame, method: str, wanted: Wanted
) -> list[str]:
    notes = [
        f"{column} {row['name']}: {row['note']}."
        for column, row in zip(calibration.columns, calibration.rows, strict=True)
        if row["note"]
    ]
    figures = figures.set_index("values")
    own = figures.loc[f"{method}, out of fold"]
    if wanted.figure != "F1" and own[wanted.figure] < wanted.value:
        notes.append(
            f"Wanted: {wanted}. On crops that took no part in the fit, all classes together, it "
            f"is {own[wanted.figure]:.3f}."
        )
    for values, losses in figures["log_loss"].items():
        if losses < own["log_loss"]:
            notes.append(
                f"By the log loss of crops that took no part in the fit, {values} is better than "
                f"{method} ({losses:.4f} against {own['log_loss']:.4f})."
            )
    return notes


def _truth_of(crops: HeldOutCrops, truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Bool [kept recordings, classes], and which of the crops' recordings are kept."""
    given = class_columns(truth)
    if set(given) != set(crops.columns):
        raise UserError(
            "Runs and truth must have the same class columns. Only in the truth: "
            f"{first_few(set(given) - set(crops.columns))}; only in the runs: "
            f"{first_few(set(crops.columns) - set(given))}."
        )
    by_id = truth.set_index("recording_id")
    ids = crops.recordings["recording_id"]
    kept = ids.isin(by_id.index).to_numpy()
    if not kept.any():
        raise UserError(
            "The truth must name recordings that were held out. It names none of the "
            f"{len(ids)}: {first_few(ids)}."
        )
    return by_id.loc[ids[kept], crops.columns].to_numpy(bool), kept


def _format(
    crops: HeldOutCrops,
    calibration: Calibration,
    figures: pd.DataFrame,
    species: pd.DataFrame,
    recordings: pd.DataFrame | None,
    notes: list[str],
    part_name: str,
    method: str,
) -> str:
    members = ", ".join(
        f"{member['run']} (weight {member['weight']:g}, folds {member['folds']})"
        for member in crops.members
    )
    lines = [
        f"# Calibration of {members}",
        "",
        f"Known labels of {len(crops.scores)} held-out crops of "
        f"{len(np.unique(crops.recording_id))} recordings: {crops.present.sum()} present, "
        f"{crops.absent.sum()} absent. Method: {method}. Thresholds for: {calibration.wanted}.",
        "",
        *markdown_table(figures),
        "",
        f"Maps and thresholds were tried on crops that took no part in their fit: one {part_name} "
        "at a time was left out. `ece`: expected calibration error in "
        f"{BINS} bins of equal width over all classes together; `class_ece`: mean of that of "
        "each class. `log_loss` in nats a label. `precision` and `recall` at the thresholds, of "
        "all known labels together.",
        "A probability is that of a candidate box of an annotator: TP and FP mix as in the "
        "annotations. In continuous recordings most windows have no candidate, so precision is "
        "lower there.",
        "",
        *markdown_table(species),
        "",
        "`threshold` (of the probability) and `score_threshold` are of the fit on all crops; the "
        "figures after them are out of fold.",
    ]
    if recordings is not None:
        lines += [
            "",
            "## Whole recordings",
            "",
            *markdown_table(recordings),
            "",
            "Of the highest window score, as far as the truth lists the recordings. `present`: "
            "share of pairs of recording and species that are there; `mean`: of the values. The "
            "maps are of single windows: the highest of many is more often high by chance, so "
            "`mean` comes out above `present`. The truth took no part in any fit.",
        ]
    if notes:
        lines += ["", *[f"- {note}" for note in notes]]
    return "\n".join(lines) + "\n"
