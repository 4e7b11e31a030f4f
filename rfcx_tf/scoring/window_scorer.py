"""Folds of a run as a function from an annotated recording to its window scores."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from rfcx_tf.audio.decode import AudioSource, read_audio
from rfcx_tf.runs.embeddings import read_windows
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.detector import load_recording_model


class WindowScorer:
    """Scores the windows of recordings, in one pass each.

    Attributes:
        model: of the run.
    """

    def __init__(self, run: RunFolder | ListenerRun, folds: list[int] | None, shards_id: str):
        """Loads a run.

        Args:
            run: our own or a listener's.
            folds: whose detectors score; None: all finished ones.
            shards_id: of the shards whose recordings are scored. A listener that was trained on
                them has kept what it made of their recordings, and does not hear them again.

        Raises:
            UserError: if the model cannot be loaded.
        """
        self._kept = None
        if isinstance(run, RunFolder):
            self.model = load_recording_model(run, folds)
            signature = [tf.TensorSpec([1, None], tf.float32)]
            self._score = tf.function(self.model.score_waveform, signature)
        else:
            self.model = run.load(folds)
            self._score = self.model.score_waveform
            if run.info.shards_id == shards_id:
                self._kept = functools.partial(read_windows, run.embeddings, run.embeddings_key)

    def window_scores(
        self, source: AudioSource, recording_id: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begins in seconds [windows] and scores [windows, classes] of a recording's windows.

        Args:
            source: the recording.
            recording_id: its name in the shards; None if it is not in them.

        Raises:
            AudioError: if the recording cannot be read.
        """
        kept = self._kept(recording_id) if self._kept and recording_id is not None else None
        if kept:
            outputs = self.model.score_embeddings(*kept)
        else:
            outputs = self._score(read_audio(source, self.model.sample_rate_hz)[None])
        return np.asarray(outputs["window_start_s"]), np.asarray(outputs["window_scores"][0])
