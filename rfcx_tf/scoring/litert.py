"""A LiteRT file as a scorer: what a device does, in Python.

The model's input has a fixed length, so a recording is scored in pieces whose windows follow each
other without a gap. The network sees up to a window's length beyond a piece's borders as nothing,
where a single pass would see sound; scores differ by that. The last piece lies where the recording
ends and overlaps the one before it. A recording that is shorter than a piece is mirrored at its
end, and windows that begin there are left out.
"""

from __future__ import annotations

import json

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from rfcx_tf.core.documents import parse_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.litert_interpreter import Interpreter
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.running_mean import RunningMaximum
from rfcx_tf.scoring.scorer import RecordingScores, Sound

# Under this name a file holds what its model is: JSON with the card and the input's length.
METADATA_NAME = "rfcx_tf"


class LiteRtScorer:
    """A model of `rfcx_tf.serving.litert` in LiteRT's interpreter.

    Attributes:
        metadata: what is known of it.
        card, sample_rates_hz, at_once: see `Scorer`.
    """

    at_once = 1

    def __init__(self, content: bytes, threads: int = 1):
        """Prepares a file's contents.

        Raises:
            UserError: if it is not a file of ours, or one of an earlier version.
        """
        self.metadata = read_metadata(content)
        if "card" not in self.metadata:
            raise UserError(
                "A LiteRT model must hold the card of its model. This one is of an earlier version "
                "of rfcx-tf. Export it again."
            )
        self.card = ModelCard.from_json(json.dumps(self.metadata["card"]))
        self.sample_rates_hz = (self.card.sample_rate_hz,)
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._run = self._interpreter.get_signature_runner(self.metadata["signature"])

    def stream(self, recording_id: str | None = None) -> LiteRtStream:
        """See `Scorer`."""
        return LiteRtStream(self)

    def score_piece(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """One pass of the model.

        Args:
            waveform: float32 [samples], exactly as many as the model takes.

        Returns:
            scores [classes], window_scores [windows, classes], window_boxes [windows, classes, 4]
            but from models of earlier versions, window_start_s [windows].
        """
        if waveform.shape != (self.metadata["samples"],):
            raise ValueError(
                f"A piece must have {self.metadata['samples']} samples. "
                f"Received: shape={waveform.shape}."
            )
        outputs = self._run(waveform=waveform[np.newaxis].astype(np.float32, copy=False))
        start_s = outputs.pop("window_start_s")
        return {name: value[0] for name, value in outputs.items()} | {"window_start_s": start_s}


class LiteRtStream:
    """One recording through a `LiteRtScorer`."""

    def __init__(self, scorer: LiteRtScorer):
        self._scorer = scorer
        self._known = scorer.metadata
        self._samples = 0
        # Sound from the window on that the last piece may begin with.
        self._waiting, self._waits_from = np.zeros(0, np.float32), 0
        self._scored = 0
        self._window_scores: list[np.ndarray] = []
        self._window_boxes: list[np.ndarray] = []
        self._maximum = RunningMaximum(self._known["running_mean_windows"])

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        samples = sound[self._scorer.card.sample_rate_hz]
        self._samples += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        # The last piece begins behind this one, however the recording goes on.
        while self._last_piece() > self._scored:
            begins = self._scored
            self._score(begins, last=False)
            kept = begins + 1
            self._waiting = self._waiting[(kept - self._waits_from) * self._known["hop_samples"] :]
            self._waits_from = kept

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        self._score(self._last_piece(), last=True)
        boxes = np.concatenate(self._window_boxes) if self._window_boxes else None
        return RecordingScores(self._maximum.highest, np.concatenate(self._window_scores), boxes)

    def _windows(self) -> int:
        """Windows of the sound so far."""
        return max(1, self._samples // self._known["hop_samples"] - self._known["window_hops"] + 2)

    def _last_piece(self) -> int:
        """The window that the last piece begins with, if the recording ends here."""
        return max(0, self._windows() - self._known["windows"])

    def _score(self, first: int, last: bool) -> None:
        """Scores the piece that begins with this window, and takes its windows that are new."""
        begin = (first - self._waits_from) * self._known["hop_samples"]
        piece = self._waiting[begin : begin + self._known["samples"]]
        piece = np.pad(piece, (0, self._known["samples"] - len(piece)), mode="symmetric")
        outputs = self._scorer.score_piece(piece)
        is_new = slice(self._scored - first, self._windows() - first)
        new = outputs["window_scores"][is_new]
        self._window_scores.append(new)
        if "window_boxes" in outputs:
            self._window_boxes.append(outputs["window_boxes"][is_new])
        self._maximum.push(new[np.newaxis], last)
        self._scored += len(new)


def read_metadata(content: bytes) -> dict:
    """What a LiteRT file says of its model, see `rfcx_tf.serving.litert.litert_metadata`.

    Raises:
        UserError: if it says nothing, or is damaged.
    """
    if content[4:8] == b"TFL3":
        model = schema.Model.GetRootAsModel(content, 0)
        for entry in (model.Metadata(i) for i in range(model.MetadataLength())):
            if entry.Name() == METADATA_NAME.encode():
                try:
                    return parse_json(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
                except ValueError as error:
                    raise UserError(
                        f"A LiteRT model's metadata must be as rfcx-tf export wrote it: {error}. "
                        "Export it again."
                    ) from None
    raise UserError(
        f"A LiteRT model must hold the metadata `{METADATA_NAME}`, which rfcx-tf export writes. "
        "This one does not."
    )
