"""A SavedModel of ours in this process as a scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.pieces import Cutter, join_pieces, plan_cuts
from rfcx_tf.scoring.scorer import RecordingScores, Sound

# As the client of a server cuts long recordings.
_PIECE_S = 300.0
_OVERLAP_S = 10.0


class ExportedScorer:
    """Scores by an exported model, long recordings in overlapping pieces.

    Attributes:
        card, sample_rates_hz, at_once: see `Scorer`.
        cuts: where longer recordings are cut.
    """

    at_once = 1

    def __init__(self, folder: str | Path):
        """Loads a model.

        Args:
            folder: of numbered versions, of which the newest is taken, or of one of them.

        Raises:
            UserError: if it is no SavedModel of ours, or one of an earlier version.
        """
        folder = Path(folder)
        versions = [path for path in folder.glob("[0-9]*") if path.name.isdecimal()]
        newest = max(versions, key=lambda path: int(path.name), default=folder)
        try:
            card = (newest / "assets" / "card.json").read_text(encoding="utf-8")
            # What is loaded has to stay, or its variables go.
            self._model = tf.saved_model.load(str(newest))
            self._score = self._model.signatures["serving_default"]
        except (OSError, ValueError, KeyError, tf.errors.OpError):
            raise UserError(
                "An exported model is a folder with a SavedModel and its card, made by "
                f"rfcx-tf export. {newest} is not one. Export it again."
            ) from None
        self.card = ModelCard.from_json(card).replace(made_by=str(newest))
        self.sample_rates_hz = (self.card.sample_rate_hz,)
        self.cuts = plan_cuts(self.card, _PIECE_S, _OVERLAP_S)

    def stream(self, recording_id: str | None = None) -> ExportedStream:
        """See `Scorer`."""
        return ExportedStream(self)

    def score_piece(self, waveform: np.ndarray) -> RecordingScores:
        """Scores of one piece, float32 [samples]."""
        outputs = self._score(waveform=tf.constant(waveform[np.newaxis]))
        # Models of earlier versions give no boxes.
        names = [n for n in ("scores", "window_scores", "window_boxes") if n in outputs]
        return RecordingScores(**{name: outputs[name][0].numpy() for name in names})


class ExportedStream:
    """One recording through an `ExportedScorer`."""

    def __init__(self, scorer: ExportedScorer):
        self._scorer = scorer
        self._cutter = Cutter(scorer.cuts)
        self._pieces: list[RecordingScores] = []

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        for piece in self._cutter.push(sound[self._scorer.card.sample_rate_hz]):
            self._pieces.append(self._scorer.score_piece(piece))

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        self._pieces.append(self._scorer.score_piece(self._cutter.finish()))
        return join_pieces(self._pieces, self._scorer.cuts)
