"""An ensemble by the rule `window` on what its members held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rfcx_tf.data.records import read_manifest
from rfcx_tf.errors import InputError
from rfcx_tf.inference.ensemble import member_names
from rfcx_tf.inference.predict import RecordingScorer, load_folds, predict_with
from rfcx_tf.inference.recording_model import check_rule
from rfcx_tf.listener.run_folder import ListenerRun
from rfcx_tf.run_folder import RunFolder


def held_out_windows(
    runs: Sequence[RunFolder | ListenerRun],
    data_dir: Path | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores of recordings by the members' detectors that held them out, with equal weights.

    The out-of-fold tables of runs have no windows, so the recordings are heard again.

    Args:
        runs: of one class list and one assignment of folds.
        data_dir: where the recordings are, if not where the first run's shards were made from.
        progress: whether to show a progress bar a fold.

    Returns:
        recording_id, s<species_id>..., of the folds that all runs have finished.

    Raises:
        InputError: if the shards of the first run are gone, a recording cannot be read, or as
            `check_rule`.
    """
    manifest = read_manifest(Path(runs[0].info.tfrecords))
    folds = [k for k in runs[0].finished_folds if all(k in run.finished_folds for run in runs)]
    tables = []
    for fold in folds:
        models = [load_folds(run, [fold]) for run in runs]
        check_rule(models, member_names([run.path for run in runs]), "window")
        sources = manifest.audio_sources(fold, data_dir)
        found = predict_with(RecordingScorer(models, rule="window"), sources, progress=progress)
        if found.failed:
            raise InputError(
                f"Held-out recordings are heard again. {len(found.failed)} of fold {fold} cannot "
                f"be read: {found.failed[0]} Say with --data where they are."
            )
        tables.append(found.scores)
    return pd.concat(tables, ignore_index=True)
