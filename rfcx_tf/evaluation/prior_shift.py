"""Scores of unlabelled recordings -> prevalence of every species there, and shifts of its logits.

Every class is a binary problem of its own. Out-of-fold scores of annotated recordings are
calibrated (`fit_platt`), since the highest window score of a recording is no probability. The
prevalence in other recordings is found by expectation-maximisation (`estimate_prevalence`). The
difference of the log odds of both is added to logits. Both steps assume that only the prevalence
differs: present and absent calls have the same scores in both sets.

Reference:
    Saerens, Latinne, Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori
    probabilities: a simple procedure", Neural Computation 14.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from rfcx_tf.core.documents import DocumentError, read_yaml, sealed_yaml
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.species import check_same_columns
from rfcx_tf.evaluation.calibration_fit import fit_platt, logits_of
from rfcx_tf.evaluation.held_out import HeldOut
from rfcx_tf.scoring.score_table import class_columns

# Of `fit_platt`: log odds of species differ by about 1.
SHRINKAGE = 1.0
# Recordings that count as drawn with the training prior.
PSEUDO_COUNT = 1.0

_HEADER = "# Made by rfcx-tf prior-shift, for rfcx-tf predict --prior.\n"
# The change of a prevalence in one step at which it counts as found.
_TOLERANCE = 1e-9
_MAX_STEPS = 100_000


def estimate_prevalence(
    logits: ArrayLike, training_prior: ArrayLike, pseudo_count: float = PSEUDO_COUNT
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
    logits, training_prior = np.asarray(logits, float), np.asarray(training_prior, float)
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
        "tell present from absent. Use a better run."
    )


def known_recordings(held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Where a TP row names a class, and where only FP rows do; bool [recordings, classes] each.

    That a class of FP rows alone is nowhere in the recording is an *assumption*: an FP row
    certifies its box only. Where it fails, scores of absent classes look too high, and
    prevalences come out too low.
    """

    def named(kind: str) -> np.ndarray:
        rows = held_out.crops[held_out.crops["kind"] == kind]
        counts = pd.crosstab(rows["recording_id"], "s" + rows["species_id"].astype(str))
        ids = held_out.recordings["recording_id"]
        return counts.reindex(index=ids, columns=held_out.columns, fill_value=0).to_numpy() > 0

    present, of_crops = named("tp"), pd.DataFrame(held_out.absent, columns=held_out.columns)
    # Beside what FP rows say: in completely annotated recordings crops know what is absent.
    absent = of_crops.groupby(held_out.crops["recording_id"].to_numpy()).any()
    absent = absent.reindex(index=held_out.recordings["recording_id"], fill_value=False)
    return present, (named("fp") | absent.to_numpy(bool)) & ~present


def estimate_prior_shift(held_out: HeldOut, target: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Calibrates the scores of runs and estimates the prevalences in other recordings.

    The training prior of a class is the share of its known-present recordings among its known
    ones, since that is what the calibration was fitted on: without shrinkage the mean of its
    posteriors. It says how annotations were drawn, not how common a species was.

    Args:
        held_out: recordings that the runs held out.
        target: scores of the unlabelled recordings by the same runs, combined in the same way.

    Returns:
        species: DataFrame species_id, name, known_present and known_absent (recordings),
            training_prior, prevalence, offset (the difference of their log odds). A class that
            is never known present, or never absent, cannot be calibrated: prior and prevalence
            are NaN, the offset 0.
        slope: of the calibration.

    Raises:
        UserError: as `fit_platt` and `estimate_prevalence`, or if the target has other classes
            or scores outside [0, 1].
    """
    scores = _probabilities(target, held_out.columns, "the runs")
    present, absent = known_recordings(held_out)
    known_scores = held_out.recordings[held_out.columns].to_numpy(float)
    slope, intercepts = fit_platt(known_scores, present, absent, SHRINKAGE)
    logits = slope * logits_of(scores) + intercepts
    present, absent = present.sum(axis=0), absent.sum(axis=0)
    both = (present > 0) & (absent > 0)
    prior, prevalence = np.full((2, len(both)), np.nan)
    prior[both] = present[both] / (present + absent)[both]
    prevalence[both] = estimate_prevalence(logits[:, both], prior[both])
    species = pd.DataFrame(
        {
            "species_id": [int(column[1:]) for column in held_out.columns],
            "name": held_out.names,
            "known_present": present,
            "known_absent": absent,
            "training_prior": prior,
            "prevalence": prevalence,
            "offset": np.where(both, logit(prevalence) - logit(prior), 0.0),
        }
    )
    return species, slope


def write_prior(path: str | Path, species: pd.DataFrame, about: dict) -> None:
    """Writes a prior shift as sealed YAML: how it was made, then a line of numbers a species."""
    rounded = species.round(6).astype(object)
    rows = rounded.where(species.notna(), None).to_dict("records")
    text = yaml.safe_dump(about | {"species": rows}, sort_keys=False, allow_unicode=True)
    atomic_write_text(path, sealed_yaml(_HEADER + text))


def read_offsets(path: str | Path) -> dict[str, float]:
    """The logit offsets by class column, {"s0": -1.2, ...}, of a file of `write_prior`.

    Raises:
        UserError: if it cannot be read, is something else or damaged.
    """
    try:
        species = read_yaml(path, "The prior")["species"]
        offsets = {f"s{int(row['species_id'])}": float(row["offset"]) for row in species}
    except OSError as error:
        raise UserError(f"The prior {path} cannot be read: {error.strerror}.") from None
    except DocumentError:
        raise
    except (TypeError, KeyError, ValueError):
        offsets, species = {}, []
    if not offsets or len(offsets) < len(species) or not all(map(math.isfinite, offsets.values())):
        raise UserError(
            "A prior is YAML with species, each once with a species_id and a finite offset, as "
            f"rfcx-tf prior-shift writes it. {path} is not one."
        )
    return offsets


def apply_offsets(scores: pd.DataFrame, offsets: dict[str, float]) -> pd.DataFrame:
    """The scores table with sigmoid(logit(p) + offset of the class) for every score p.

    The order of recordings within a class stays; 0 stays 0 and 1 stays 1.

    Raises:
        UserError: if the scores have other classes, or one lies outside [0, 1].
    """
    columns = list(offsets)
    values = _probabilities(scores, columns, "the prior")
    shifted = scores.copy()
    shifted[columns] = expit(logit(values) + list(offsets.values()))
    return shifted


def _probabilities(scores: pd.DataFrame, columns: list[str], of: str) -> np.ndarray:
    """Scores [recordings, classes] in the order of `columns`, the class columns of `of`."""
    check_same_columns(
        f"The scores must have the classes of {of}.",
        *("the scores", class_columns(scores), of, columns),
    )
    values = scores[columns].to_numpy(float)
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise UserError(
            f"Scores must lie between 0 and 1 to have log odds. Found {outside[0]:g}. Use those "
            "that predict wrote."
        )
    return values
