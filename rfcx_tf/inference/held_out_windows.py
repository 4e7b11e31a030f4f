"""An ensemble by the rule `window` on what its members held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rfcx_tf.data.audio import AudioError
from rfcx_tf.data.records import read_manifest
from rfcx_tf.errors import InputError
from rfcx_tf.inference.ensemble import combine_windows, member_names
from rfcx_tf.inference.predict import scores_table
from rfcx_tf.inference.recording_model import check_rule
from rfcx_tf.inference.window_scorer import WindowScorer
from rfcx_tf.listener.run_folder import ListenerRun
from rfcx_tf.run_folder import RunFolder


def held_out_windows(
    runs: Sequence[RunFolder | ListenerRun],
    data_dir: Path | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores of recordings by the members' detectors that held them out, with equal weights.

    The out-of-fold tables of runs have no windows, so our own score the recordings again.

    Args:
        runs: of one class list and one assignment of folds.
        data_dir: where the recordings are, if not where the first run's shards were made from.
        progress: whether to show a progress bar.

    Returns:
        recording_id, s<species_id>..., of the folds that all runs have finished.

    Raises:
        InputError: if the shards of the first run are gone, a recording cannot be read, or as
            `check_rule`.
    """
    manifest = read_manifest(Path(runs[0].info.tfrecords))
    folds = [k for k in runs[0].finished_folds if all(k in run.finished_folds for run in runs)]
    sources = {fold: manifest.audio_sources(fold, data_dir) for fold in folds}
    rows = {}
    total = sum(map(len, sources.values()))
    with tqdm(total=total, unit="recording", desc="windows", disable=not progress) as bar:
        for fold in folds:
            scorers = [WindowScorer(run, [fold], manifest.shards_id) for run in runs]
            models = [scorer.model for scorer in scorers]
            check_rule(models, member_names([run.path for run in runs]), "window")
            for name, source in sources[fold].items():
                try:
                    found = [scorer.window_scores(name, source)[1] for scorer in scorers]
                except AudioError as error:
                    raise InputError(
                        f"Recordings that were held out are scored again. {error} Say with "
                        "--data where they are."
                    ) from None
                grid = ([getattr(m, key) for m in models] for key in ("window_s", "hop_s"))
                equal = [1 / len(runs)] * len(runs)
                rows[name] = combine_windows(found, *grid, equal).max(axis=0)
                bar.update()
    return scores_table(manifest.classes, rows)
