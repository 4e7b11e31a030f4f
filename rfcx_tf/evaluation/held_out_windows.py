"""An ensemble by the rule `window` on what its members held out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.open import Run
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.scorer import RecordingResult, RecordingScores, score_recordings
from rfcx_tf.shards.records import read_manifest


def held_out_windows(
    runs: Sequence[Run],
    recordings: Collection[str],
    data_dir: Path | None = None,
    *,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Scores the windows of recordings by the members' detectors that held them out.

    Out-of-fold tables hold no windows, so the recordings are scored again.

    Args:
        runs: of one class list and one assignment of folds.
        recordings: ids of recordings that all runs held out and could read.
        data_dir: where they are, if not where the first run's shards were made from.
        progress: whether to show a progress bar.

    Returns:
        By recording id, float32 [members, windows, classes].

    Raises:
        UserError: if the shards of the first run are gone or others, a recording cannot be
            read, or as `EnsembleScorer` by the rule `window`.
    """
    info = runs[0].info
    manifest = read_manifest(Path(info.tfrecords))
    if manifest.shards_id != info.shards_id:
        raise UserError(
            f"Folds are those of the shards that a run was trained on. {runs[0].path} was trained "
            f"on {info.shards_id}, {info.tfrecords} now holds {manifest.shards_id}. Put them back."
        )
    windows: dict[str, np.ndarray] = {}
    for fold in range(manifest.folds):
        sources = manifest.audio_sources(fold, data_dir)
        own = {name: sources[name] for name in recordings if name in sources}
        if not own:
            continue
        members = [load_scorer(run, [fold], shards_id=manifest.shards_id) for run in runs]
        scorer = _MemberWindows(members, rule="window")
        for name, result in score_recordings(scorer, own, known=True, progress=progress):
            if not isinstance(result, RecordingResult):
                raise UserError(
                    f"Recordings that were held out are scored again. {result} Say with --data "
                    "where they are."
                )
            windows[name] = result.window_scores
    return windows


def highest_windows(
    windows: dict[str, np.ndarray], recordings: Iterable[str], weights: np.ndarray
) -> np.ndarray:
    """The highest weighted mean of windows, float32 [recordings, classes].

    Args:
        windows: of `held_out_windows`.
        recordings: ids.
        weights: of the members, [members] or [recordings, members].
    """
    own = [windows[name] for name in recordings]
    weights = np.broadcast_to(np.float32(weights), (len(own), len(own[0])))
    return np.stack([np.tensordot(w, x, 1).max(axis=0) for w, x in zip(weights, own, strict=True)])


class _MemberWindows(EnsembleScorer):
    """An ensemble that keeps its members apart: window scores [members, windows, classes]."""

    def combine(self, outputs: Sequence[RecordingScores]) -> RecordingScores:
        windows = np.stack(self.align([output.window_scores for output in outputs]))
        return RecordingScores(windows.max(axis=1).mean(axis=0), windows)
