"""How common each species is where a run is used, and what that changes in its scores.

Out-of-fold scores of recordings with annotations, and scores of recordings without any, go in;
out comes for every species its share of the training recordings, its estimated share of the
others (its prevalence), and the difference of their log odds, which is added to logits.

Every class is a binary problem of its own. Its scores are first calibrated (`fit_calibration`),
since the highest window score of a recording is no probability. Then the prevalence is found by
expectation-maximisation (`estimate_prevalence`). Both rest on one assumption: calls that are
there look alike in both sets, and so does their absence; only how often they are there differs.

References:
    Saerens, Latinne, Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori
    probabilities: a simple procedure", Neural Computation 14.
    Platt 1999, "Probabilistic outputs for support vector machines".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, logit

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.evaluation.metrics import SMALLEST_PROBABILITY
from rfcx_tf.evaluation.run import read_held_out_crops
from rfcx_tf.runs.open import check_classes
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.ensemble import combine_scores, member_names
from rfcx_tf.scoring.score_table import class_columns, read_scores

DEFAULT_SHRINKAGE = 1.0
DEFAULT_PSEUDO_COUNT = 1.0

_HEADER = "# Made by scripts/prior_shift.py, for --prior of predict.py.\n"
# The change of a prevalence in one step at which it counts as found.
_TOLERANCE = 1e-9
_MAX_STEPS = 100_000


@dataclass(frozen=True)
class KnownRecordings:
    """Held-out recordings, and what is known of the species in them.

    Attributes:
        scores: [recordings, classes], out of fold, in [0, 1].
        present: bool [recordings, classes], a TP row names the class.
        absent: bool [recordings, classes], an FP row names the class and no TP row does. That
            the class is nowhere in the recording is an *assumption*: an FP row certifies its
            box only. Where it fails, scores of absent classes look too high, and prevalences
            come out too low.
    """

    scores: np.ndarray
    present: np.ndarray
    absent: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """Probability of presence = sigmoid(slope * logit(score) + intercept of the class).

    Attributes:
        slope: one for all classes, above 0 where scores mean anything.
        intercepts: [classes].
    """

    slope: float
    intercepts: np.ndarray

    def logits(self, scores: ArrayLike) -> np.ndarray:
        """Calibrated logits of scores [recordings, classes] in [0, 1]."""
        return self.slope * _logits(scores) + self.intercepts


@dataclass(frozen=True)
class PriorShift:
    """What `estimate_prior_shift` found.

    Attributes:
        species: DataFrame species_id, name, known_present and known_absent (recordings),
            training_prior, prevalence, offset (the difference of their log odds). Where no
            recording is known present, or none absent, a class cannot be calibrated: prior and
            prevalence are NaN, the offset 0.
        calibration: of the scores.
        recordings: number of target recordings.
        shrinkage, pseudo_count: that it was made with.
    """

    species: pd.DataFrame
    calibration: Calibration
    recordings: int
    shrinkage: float
    pseudo_count: float


def read_known_recordings(runs: Sequence[RunFolder], weights: Sequence[float]) -> KnownRecordings:
    """The recordings that all of several runs held out, with the mean of their scores.

    Args:
        runs: members, of the same classes.
        weights: of the members, with sum 1.

    Raises:
        UserError: if classes differ, a run has no finished fold, or the runs have no recording
            in common.
    """
    check_classes(runs)
    columns = [f"s{c.species_id}" for c in runs[0].info.classes]
    crops = pd.concat([read_held_out_crops(run) for run in runs])
    tables = [read_scores(run.path / "oof_scores.csv").set_index("recording_id") for run in runs]
    recordings = tables[0].index
    for table in tables[1:]:
        recordings = recordings[recordings.isin(table.index)]
    if recordings.empty:
        raise UserError(
            "Scores are calibrated on recordings that every run held out. There is none that all "
            f"of {', '.join(str(run.path) for run in runs)} did. Finish the same folds of each."
        )
    members = [table.loc[recordings, columns].to_numpy(float) for table in tables]

    def marked(kind: str) -> np.ndarray:
        rows = crops[crops["kind"] == kind]
        row = recordings.get_indexer(rows["recording_id"])
        column = pd.Index(columns).get_indexer("s" + rows["species_id"].astype(str))
        # Recordings that could not be read have rows and no scores.
        scored = row >= 0
        table = np.zeros((len(recordings), len(columns)), bool)
        table[row[scored], column[scored]] = True
        return table

    present = marked("tp")
    scores = combine_scores(members, weights)
    return KnownRecordings(scores, present, marked("fp") & ~present)


def fit_calibration(known: KnownRecordings, shrinkage: float = DEFAULT_SHRINKAGE) -> Calibration:
    """Platt scaling of the logits z of scores: slope a, common intercept b, deviations d_c.

    The minimum, over the known (recording, class) pairs, of

        sum of log loss of sigmoid(a z + b + d_c)  +  shrinkage / 2 (a^2 + sum over c of d_c^2)

    A class has few known recordings, so its intercept is shrunk towards the common one, and the
    slope is not its own. The penalty of the slope is small beside hundreds of labels; it keeps
    the slope finite where present and absent are fully apart. The minimum is unique.

    Args:
        known: the recordings.
        shrinkage: above 0. 1 takes log odds to differ by about 1 between classes.

    Raises:
        UserError: if nothing is known present or nothing absent, or higher scores do not mean
            presence.
    """
    is_known = known.present | known.absent
    is_present = known.present[is_known]
    if is_present.all() or not is_present.any():
        raise UserError(
            "Calibration needs recordings with a TP row and recordings with an FP row only. Of "
            f"{is_present.size} known pairs of recording and species {is_present.sum()} are "
            "present. Finish more folds."
        )
    logits, sign = _logits(known.scores[is_known]), np.where(is_present, 1.0, -1.0)
    column = np.nonzero(is_known)[1]
    classes = is_known.shape[1]

    def loss_and_slope(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, common, deviations = parameters[0], parameters[1], parameters[2:]
        margin = sign * (slope * logits + common + deviations[column])
        residual = -sign * expit(-margin)
        penalty = shrinkage / 2 * (slope**2 + deviations @ deviations)
        by_class = np.bincount(column, residual, classes) + shrinkage * deviations
        gradient = [residual @ logits + shrinkage * slope, residual.sum(), *by_class]
        return np.logaddexp(0, -margin).sum() + penalty, np.array(gradient)

    found = minimize(
        loss_and_slope,
        np.zeros(2 + classes),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 10_000, "maxfun": 100_000},
    ).x
    if found[0] <= 0:
        raise UserError(
            "Scores must be higher where a species is present. On held-out recordings they are "
            f"not (the slope of their calibration is {found[0]:.3g}). Train longer."
        )
    return Calibration(float(found[0]), found[1] + found[2:])


def estimate_prevalence(
    logits: ArrayLike, training_prior: ArrayLike, pseudo_count: float = DEFAULT_PSEUDO_COUNT
) -> np.ndarray:
    """Prevalence of every class by expectation-maximisation, each class by itself.

    From posteriors p_i under the training prior t, beginning with pi = t,

        q_i = p_i pi / t / (p_i pi / t + (1 - p_i) (1 - pi) / (1 - t))        (Bayes' rule)
        pi  = (sum of q_i + pseudo_count * t) / (recordings + pseudo_count)

    until pi stays. That is the highest point of the likelihood of the recordings times a Beta
    density of pi, there is only one. The Beta density counts as so many recordings of the
    training set: it keeps pi off 0 and 1, and at t where the recordings say nothing.

    Args:
        logits: [recordings, classes], of calibrated posteriors.
        training_prior: [classes], in (0, 1).
        pseudo_count: above 0, in recordings.

    Returns:
        [classes], in (0, 1).
    """
    logits = np.asarray(logits, float)
    training_prior = np.asarray(training_prior, float)
    likelihood_ratio = logits - logit(training_prior)
    prevalence = training_prior
    for _ in range(_MAX_STEPS):
        corrected = expit(likelihood_ratio + logit(prevalence))
        before = prevalence
        prevalence = corrected.sum(axis=0) + pseudo_count * training_prior
        prevalence = prevalence / (len(logits) + pseudo_count)
        if np.abs(prevalence - before).max(initial=0) < _TOLERANCE:
            return prevalence
    raise UserError(
        f"A prevalence must be found in {_MAX_STEPS} steps. It still changes: the scores hardly "
        "tell present from absent. Use a better run or a larger pseudo-count."
    )


def estimate_prior_shift(
    known: KnownRecordings,
    target: pd.DataFrame,
    runs: Sequence[RunFolder],
    shrinkage: float = DEFAULT_SHRINKAGE,
    pseudo_count: float = DEFAULT_PSEUDO_COUNT,
) -> PriorShift:
    """Calibrates the scores of runs and estimates the prevalences in other recordings.

    The training prior of a class is the share of its known-present recordings among its known
    ones, since that is what the calibration was fitted on: without shrinkage the mean of its
    posteriors. It says how annotations were drawn, not how common a species was.

    Args:
        known: held-out recordings of the runs.
        target: scores of the unlabelled recordings by the same runs, combined in the same way.
        runs: the members, for their classes.
        shrinkage: of `fit_calibration`.
        pseudo_count: of `estimate_prevalence`.

    Raises:
        UserError: as `fit_calibration` and `estimate_prevalence`, or if the target has other
            classes or scores outside [0, 1].
    """
    classes = runs[0].info.classes
    columns = [f"s{c.species_id}" for c in classes]
    _check_species(class_columns(target), columns, "the runs")
    scores = target[columns].to_numpy(float)
    _check_probabilities(scores)
    calibration = fit_calibration(known, shrinkage)
    present, absent = known.present.sum(axis=0), known.absent.sum(axis=0)
    both = (present > 0) & (absent > 0)
    prior = np.full(len(classes), np.nan)
    np.divide(present, present + absent, out=prior, where=both)
    prevalence = np.full(len(classes), np.nan)
    prevalence[both] = estimate_prevalence(
        calibration.logits(scores)[:, both], prior[both], pseudo_count
    )
    offset = np.where(both, logit(prevalence) - logit(prior), 0.0)
    species = pd.DataFrame(
        {
            "species_id": [c.species_id for c in classes],
            "name": [c.name for c in classes],
            "known_present": present,
            "known_absent": absent,
            "training_prior": prior,
            "prevalence": prevalence,
            "offset": offset,
        }
    )
    return PriorShift(species, calibration, len(target), shrinkage, pseudo_count)


def write_prior(
    path: str | Path,
    shift: PriorShift,
    runs: Sequence[RunFolder],
    weights: Sequence[float],
    scores_path: str | Path,
) -> None:
    """Writes a prior shift as YAML, with members, settings and a line of numbers a species."""
    names = member_names([run.path for run in runs])
    content = {
        "members": [
            {"run": name, "weight": round(float(weight), 4)}
            for name, weight in zip(names, weights, strict=True)
        ],
        "scores": str(scores_path),
        "recordings": shift.recordings,
        "settings": {"shrinkage": shift.shrinkage, "pseudo_count": shift.pseudo_count},
        "calibration": {"slope": round(shift.calibration.slope, 6)},
        "species": [
            {
                key: (None if math.isnan(value) else round(value, 6))
                if isinstance(value, float)
                else value
                for key, value in row.items()
            }
            for row in shift.species.to_dict("records")
        ],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    atomic_write_text(path, _HEADER + text)


def read_offsets(path: str | Path) -> dict[str, float]:
    """The logit offsets by class column, {"s0": -1.2, ...}, of a file of `write_prior`.

    Raises:
        UserError: if it cannot be read or is something else.
    """
    try:
        species = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["species"]
        offsets = {f"s{int(row['species_id'])}": float(row["offset"]) for row in species}
    except OSError as error:
        raise UserError(f"The prior {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        offsets, species = {}, []
    if not offsets or len(offsets) < len(species) or not all(map(math.isfinite, offsets.values())):
        raise UserError(
            "A prior is YAML with species, each once with a species_id and a finite offset, as "
            f"prior_shift.py writes it. {path} is not one."
        )
    return offsets


def apply_offsets(scores: pd.DataFrame, offsets: dict[str, float]) -> pd.DataFrame:
    """The scores table with sigmoid(logit(p) + offset of the class) for every score p.

    The order of recordings within a class stays; 0 stays 0 and 1 stays 1.

    Raises:
        UserError: if the scores have other classes, or one lies outside [0, 1].
    """
    columns = class_columns(scores)
    _check_species(columns, list(offsets), "the prior")
    values = scores[columns].to_numpy(float)
    _check_probabilities(values)
    shifted = scores.copy()
    shifted[columns] = expit(logit(values) + [offsets[column] for column in columns])
    return shifted


def _logits(scores: ArrayLike) -> np.ndarray:
    return logit(np.clip(scores, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))


def _check_species(given: list[str], wanted: list[str], whose: str) -> None:
    if set(given) != set(wanted):
        only_given = [column for column in given if column not in wanted]
        only_wanted = [column for column in wanted if column not in given]
        raise UserError(
            f"Scores and {whose} must have the same species. Only in the scores: "
            f"{first_few(only_given)}; only in {whose}: {first_few(only_wanted)}."
        )


def _check_probabilities(scores: np.ndarray) -> None:
    outside = scores[(scores < 0) | (scores > 1)]
    if outside.size:
        raise UserError(
            f"Scores must lie between 0 and 1 to have log odds. Found {outside[0]:g}. Use those "
            "that predict.py wrote."
        )
