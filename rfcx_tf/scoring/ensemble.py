"""Several scorers as one.

A member is a run, averaged over its own folds. There are two rules:

    mean     the weighted mean of the members' scores.
    window   the highest weighted mean of the members' window scores. Members that hear a class
             at the same time count for more than members that hear it at different times.
             Windows of different length or distance are compared at the centres of the
             closest-set ones, linear in between.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import check_same_classes
from rfcx_tf.core.windows import at_times
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.detector import BOXES, mean_boxes
from rfcx_tf.scoring.ensemble_weights import combine_scores
from rfcx_tf.scoring.scorer import RecordingScores, Scorer, Sound


class EnsembleScorer(tf.Module):
    """Scores by several members; of detectors it is one TensorFlow function too.

    Attributes:
        card: of the ensemble. Its windows are those of the member whose windows lie closest;
            usual lengths and bands are those of the first member that knows them. It is not
            calibrated, unless there is one member.
        members, weights, rule: as given; the weights have sum 1.
        sample_rates_hz, at_once: see `Scorer`.
    """

    def __init__(
        self,
        members: Sequence[Scorer],
        weights: Sequence[float] | None = None,
        rule: str = "mean",
    ):
        """Joins scorers of one class list.

        Args:
            members: the scorers.
            weights: of the members, with sum 1; None for equal ones.
            rule: `mean` or `window`.

        Raises:
            UserError: if classes differ, or the rule `window` meets a member that does more than
                take its highest window.
        """
        super().__init__(name="ensemble_scorer")
        self.members = list(members)
        self.weights = [1 / len(members)] * len(members) if weights is None else list(weights)
        self.rule = rule
        cards = [member.card for member in members]
        check_same_classes([(card.made_by, card.classes) for card in cards])
        smoothed = next((card for card in cards if card.smoothing), None)
        if rule == "window" and smoothed:
            raise UserError(
                "The highest mean of windows is of the members' windows as they are. "
                f"{smoothed.made_by} has {smoothed.smoothing}. Combine it by another rule, or "
                "predict with 0 and 1."
            )
        # Of equally close windows those of the first.
        self._closest = min(range(len(cards)), key=lambda i: cards[i].hop_s)
        base = cards[self._closest]
        knows = next((c for c in cards if not all(map(math.isnan, c.mean_box_s))), base)
        self.card = base.replace(
            mean_box_s=knows.mean_box_s,
            box_hz=knows.box_hz,
            calibration=base.calibration if len(cards) == 1 else None,
            frontend=" ".join(sorted({card.frontend for card in cards})),
            made_by=", ".join(card.made_by for card in cards),
        )
        self.sample_rates_hz = tuple(
            sorted({rate for member in members for rate in member.sample_rates_hz})
        )
        self.at_once = max(member.at_once for member in members)

    def stream(self, recording_id: str | None = None) -> _EnsembleStream:
        """See `Scorer`."""
        return _EnsembleStream(self, [m.stream(recording_id) for m in self.members])

    def combine(self, outputs: Sequence[RecordingScores]) -> RecordingScores:
        """The ensemble's scores of a recording from those of its members."""
        windows = None
        if all(output.window_scores is not None for output in outputs):
            windows = combine_scores(self.align([o.window_scores for o in outputs]), self.weights)
        boxes = self._combine_boxes(outputs) if windows is not None else None
        if self.rule == "window":
            return RecordingScores(windows.max(axis=0), windows, boxes)
        scores = combine_scores([o.scores for o in outputs], self.weights)
        return RecordingScores(scores, windows, boxes)

    def _combine_boxes(self, outputs: Sequence[RecordingScores]) -> np.ndarray | None:
        """Boxes of the card's windows, of those members that have some; None if none has."""
        count = len(outputs[self._closest].window_scores)
        boxes, weights = [], []
        for member, weight, output in zip(self.members, self.weights, outputs, strict=True):
            if output.window_boxes is None:
                continue
            own, card = member.card, self.card
            nearest = nearest_windows(own.centres_s(len(output.window_scores)), card, count)
            columns = np.arange(len(card.classes))
            found = output.window_boxes[nearest, columns].astype(np.float64)
            moved_s = nearest * own.hop_s - np.arange(count)[:, np.newaxis] * card.hop_s
            found[..., :2] += moved_s[..., np.newaxis]
            boxes.append(found)
            weights.append(weight * output.window_scores[nearest, columns])
        if not boxes:
            return None
        return mean_boxes(np.float32(boxes), np.float32(weights)).numpy()

    def align(self, windows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Window scores of all members [windows, classes], at the centres of the card's windows."""
        count = len(windows[self._closest])

        def aligned(own: np.ndarray, card: ModelCard) -> np.ndarray:
            if len(own) == count and card.same_windows(self.card):
                return own
            return at_times(card.centres_s(len(own)), own, self.card.centres_s(count))

        return [aligned(own, m.card) for own, m in zip(windows, self.members, strict=True)]

    # What follows is for an export.

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """As `DetectorScorer.score_waveform`; window scores are weighted means by every rule."""
        return self._combine_outputs([member.score_waveform(waveform) for member in self.members])

    def scores(self, spectrogram) -> dict[str, tf.Tensor]:
        """The same, of spectrograms [batch, frames, bands] of the one front end."""
        return self._combine_outputs([member.scores(spectrogram) for member in self.members])

    @functools.cached_property
    def exported_state(self) -> list:
        """Of all members, what a SavedModel has to keep."""
        return [state for member in self.members for state in member.exported_state]

    def _combine_outputs(self, outputs: list[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        windows = combine_scores([o["window_scores"] for o in outputs], self.weights)
        if self.rule == "window":
            scores = tf.reduce_max(windows, axis=1)
        else:
            scores = combine_scores([output["scores"] for output in outputs], self.weights)
        combined = {
            "scores": scores,
            "window_scores": windows,
            "window_start_s": outputs[0]["window_start_s"],
        }
        with_boxes = [(o, w) for o, w in zip(outputs, self.weights, strict=True) if BOXES in o]
        if with_boxes:
            boxes = tf.stack([output[BOXES] for output, _ in with_boxes])
            weights = tf.stack([weight * output["window_scores"] for output, weight in with_boxes])
            combined[BOXES] = mean_boxes(boxes, weights)
        return combined


def nearest_windows(own_s: np.ndarray, card: ModelCard, count: int) -> np.ndarray:
    """Of every window of a card the window of a member whose centre is nearest.

    Args:
        own_s: centres of the member's windows [given, classes], ascending.
        card: whose first `count` windows are looked for.

    Returns:
        int64 [count, classes].
    """
    middles_s = (own_s[1:] + own_s[:-1]) / 2
    centres_s = card.centres_s(count)
    columns = [np.searchsorted(m, c) for m, c in zip(middles_s.T, centres_s.T, strict=True)]
    return np.stack(columns, axis=1)


class _EnsembleStream:
    """One recording through all members."""

    def __init__(self, scorer: EnsembleScorer, streams: list):
        self._scorer = scorer
        self._streams = streams

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        for stream in self._streams:
            stream.push(sound)

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        return self._scorer.combine([stream.finish() for stream in self._streams])
