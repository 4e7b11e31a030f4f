"""A long recording in overlapping pieces, and the pieces' window scores as one table again.

The windows near a border that a cut has made hear silence beyond it, and there PCEN has just
begun to adapt. So neighbouring pieces overlap, and of each only the windows are kept that are
far enough from its cuts. Pieces begin on the grid of the windows, so that window k of the
recording is the same sound in whichever piece it is scored.

Scores that differ from those of the whole recording: PCEN's memory fades as
exp(-overlap_s / time constant), 1e-11 for 10 s and a time constant of 0.4 s; and a network sees
some seconds around a window: ResNet34 2.4 s on each side at 48 kHz and a hop of 512; EfficientNets,
whose squeezes look at whole windows, much more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingScores, ScoringError


@dataclass(frozen=True)
class Cuts:
    """Where recordings are cut.

    Attributes:
        piece_samples: the longest piece; what is no longer stays whole.
        step_windows: windows that a piece between two others is kept for.
        before_windows: windows at its beginning that are not kept.
        hop_samples: distance of two windows.
    """

    piece_samples: int
    step_windows: int
    before_windows: int
    hop_samples: int

    @property
    def step_samples(self) -> int:
        """From the beginning of a piece to that of the next."""
        return self.step_windows * self.hop_samples

    def kept_windows(self, number: int, is_last: bool) -> slice:
        """Those of the windows of a piece that count."""
        first = 0 if number == 0 else self.before_windows
        return slice(first, None if is_last else self.before_windows + self.step_windows)


def plan_cuts(card: ModelCard, piece_s: float, overlap_s: float) -> Cuts:
    """Cuts for pieces of a length.

    Args:
        card: of a model that knows its windows.
        piece_s: longest piece.
        overlap_s: sound between a cut and the nearest window that is kept, at least.

    Raises:
        UserError: if a piece is too short to hold a window beside what overlaps.
    """
    rate_hz = card.sample_rate_hz
    hop_samples, window_samples = round(card.hop_s * rate_hz), round(card.window_s * rate_hz)
    piece_samples = math.floor(piece_s * rate_hz)
    margin_samples = math.ceil(overlap_s * rate_hz)
    before = math.ceil(margin_samples / hop_samples)
    # So many that the sound behind a whole piece, however short, ends the window of the next one
    # that is kept first.
    step = (piece_samples - window_samples - margin_samples) // hop_samples - before
    if step < 1:
        shortest = (before + 1) * hop_samples + window_samples + margin_samples
        raise UserError(
            "A piece must be longer than its overlap on both sides, a window and a step, "
            f"{shortest / rate_hz:.4g} s. Received: --chunk-s {piece_s:g}, "
            f"--overlap-s {overlap_s:g}."
        )
    return Cuts(piece_samples, step, before, hop_samples)


class Cutter:
    """Cuts a recording that comes in blocks, each piece as soon as its sound is there."""

    def __init__(self, cuts: Cuts | None):
        """Takes the cuts; None: the recording stays whole."""
        self._cuts = cuts
        self._waiting: list[np.ndarray] = []
        self._samples = 0

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Takes the next sound, float32 [samples]; yields the pieces that others follow."""
        self._waiting.append(block)
        self._samples += len(block)
        # A piece that the recording ends with is the last one, so one sample more must be there.
        while self._cuts and self._samples > self._cuts.piece_samples:
            sound = np.concatenate(self._waiting)
            self._waiting = [sound[self._cuts.step_samples :]]
            self._samples -= self._cuts.step_samples
            yield sound[: self._cuts.piece_samples]

    def finish(self) -> np.ndarray:
        """The last piece."""
        return np.concatenate(self._waiting)


def join_pieces(pieces: Sequence[RecordingScores], cuts: Cuts | None) -> RecordingScores:
    """Scores of a recording from those of its pieces, in order.

    The window scores are the kept windows. A recording's score is the maximum over windows of
    each of the model's folds, then the mean over folds; a server tells only the windows' means
    over folds, so for a recording in pieces it cannot be had exactly. What is taken, for each
    class, is the highest of the pieces' own scores; but where a piece's highest window is not
    kept, its score may come from a border, and its highest kept window stands for it. Beside
    differences at the borders that is exact for one fold, and for several at most the exact
    score. With a running mean or time shifts in the recipe (`prediction`), a kept window that
    stands for a piece is not averaged over time.

    Raises:
        ScoringError: if a piece has fewer windows than it must.
    """
    if len(pieces) == 1:
        return pieces[0]
    kept_windows, kept_boxes, highest = [], [], []
    for number, piece in enumerate(pieces):
        kept = cuts.kept_windows(number, number == len(pieces) - 1)
        own = piece.window_scores[kept]
        wanted = kept.start + 1 if kept.stop is None else kept.stop
        if len(piece.window_scores) < wanted:
            raise ScoringError(
                f"A piece of that length must have {wanted} windows or more. The model replied "
                f"with {len(piece.window_scores)}."
            )
        peak = own.max(axis=0)
        is_inside = peak >= piece.window_scores.max(axis=0)
        kept_windows.append(own)
        if piece.window_boxes is not None:
            kept_boxes.append(piece.window_boxes[kept])
        highest.append(np.where(is_inside, piece.scores, peak))
    boxes = np.concatenate(kept_boxes) if len(kept_boxes) == len(pieces) else None
    return RecordingScores(np.max(highest, axis=0), np.concatenate(kept_windows), boxes)
