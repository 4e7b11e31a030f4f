"""Scores of held-out annotated crops -> a calibration: maps to probabilities, and thresholds.

The rows of a class are the held-out crops whose label of it is known, present or absent. A crop
knows the label of every annotated box that lies in it, so a box counts in each crop that it is
in, at various places of the window, as the windows of a recording have it. Its score is that of
the one fold that held it out; of a new recording the folds' scores are averaged, which spreads
them less.

platt     logit of the probability = slope * logit of the score + intercept of the class. One
          slope for all classes, and intercepts drawn towards each other: the fit of
          `rfcx_tf.evaluation.prior_shift.fit_calibration`. A slope for every class was worse on
          crops of other folds.
isotonic  the non-decreasing map of the class with the least squared error.
pooled    one map of that kind of all classes together, for classes with too few rows.

References:
    Platt 1999, "Probabilistic outputs for support vector machines".
    Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass
    probability estimates".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.isotonic import IsotonicRegression

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.ensemble_report import join_members
from rfcx_tf.evaluation.prior_shift import KnownRecordings
from rfcx_tf.evaluation.prior_shift import fit_calibration as fit_platt
from rfcx_tf.evaluation.run import label_matrix, read_held_out_crops
from rfcx_tf.evaluation.thresholds import Wanted, choose_threshold
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import LARGEST_LOGIT, Calibration, clipped_logits, map_scores
from rfcx_tf.scoring.ensemble import combine_scores, member_names
from rfcx_tf.scoring.score_table import class_columns, read_scores

METHODS = ("platt", "isotonic")
# Fewer known present or known absent labels than this are too few for a map of their own.
FEWEST_ROWS = 10
# Of the intercepts, as `prior_shift` has it, where 1 takes labels to be independent. Here one box
# is known in about four crops. On other folds of two runs all from 10 to 100 was better than 1.
SHRINKAGE = 10.0


@dataclass(frozen=True)
class HeldOutCrops:
    """What one or several runs predicted for what all of them held out.

    Attributes:
        columns, names: of the classes, s<species_id> and species.
        members: of every run: run, weight, folds.
        recording_id, fold: [crops].
        scores: [crops, classes], of several runs the weighted mean.
        present, absent: bool [crops, classes], known labels.
        recordings: scores of whole recordings, recording_id and a column a class.
    """

    columns: list[str]
    names: list[str]
    members: list[dict]
    recording_id: np.ndarray
    fold: np.ndarray
    scores: np.ndarray
    present: np.ndarray
    absent: np.ndarray
    recordings: pd.DataFrame


def read_crops(runs: Sequence[RunFolder | ListenerRun], weights: Sequence[float]) -> HeldOutCrops:
    """Reads the out-of-fold tables of a run, or joins those of several.

    Args:
        runs: members, of the same classes and folds.
        weights: of the members, with sum 1.

    Raises:
        UserError: if no fold is finished, a table is missing or of other classes, or several
            runs do not fit together (`ensemble_report.join_members`).
    """
    classes = runs[0].info.classes
    columns = [f"s{c.species_id}" for c in classes]
    if len(runs) == 1:
        table, recordings = _read_tables(runs[0], columns)
        ids, fold = table["recording_id"].to_numpy(str), table["fold"].to_numpy(int)
        scores = table[columns].to_numpy(float)
        present, absent = (label_matrix(table[name], columns) for name in ("present", "absent"))
    else:
        joined = join_members(runs)
        ids = joined.crops["recording_id"].to_numpy(str)
        fold = joined.crops["fold"].to_numpy(int)
        scores = combine_scores(joined.probability, weights)
        present, absent = joined.known & joined.target, joined.known & ~joined.target
        recordings = pd.DataFrame(combine_scores(joined.scores, weights), columns=columns)
        recordings.insert(0, "recording_id", joined.recordings)
    members = [
        {"run": name, "weight": round(float(weight), 4), "folds": sorted(run.finished_folds)}
        for name, weight, run in zip(
            member_names([run.path for run in runs]), weights, runs, strict=True
        )
    ]
    names = [c.name for c in classes]
    return HeldOutCrops(columns, names, members, ids, fold, scores, present, absent, recordings)


def fit_crops(
    crops: HeldOutCrops, method: str, wanted: Wanted, used: np.ndarray | None = None
) -> Calibration:
    """Fits a map and chooses a threshold for every class.

    Args:
        crops: the rows.
        method: platt or isotonic.
        wanted: what the thresholds are for.
        used: bool [crops], those that are fitted on; None for all.

    Raises:
        UserError: if nothing is known present or nothing absent, or, for platt, higher scores
            do not mean presence.
    """
    used = np.full(len(crops.scores), True) if used is None else used
    scores, present, absent = crops.scores[used], crops.present[used], crops.absent[used]
    if not (present.any() and absent.any()):
        raise UserError(
            "A calibration needs crops with a present and crops with an absent species. Known of "
            f"{len(scores)} held-out crops are {present.sum()} present and {absent.sum()} absent "
            "labels. Finish more folds."
        )
    known = present | absent
    fit_maps = _platt_maps if method == "platt" else _isotonic_maps
    everything = np.full((known.sum(), 1), True)
    (pooled_map,) = fit_maps(scores[known][:, None], present[known][:, None], everything)
    own_maps = fit_maps(scores, present, known)
    counts = np.stack([present.sum(axis=0), absent.sum(axis=0)])
    is_pooled = counts.min(axis=0) < FEWEST_ROWS
    x, y = _with_equal_knots(
        [pooled_map if p else own for p, own in zip(is_pooled, own_maps, strict=True)]
    )
    thresholds, rows = np.empty(len(x), np.float32), []
    for c, name in enumerate(crops.names):
        notes = []
        if is_pooled[c]:
            notes.append(
                f"fewer than {FEWEST_ROWS} present or absent labels: map and threshold are those "
                "of all classes together"
            )
        probability = map_scores(
            scores[known] if is_pooled[c] else scores[known[:, c], c], x[c], y[c]
        )
        thresholds[c], reached = choose_threshold(probability, wanted)
        if not reached:
            notes.append(
                f"no held-out crop has a probability of {wanted.value:g} (highest "
                f"{probability.max():.3f}), so no threshold has the wanted {wanted}: it is "
                f"{wanted.value:g} itself, which none of these crops reaches"
            )
        rows.append(
            {
                "name": name,
                "method": "pooled" if is_pooled[c] else method,
                "present": int(counts[0, c]),
                "absent": int(counts[1, c]),
                "note": "; ".join(notes),
            }
        )
    return Calibration(crops.columns, x, y, thresholds, rows, str(wanted), crops.members)


def _platt_maps(
    scores: np.ndarray, present: np.ndarray, known: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two knots for every class of labels [rows, classes]."""
    fit = fit_platt(KnownRecordings(scores, present & known, known & ~present), SHRINKAGE)
    ends = np.array([-LARGEST_LOGIT, LARGEST_LOGIT])
    return [(ends, fit.slope * ends + intercept) for intercept in fit.intercepts]


def _isotonic_maps(
    scores: np.ndarray, present: np.ndarray, known: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The knots of every class of labels [rows, classes]; none where nothing is known.

    Labels that are all alike above (or below) some score would make certainty of it. With n
    rows, probabilities stay within 1 / (n + 2) and its complement, which is what Laplace's rule
    of succession says of n labels that are all alike.
    """
    # As the calibration will hold the knots, so that none of them fall together there.
    logits = clipped_logits(scores).astype(np.float32).astype(np.float64)
    maps = []
    for c in range(scores.shape[1]):
        rows = known[:, c]
        if not rows.any():
            maps.append((np.empty(0), np.empty(0)))
            continue
        lowest = 1 / (rows.sum() + 2)
        fit = IsotonicRegression(y_min=lowest, y_max=1 - lowest)
        fit.fit(logits[rows, c], present[rows, c].astype(float))
        maps.append((fit.X_thresholds_, logit(fit.y_thresholds_)))
    return maps


def _with_equal_knots(
    maps: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The same maps with as many knots each, float32 [classes, knots] twice.

    Knots are added at the ends, and then in the widest gap, on the line that is there.
    """
    ended = []
    for x, y in maps:
        if x[0] > -LARGEST_LOGIT:
            x, y = np.append(-LARGEST_LOGIT, x), np.append(y[0], y)
        if x[-1] < LARGEST_LOGIT:
            x, y = np.append(x, LARGEST_LOGIT), np.append(y, y[-1])
        ended.append((x, y))
    knots = max(len(x) for x, _ in ended)
    padded = []
    for x, y in ended:
        gap = int(np.argmax(np.diff(x)))
        added = np.linspace(x[gap], x[gap + 1], knots - len(x) + 2)[1:-1]
        padded.append((np.insert(x, gap + 1, added), np.insert(y, gap + 1, np.interp(added, x, y))))
    return tuple(np.array(values, np.float32) for values in zip(*padded, strict=True))


def _read_tables(
    run: RunFolder | ListenerRun, columns: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run's held-out crops and recordings."""
    try:
        crops = read_held_out_crops(run)
    except OSError as error:
        raise UserError(
            f"A run with finished folds has oof_crops.csv. That of {run.path} cannot be read: "
            f"{error.strerror}. Train it to its end."
        ) from None
    recordings = read_scores(run.path / "oof_scores.csv")
    for table in (crops, recordings):
        given = class_columns(table)
        if set(given) != set(columns):
            raise UserError(
                f"The out-of-fold tables of {run.path} must have the classes of its run.json. "
                f"Only in a table: {first_few(set(given) - set(columns))}; only in the run: "
                f"{first_few(set(columns) - set(given))}."
            )
    return crops, recordings[["recording_id", *columns]]
