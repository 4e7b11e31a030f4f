"""Runs whose out-of-fold tables are made up."""

import json

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.held_out import HeldOut
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(15, "middle"), SpeciesClass(5, "high")]
COLUMNS = ["s2", "s15", "s5"]


def make_run(path, crops: pd.DataFrame, scores: pd.DataFrame, classes=CLASSES) -> RunFolder:
    """A run with such tables, in which all folds of the crops are finished."""
    manifest = Manifest(classes, {}, {}, "", 64, 32, 5, 0, "", {}, {}, {}, "", {})
    run = RunFolder.create(path, Config.model_validate({"training": {"folds": 5}}), manifest, path)
    crops.to_csv(run.path / "oof_crops.csv", index=False)
    scores.to_csv(run.path / "oof_scores.csv", index=False)
    for fold in crops["fold"].unique():
        run.fold(fold).mkdir()
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": int(fold)}))
    return run


def made_tables(good_folds=(0, 1), recordings=8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two crops a recording, s2 present and s15 absent in one, the reverse in the other.

    A member gives 0.9 and 0.1 in folds that it is good at, and 0.5 elsewhere; of s5, of which
    nothing is known, always 0.7.
    """
    crops, scores = [], []
    for number in range(recordings):
        fold = number % 2
        sure = 0.9 if fold in good_folds else 0.5
        name = f"{number:03d}"
        for begin_s, present, absent in ((0.5, 2, 15), (3.25, 15, 2)):
            row = [name, fold, "tp", present, begin_s, begin_s + 1, str(present), str(absent)]
            of_s2 = sure if present == 2 else 1 - sure
            crops.append([*row, of_s2, 1 - of_s2, 0.7])
        scores.append([name, sure, 1 - sure, 0.7])
    columns = ["recording_id", "fold", "kind", "species_id", "t_min", "t_max", "present", "absent"]
    return (
        pd.DataFrame(crops, columns=[*columns, *COLUMNS]),
        pd.DataFrame(scores, columns=["recording_id", *COLUMNS]),
    )


def held_out_of(scores, present, absent, crops=None, recordings=None) -> HeldOut:
    """What one run held out; crops and recordings by default one each a row."""
    ids = [f"r{row:04d}" for row in range(len(scores))]
    if crops is None:
        crops = pd.DataFrame({"recording_id": ids, "kind": "tp", "species_id": 2, "fold": 0})
    if recordings is None:
        recordings = pd.DataFrame(scores, columns=COLUMNS)
        recordings.insert(0, "recording_id", ids)
    return HeldOut(
        columns=COLUMNS,
        names=[c.name for c in CLASSES],
        members=[{"run": "a", "weight": 1.0, "folds": [0]}],
        crops=crops,
        present=present,
        absent=absent,
        member_scores=scores[np.newaxis],
        scores=scores,
        member_recordings=recordings[COLUMNS].to_numpy()[np.newaxis],
        recordings=recordings,
        left_out_crops=[0],
        left_out_labels=0,
    )


def gaussian_crops(seed=0, crops=800, known=0.7, priors=(0.4, 0.25, 0.1)) -> HeldOut:
    """Crops of 5 folds whose scores are too sure: expit(2 l + 1) where the log odds are l."""
    random = np.random.default_rng(seed)
    present = random.random((crops, 3)) < priors
    log_odds = 2 * random.normal(2 * present) - 2 + logit(priors)
    is_known = random.random((crops, 3)) < known
    scores = expit(2 * log_odds + 1)
    ids = [f"r{number // 2:04d}" for number in range(crops)]
    fold = np.arange(crops) // 2 % 5
    table = pd.DataFrame({"recording_id": ids, "kind": "tp", "species_id": 2, "fold": fold})
    recordings = pd.DataFrame(scores[::2], columns=COLUMNS)
    recordings.insert(0, "recording_id", ids[::2])
    return held_out_of(scores, present & is_known, ~present & is_known, table, recordings)
