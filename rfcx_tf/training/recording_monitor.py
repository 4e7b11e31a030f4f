"""Validation as the test is: sliding over whole held-out recordings, maximum over time."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from rfcx_tf.audio.decode import AudioError, read_audio
from rfcx_tf.core.config import Config
from rfcx_tf.core.threads import map_ahead
from rfcx_tf.evaluation.metrics import lwlrap
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.shards.records import ShardReader

_DECODING_THREADS = os.cpu_count() or 1


def recording_labels(
    rows: pd.DataFrame, recording_ids: list[str], species_ids: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What the rows of a recording say about the whole of it.

    A species with a TP row is present. One with FP rows alone counts as absent: its best
    template matches were rejected, which makes it unlikely anywhere. The rest is unknown.

    Args:
        rows: recording_id, kind (`tp` or `fp`), species_id.
        recording_ids, species_ids: order of the rows and columns of the result.

    Returns:
        present, known: bool [recordings, species].
    """
    counts = {
        kind: pd.crosstab(rows.loc[rows["kind"] == kind, "recording_id"], rows["species_id"])
        .reindex(index=recording_ids, columns=species_ids, fill_value=0)
        .to_numpy()
        > 0
        for kind in ("tp", "fp")
    }
    return counts["tp"], counts["tp"] | counts["fp"]


def masked_lwlrap(present: np.ndarray, known: np.ndarray, scores: np.ndarray) -> float:
    """LWLRAP in which unknown classes take no part in the ranking; all [recordings, classes]."""
    return lwlrap(present, np.where(known, scores, -np.inf))


class RecordingMonitor(keras.callbacks.Callback):
    """Adds `val_recording_lwlrap`: masked LWLRAP of the held-out recordings.

    Their spectrograms are made once and kept in memory as float16 (1.4 MB for a minute at 48
    kHz). Recordings that cannot be read are left out.
    """

    def __init__(self, reader: ShardReader, config: Config, fold: int, data_dir: Path | None):
        super().__init__()
        manifest = reader.manifest
        sources = manifest.audio_sources(fold, data_dir)
        annotated = reader.index.iloc[reader.rows([fold], "tp", "fp")]
        names = [name for name in sources if name in set(annotated["recording_id"])]
        front_end = FrontEnd(config.frontend)
        transform = tf.function(front_end, [tf.TensorSpec([None, None], tf.float32)])

        def spectrogram(name):
            try:
                waveform = read_audio(sources[name], config.frontend.sample_rate_hz)
            except AudioError:
                return None
            shortest = config.crop_frames * config.frontend.hop_length
            waveform = np.pad(waveform, (0, max(0, shortest - len(waveform))))
            return transform(waveform[None])[0].numpy().astype(np.float16)

        made = dict(zip(names, map_ahead(spectrogram, names, _DECODING_THREADS), strict=True))
        self._spectrograms = {name: s for name, s in made.items() if s is not None}
        self._present, self._known = recording_labels(
            annotated, list(self._spectrograms), [c.species_id for c in manifest.classes]
        )
        self._score = None

    def on_epoch_end(self, epoch, logs=None):
        if not self._spectrograms:
            logs["val_recording_lwlrap"] = float("nan")
            return
        if self._score is None:
            bands = next(iter(self._spectrograms.values())).shape[1]

            def score(spectrogram):
                logits = self.model.detector(spectrogram, training=False)
                return tf.reduce_max(logits, axis=1)[0]

            self._score = tf.function(score, [tf.TensorSpec([1, None, bands], tf.float32)])
        scores = [
            self._score(spectrogram[None].astype(np.float32)).numpy()
            for spectrogram in self._spectrograms.values()
        ]
        logs["val_recording_lwlrap"] = masked_lwlrap(self._present, self._known, np.stack(scores))
