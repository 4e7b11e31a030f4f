"""A run folder written by hand, events in `tiny_data`."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_events import event
from page_reader import COLUMNS, NAMES, NASTY

from rfcx_tf.core.config import save_config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs.run import RunInfo


@pytest.fixture(scope="session")
def hand_made_run(tiny_config, tmp_path_factory):
    """Folder of a run of two folds: 120 crops of 20 recordings, 3 species, scores that say
    something of the labels. Attributes: path, crops and scores (its tables), truth.
    """
    path = tmp_path_factory.mktemp("runs") / "hand"
    path.mkdir()
    save_config(tiny_config, path / "config.yaml")
    info = RunInfo(
        classes=[SpeciesClass(i, name) for i, name in NAMES.items()],
        mean_box_s={2: 0.3, 5: 0.3, 9: 0.3},
        frontend_fingerprint="0",
        tfrecords="tfrecords/hand",
        shards_id="0",
        recordings=20,
        counts={"tp": 48, "fp": 72},
        command=f"train.py --run '{NASTY}'",
        versions={"python": "3.11"},
    )
    (path / "run.json").write_text(json.dumps(asdict(info)))
    random = np.random.default_rng(0)
    rows = []
    for number in range(120):
        species, is_tp = list(NAMES)[number % 3], number % 5 < 2
        logits = random.normal(-2, 1, 3)
        logits[number % 3] = random.normal(1.0 if is_tp else -1.0, 1.2)
        rows.append(
            {
                "recording_id": f"r{number % 20:02d}",
                "fold": number % 20 % 2,
                "kind": "tp" if is_tp else "fp",
                "species_id": species,
                "t_min": 1.0,
                "t_max": 1.3,
                "present": str(species) if is_tp else "",
                "absent": "" if is_tp else str(species),
                **dict(zip(COLUMNS, (1 / (1 + np.exp(-logits))).round(6), strict=True)),
                "iou": 0.6 if number % 2 else 0.8,
                "band_iou": 0.9,
            }
        )
    crops = pd.DataFrame(rows)
    crops.to_csv(path / "oof_crops.csv", index=False)
    scores = crops.groupby("recording_id", as_index=False)[COLUMNS].max()
    scores.to_csv(path / "oof_scores.csv", index=False)
    truth = scores[["recording_id"]].copy()
    truth[COLUMNS] = random.uniform(size=(20, 3)) < scores[COLUMNS]
    for fold in range(2):
        folder = path / f"fold{fold}"
        folder.mkdir()
        done = {"fold": fold, "epochs": 3, "seconds": 12.4, "checkpoint": "epoch 3, the last"}
        (folder / "done.json").write_text(json.dumps(done | {"recordings_failed": []}))
        history = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5 + fold], "val_lrap": [0.2, 0.5, 0.6]}
        history["val_event_f1"] = [0.1, 0.2, 0.3]
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    return SimpleNamespace(path=path, crops=crops, scores=scores, truth=truth)


@pytest.fixture(scope="session")
def found_events(tiny_data):
    """Table of an event for every TP row of `tiny_data`: 20, of recordings that began at 05:30
    and 06:30 by turns. Probabilities fall from row to row.
    """
    rows = []
    for number, row in enumerate(pd.read_csv(tiny_data / "train_tp.csv").itertuples()):
        hour = 5 + int(row.recording_id[-1]) % 2
        row_of_event = event(
            *(row.recording_id, row.species_id, row.t_min, row.t_max, 0.5),
            file=tiny_data / "train" / f"{row.recording_id}.flac",
            band=(float(row.f_min), float(row.f_max)),
            probability=0.99 - 0.01 * number,
            start_time=f"2023-04-01T{hour:02d}:30:{row.t_min:06.3f}",
            end_time=f"2023-04-01T{hour:02d}:30:{row.t_max:06.3f}",
        )
        rows.append(row_of_event | {"species": NAMES[row.species_id]})
    return pd.DataFrame(rows)
