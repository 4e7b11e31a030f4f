"""How good a calibration is on held-out crops that took no part in its fit.

Maps and thresholds are fitted on all folds but one and tried on that one, fold by fold. With a
complete truth the same maps and thresholds are also tried on the scores of whole recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rfcx_tf.core.species import check_same_columns
from rfcx_tf.evaluation.calibration_fit import fit_calibration
from rfcx_tf.evaluation.held_out import HeldOut, parts_to_leave_out
from rfcx_tf.evaluation.markdown_table import markdown_table
from rfcx_tf.evaluation.metrics import masked_log_loss
from rfcx_tf.evaluation.recordings import truth_of_recordings
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
        figures: DataFrame, a row for the scores as they are and one for the probabilities:
            values (which), ece, class_ece (the mean over classes of each one's ECE), brier,
            log_loss; and of the thresholds precision and recall over all labels and classes
            together.
        species: DataFrame class, name, method, present, absent, threshold, score_threshold, and
            on parts left out: precision, recall at the thresholds, ece_before, ece. NaN where
            nothing is detected or there.
        recordings: as `figures`, of whole recordings, and mean (of the values), present (the
            share of pairs of recording and species that are there); None without truth.
        notes: remarks on single classes and on the whole, a line each.
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
    """Share of present labels by probability, in bins of equal width.

    Ten bins are [0, 0.1), [0.1, 0.2), ... [0.9, 1].

    Args:
        target: bool [labels], true for present.
        probability: [labels], in [0, 1].
        bins: how many.

    Returns:
        DataFrame with a row a bin: low, high, count, probability (mean), present (share). NaN
        where the count is 0.
    """
    edges = np.linspace(0, 1, bins + 1)
    labels = pd.DataFrame(
        {"probability": np.asarray(probability, float), "present": np.asarray(target, float)}
    )
    groups = labels.groupby(np.searchsorted(edges[1:-1], labels["probability"], side="right"))
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    table["count"] = groups.size().reindex(table.index, fill_value=0)
    return table.join(groups.mean())


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
    held_out: HeldOut, wanted: Wanted, truth: pd.DataFrame | None = None
) -> CalibrationReport:
    """Fits a calibration and tries it out of fold.

    Args:
        held_out: what it is fitted and tried on.
        wanted: what its thresholds are for.
        truth: recording_id and s<id> columns of 0/1, complete; for scoring only.

    Raises:
        UserError: as `fit_calibration`, for a part left out as well; or if the truth has other
            classes or none of the recordings.
    """
    if truth is not None:
        check_same_columns(
            "Runs and truth must have the same classes.",
            *("the truth", class_columns(truth), "the runs", held_out.columns),
        )
        truth = truth_of_recordings(truth, held_out.recordings["recording_id"])
    parts, part_name = parts_to_leave_out(held_out.crops)
    whole = fit_calibration(held_out, wanted)
    fits = {part: fit_calibration(held_out, wanted, parts != part) for part in np.unique(parts)}
    probability, detected = _out_of_fold(held_out.scores, parts, fits, whole)
    present, known = held_out.present, held_out.present | held_out.absent
    values = ("scores as they are", "platt, out of fold")
    figures = pd.DataFrame(
        [
            {"values": values[0]} | _figures(present, known, held_out.scores),
            {"values": values[1]} | _figures(present, known, probability, detected),
        ]
    )
    recordings = None
    if truth is not None:
        there = truth[held_out.columns].to_numpy(bool)
        by_id = held_out.recordings.set_index("recording_id")
        scores = by_id.loc[truth["recording_id"]].to_numpy(float)
        part_of = dict(zip(held_out.crops["recording_id"], parts, strict=True))
        recording_parts = truth["recording_id"].map(part_of).to_numpy()
        found = _out_of_fold(scores, recording_parts, fits, whole)
        rows = [
            {"values": which}
            | _figures(there, np.full(there.shape, True), *tried)
            | {"mean": float(tried[0].mean()), "present": float(there.mean())}
            for which, tried in zip(values, [(scores,), found], strict=True)
        ]
        recordings = pd.DataFrame(rows)
    species = _species(held_out, whole, probability, detected)
    notes = _notes(whole, figures, wanted)
    text = _format(held_out, whole, figures, species, recordings, notes, part_name)
    return CalibrationReport(whole, probability, figures, species, recordings, notes, text)


def _out_of_fold(
    scores: np.ndarray, parts: np.ndarray, fits: dict[int, Calibration], whole: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and what is detected, [rows, classes], each by the fit without its part.

    A recording without crops (part NaN) was in no fit: that of all crops is as honest as any.
    """
    probability = whole.probabilities(scores)
    thresholds = np.tile(whole.thresholds, (len(scores), 1))
    for part, fit in fits.items():
        inside = parts == part
        probability[inside] = fit.probabilities(scores[inside])
        thresholds[inside] = fit.thresholds
    return probability, probability >= thresholds


def _figures(
    present: np.ndarray,
    known: np.ndarray,
    probability: np.ndarray,
    detected: np.ndarray | None = None,
) -> dict[str, float]:
    """Figures of values [rows, classes], over the known labels of all classes together."""
    target, values = present[known], np.asarray(probability, float)[known]
    by_class = [
        calibration_error(present[rows, c], probability[rows, c]) for c, rows in enumerate(known.T)
    ]
    precision, recall = np.nan, np.nan
    if detected is not None:
        precision, recall = _precision_recall(target, detected[known])
    return {
        "ece": calibration_error(target, values),
        "class_ece": float(np.nanmean(by_class)),
        "brier": float(np.mean((values - target) ** 2)),
        "log_loss": masked_log_loss(present, known, probability),
        "precision": precision,
        "recall": recall,
    }


def _precision_recall(target: np.ndarray, detected: np.ndarray) -> tuple[float, float]:
    """Of labels [labels]; NaN where nothing is detected, or nothing there."""
    found = (target & detected).sum()
    return tuple(float(found / n) if n else np.nan for n in (detected.sum(), target.sum()))


def _species(
    held_out: HeldOut, calibration: Calibration, probability: np.ndarray, detected: np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame(calibration.rows).drop(columns="note")
    table.insert(0, "class", calibration.columns)
    table["threshold"] = calibration.thresholds.astype(float)
    table["score_threshold"] = calibration.score_thresholds().astype(float)
    rows = []
    for c, known in enumerate((held_out.present | held_out.absent).T):
        target = held_out.present[known, c]
        precision, recall = _precision_recall(target, detected[known, c])
        before = calibration_error(target, held_out.scores[known, c])
        after = calibration_error(target, probability[known, c])
        rows.append({"precision": precision, "recall": recall, "ece_before": before, "ece": after})
    return table.join(pd.DataFrame(rows))


def _notes(calibration: Calibration, figures: pd.DataFrame, wanted: Wanted) -> list[str]:
    notes = [
        f"{column} {row['name']}: {row['note']}."
        for column, row in zip(calibration.columns, calibration.rows, strict=True)
        if row["note"]
    ]
    before, after = figures.to_dict("records")
    if wanted.figure != "F1" and after[wanted.figure] < wanted.value:
        notes.append(
            f"Wanted: {wanted}. On crops that took no part in the fit, all classes together, it "
            f"is {after[wanted.figure]:.3f}."
        )
    if before["log_loss"] < after["log_loss"]:
        notes.append(
            "By the log loss of crops that took no part in the fit, scores as they are is better "
            f"than platt ({before['log_loss']:.4f} against {after['log_loss']:.4f})."
        )
    return notes


def _format(
    held_out: HeldOut,
    calibration: Calibration,
    figures: pd.DataFrame,
    species: pd.DataFrame,
    recordings: pd.DataFrame | None,
    notes: list[str],
    part_name: str,
) -> str:
    members = ", ".join(
        f"{member['run']} (weight {member['weight']:g}, folds {member['folds']})"
        for member in held_out.members
    )
    lines = [
        f"# Calibration of {members}",
        "",
        f"Known labels of {len(held_out.crops)} held-out crops of "
        f"{held_out.crops['recording_id'].nunique()} recordings: {held_out.present.sum()} "
        f"present, {held_out.absent.sum()} absent. Method: platt. Thresholds for: "
        f"{calibration.wanted}.",
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
