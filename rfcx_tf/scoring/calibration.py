"""Scores -> probabilities, class by class, and the probability at which a class is detected.

A *score* is what the network gives: of a window, or the highest of a recording's windows. A
calibration makes of a score the probability that a candidate box of an annotator, in a window
with this score, is a TP and not an FP. Candidates mix as they do in the annotations it was fitted
on (`rfcx_tf.evaluation.calibration_fit`). In continuous recordings most windows have no candidate
at all, so the share of detections that are right is lower there. It is lower again for whole
recordings, whose score is the highest of many windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from rfcx_tf.core.documents import DocumentError, read_yaml, sealed_yaml
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.species import check_same_columns
from rfcx_tf.scoring.score_table import class_columns

# Logits of scores end here: a score of 2e-9 or less counts as 2e-9, and likewise near 1.
LARGEST_LOGIT = 20.0

_HEADER = "# Made by rfcx-tf calibrate: scores to probabilities, and thresholds of these.\n"
# The bits of a float32 in [0, 1], as an integer, are in the order of the numbers.
_BITS_OF_ONE = int(np.float32(1).view(np.int32))


@dataclass(frozen=True)
class Calibration:
    """A map from score to probability for every class, and a threshold of the probability.

    A map is piecewise linear from the logit of the score to that of the probability. Logits of
    scores are clipped to +-20; beyond the end knots the probability stays what it is there.

    Attributes:
        columns: s<species_id>, in the classes' order.
        score_logits: float32 [classes, knots], increasing in every class.
        probability_logits: float32 [classes, knots], non-decreasing in every class.
        thresholds: float32 [classes], the probability from which a class counts as detected.
        rows: of every class: name, method (platt; field: of verdicts; pooled: the map of all
            classes together; older files: isotonic), present and absent (known labels of held-out
            crops, or verdicts), note.
        wanted: what the thresholds were chosen for, such as "precision 0.9".
        members: of every run whose scores were averaged: run (name of its folder), weight, folds.
    """

    columns: list[str]
    score_logits: np.ndarray
    probability_logits: np.ndarray
    thresholds: np.ndarray
    rows: list[dict]
    wanted: str
    members: list[dict] = field(default_factory=list)

    def probabilities(self, scores: ArrayLike) -> np.ndarray:
        """Probabilities of scores, float32 [..., classes] -> float32 [..., classes].

        A higher score of a class never has a lower probability.

        Raises:
            ValueError: if the last axis is not that of the classes.
        """
        scores = np.asarray(scores, np.float64)
        if scores.shape[-1:] != (len(self.columns),):
            raise ValueError(
                f"Scores must be [..., {len(self.columns)} classes]. Received: {scores.shape}."
            )
        probabilities = np.empty(scores.shape, np.float32)
        for c, (x, y) in enumerate(zip(self.score_logits, self.probability_logits, strict=True)):
            probabilities[..., c] = map_scores(scores[..., c], x, y)
        return probabilities

    def score_thresholds(self) -> np.ndarray:
        """The thresholds in units of scores, float32 [classes].

        The lowest float32 score of each class whose probability reaches the threshold, so for
        float32 scores `scores >= score_thresholds()` and `probabilities(scores) >= thresholds`
        are the same. Just above 1 where no score reaches it.
        """
        low = np.zeros(len(self.columns), np.int64)
        high = np.full(len(self.columns), _BITS_OF_ONE + 1)
        while (low < high).any():
            middle = (low + high) // 2
            score = middle.astype(np.int32).view(np.float32)
            reached = self.probabilities(score) >= self.thresholds
            high = np.where(reached, middle, high)
            low = np.where(reached, low, np.minimum(middle + 1, high))
        return high.astype(np.int32).view(np.float32)


def map_scores(
    scores: ArrayLike, score_logits: np.ndarray, probability_logits: np.ndarray
) -> np.ndarray:
    """Probabilities of scores [...] of one class by its map [knots], float32 [...].

    A score beyond 0 or 1 counts as that: a weighted mean of scores can exceed 1 by rounding.
    """
    logits = logit(np.clip(np.asarray(scores, np.float64), 0, 1))
    logits = logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT)
    return expit(np.interp(logits, score_logits, probability_logits)).astype(np.float32)


def write_calibration(calibration: Calibration, path: str | Path) -> None:
    """Writes a calibration as sealed YAML in one step, with every digit."""
    text = yaml.safe_dump(
        calibration_content(calibration),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
    )
    atomic_write_text(path, sealed_yaml(_HEADER + text))


def calibration_content(calibration: Calibration) -> dict:
    """A calibration as plain values, for YAML and JSON, with every digit."""
    classes = [
        {
            "class": column,
            **row,
            "threshold": _shortest(threshold),
            "score_logits": [_shortest(x) for x in score_logits],
            "probability_logits": [_shortest(y) for y in probability_logits],
        }
        for column, row, threshold, score_logits, probability_logits in zip(
            calibration.columns,
            calibration.rows,
            calibration.thresholds,
            calibration.score_logits,
            calibration.probability_logits,
            strict=True,
        )
    ]
    return {"wanted": calibration.wanted, "members": calibration.members, "classes": classes}


def read_calibration(path: str | Path, columns: Sequence[str] | None = None) -> Calibration:
    """Reads a file of `write_calibration`.

    Args:
        path: the file.
        columns: s<species_id> of the scores that it is for; None if anything will do.

    Raises:
        UserError: if it cannot be read, is something else or damaged, or is of other classes.
    """
    try:
        calibration = calibration_from_content(read_yaml(path, "The calibration"))
    except OSError as error:
        raise UserError(f"The calibration {path} cannot be read: {error.strerror}.") from None
    except DocumentError:
        raise
    except (AttributeError, TypeError, KeyError, ValueError):
        raise UserError(
            "A calibration is YAML with classes, each once, with a threshold in [0, 1] and "
            "rising score_logits and probability_logits, as rfcx-tf calibrate writes it. "
            f"{path} is not one."
        ) from None
    if columns is not None:
        check_same_columns(
            "A calibration must have the classes of the scores that it is used for, in their "
            "order. Make it anew with rfcx-tf calibrate.",
            *(str(path), calibration.columns, "the scores", columns),
            in_order=True,
        )
    return calibration


def calibration_from_content(content: dict) -> Calibration:
    """A calibration of `calibration_content`; errors of Python where it is something else."""
    classes = content["classes"]
    own = ("class", "threshold", "score_logits", "probability_logits")
    calibration = Calibration(
        columns=[str(entry["class"]) for entry in classes],
        score_logits=np.array([entry["score_logits"] for entry in classes], np.float32),
        probability_logits=np.array([entry["probability_logits"] for entry in classes], np.float32),
        thresholds=np.array([entry["threshold"] for entry in classes], np.float32),
        rows=[{key: entry[key] for key in entry if key not in own} for entry in classes],
        wanted=str(content["wanted"]),
        members=list(content["members"]),
    )
    if not _is_valid(calibration):
        raise ValueError("a calibration has rising maps and thresholds in [0, 1]")
    return calibration


def _is_valid(calibration: Calibration) -> bool:
    x, y = calibration.score_logits, calibration.probability_logits
    thresholds, columns = calibration.thresholds, calibration.columns
    return bool(
        x.ndim == 2
        and x.shape == y.shape
        and x.shape[0] == len(columns) == len(set(columns)) == thresholds.size > 0
        and x.shape[1] > 0
        and thresholds.ndim == 1
        and class_columns(columns) == columns
        and all(np.isfinite(values).all() for values in (x, y, thresholds))
        and (np.diff(x) > 0).all()
        and (np.diff(y) >= 0).all()
        and ((thresholds >= 0) & (thresholds <= 1)).all()
    )


def _shortest(value: np.float32) -> float:
    """The number with the fewest digits that is this float32 again once it is read."""
    return float(str(np.float32(value)))
