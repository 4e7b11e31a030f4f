"""Recordings and a scorer in, one row of scores for every recording out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.decode import AudioSource, SoundRemark
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.journal import Journal, recording_key
from rfcx_tf.scoring.scorer import RecordingResult, Scorer, score_recordings


@dataclass(frozen=True)
class Predictions:
    """Scores of a batch of recordings.

    Attributes:
        scores: DataFrame recording_id, s<species_id>..., a row a recording, in [0, 1].
        failed: why recordings could not be scored, one line each, by recording id.
        remarks: what is to be said of the sound of those that were, by recording id.
    """

    scores: pd.DataFrame
    failed: dict[str, str]
    remarks: dict[str, Sequence[SoundRemark]] = field(default_factory=dict)

    def remarks_where(self, is_cut: bool) -> list[str]:
        """The remarks on recordings that were scored as far as they go, or on the others."""
        said = (remark for remarks in self.remarks.values() for remark in remarks)
        return [remark.text for remark in said if remark.is_cut == is_cut]


def predict_recordings(
    scorer: Scorer,
    recordings: Mapping[str, AudioSource | Path],
    *,
    journal: Journal | None = None,
    keep_windows: bool = False,
    progress: bool = True,
) -> Predictions:
    """Scores recordings; goes on past those that cannot be read or scored.

    Args:
        scorer: of any kind.
        recordings: audio by recording id.
        journal: keeps the result of every recording as soon as it is there; what it holds
            already is not scored again.
        keep_windows: whether it keeps window scores as well.
        progress: whether to show a progress bar.

    Returns:
        The scores in the order of the recordings, and what failed.
    """
    keys = {name: recording_key(name, source) for name, source in recordings.items()}
    rows: dict[str, np.ndarray] = {}
    remarks: dict[str, Sequence[SoundRemark]] = {}
    if journal:
        for name, key in keys.items():
            kept = journal.read(name, key) if key else None
            if kept:
                rows[name], remarks[name] = kept.scores, kept.remarks
    todo = {name: source for name, source in recordings.items() if name not in rows}
    failed = {}
    for name, result in score_recordings(scorer, todo, done=len(rows), progress=progress):
        if not isinstance(result, RecordingResult):
            failed[name] = str(result)
            continue
        rows[name], remarks[name] = result.scores, result.remarks
        if journal and keys[name]:
            if not keep_windows:
                result = dataclasses.replace(result, window_scores=None, window_boxes=None)
            journal.write(result, keys[name])
    in_order = {name: rows[name] for name in recordings if name in rows}
    said = {name: remarks[name] for name in in_order if remarks[name]}
    return Predictions(scores_table(scorer.card, in_order), failed, said)


def scores_table(card: ModelCard, rows: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A table of the scores [classes] of recordings, by recording id, in their order."""
    values = np.stack(list(rows.values())) if rows else np.empty((0, len(card.classes)))
    table = pd.DataFrame(values, columns=card.columns)
    table.insert(0, "recording_id", pd.Series(list(rows), dtype=str))
    return table
