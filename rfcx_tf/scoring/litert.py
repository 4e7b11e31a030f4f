"""A LiteRT file in, window scores of recordings out: what a device does, in Python.

The model's input has a fixed length, so a recording is scored in overlapping pieces, such that
their windows follow each other without a gap.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rfcx_tf.serving.litert import read_metadata


class LiteRtModel:
    """A model of `export_litert.py` in TensorFlow's interpreter.

    Attributes:
        metadata: see `rfcx_tf.serving.litert.litert_metadata`.
    """

    def __init__(self, content: bytes, threads: int = 1):
        """Prepares a file's contents.

        Raises:
            UserError: if it is not a file of ours.
        """
        self.metadata = read_metadata(content)
        self._interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
        self._run = self._interpreter.get_signature_runner(self.metadata["signature"])

    def score_piece(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """One pass of the model.

        Args:
            waveform: float32 [samples], exactly as many as the model takes.

        Returns:
            scores [classes], window_scores [windows, classes], window_start_s [windows].
        """
        if waveform.shape != (self.metadata["samples"],):
            raise ValueError(
                f"A piece must have {self.metadata['samples']} samples. "
                f"Received: shape={waveform.shape}."
            )
        outputs = self._run(waveform=waveform[np.newaxis].astype(np.float32, copy=False))
        start_s = outputs.pop("window_start_s")
        return {name: value[0] for name, value in outputs.items()} | {"window_start_s": start_s}

    def score_recording(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """A recording of any length, piece by piece.

        The network sees up to a window's length beyond a piece's borders as nothing, where a
        single pass would see sound; scores differ by that. A recording that ends inside a
        piece is mirrored at its end, and windows that begin there are left out.

        Args:
            waveform: float32 [samples] in [-1, 1] at the model's sample rate; at least one.

        Returns:
            as `score_piece`, with the windows that one pass over the whole has. The scores are
            the highest window scores, after the running mean if the run has one.
        """
        known = self.metadata
        hop, windows_a_piece = known["hop_samples"], known["windows"]
        windows = max(1, len(waveform) // hop - known["window_hops"] + 2)
        # The last piece lies where the recording ends, and overlaps the one before it.
        last = max(0, windows - windows_a_piece)
        parts = []
        for first in [*range(0, last, windows_a_piece), last]:
            piece = waveform[first * hop : first * hop + known["samples"]]
            missing = known["samples"] - len(piece)
            piece = np.pad(piece, (0, missing), mode="symmetric")
            scored = sum(len(part) for part in parts)
            parts.append(self.score_piece(piece)["window_scores"][scored - first :])
        window_scores = np.concatenate(parts)[:windows]
        smoothed = tf.nn.avg_pool1d(
            window_scores[np.newaxis], known["running_mean_windows"], 1, "SAME"
        )
        return {
            "scores": smoothed[0].numpy().max(axis=0),
            "window_scores": window_scores,
            "window_start_s": np.float32(known["hop_s"] * np.arange(windows)),
        }
