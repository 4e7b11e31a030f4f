"""Validation as the test is: sliding over whole held-out recordings, maximum over time."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from rfcx_tf.core.config import Config
from rfcx_tf.evaluation.metrics import lwlrap
from rfcx_tf.labels.complete import Complete
from rfcx_tf.scoring.detector import DetectorScorer, detector_card
from rfcx_tf.scoring.scorer import RecordingResult, score_recordings
from rfcx_tf.shards.records import ShardReader


def recording_labels(
    rows: pd.DataFrame, complete: Complete, recording_ids: list[str], species_ids: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What the rows of a recording say about the whole of it.

    A species with a TP row is present. One of which all calls are marked and there is none is
    absent. One with FP rows alone counts as absent: its best template matches were rejected, which
    makes it unlikely anywhere. The rest is unknown.

    Args:
        rows: recording_id, kind (`tp` or `fp`), species_id.
        complete: species of which all calls are marked, by recording.
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
    marked = [np.isin(species_ids, complete.get(name, ())) for name in recording_ids]
    return counts["tp"], counts["tp"] | counts["fp"] | np.array(marked, bool)


def masked_lwlrap(present: np.ndarray, known: np.ndarray, scores: np.ndarray) -> float:
    """LWLRAP in which unknown classes take no part in the ranking; all [recordings, classes]."""
    return lwlrap(present, np.where(known, scores, -np.inf))


class RecordingMonitor(keras.callbacks.Callback):
    """Adds `val_recording_lwlrap`: masked LWLRAP of the held-out recordings.

    They are scored as at prediction, by the network as it is. Recordings that cannot be read are
    left out.
    """

    def __init__(self, reader: ShardReader, config: Config, fold: int, data_dir: Path | None):
        super().__init__()
        self._config, self._manifest = config, reader.manifest
        sources = reader.manifest.audio_sources(fold, data_dir)
        self._rows = reader.index.iloc[reader.rows([fold], "tp", "fp")]
        annotated = set(self._rows["recording_id"]) | self._manifest.complete.keys()
        self._sources = {name: sources[name] for name in sources if name in annotated}
        self._scorer: DetectorScorer | None = None

    def on_epoch_end(self, epoch, logs=None):
        if self._scorer is None:
            of = self._manifest
            card = detector_card(self._config, of.classes, of.mean_box_s, of.box_hz)
            self._scorer = DetectorScorer(self._config, card, [self.model.detector])
        scores = {
            name: result.scores
            for name, result in score_recordings(self._scorer, self._sources, progress=False)
            if isinstance(result, RecordingResult)
        }
        if not scores:
            logs["val_recording_lwlrap"] = float("nan")
            return
        species_ids = [c.species_id for c in self._manifest.classes]
        present, known = recording_labels(
            self._rows, self._manifest.complete, list(scores), species_ids
        )
        logs["val_recording_lwlrap"] = masked_lwlrap(
            present, known, np.stack(list(scores.values()))
        )
