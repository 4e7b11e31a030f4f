"""The table of LiteRT precisions, of an untrained run."""

import shutil
import sys

import pandas as pd
import pytest

from benchmarks import litert_precisions
from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import scores_table
from rfcx_tf.scoring.scorer import score_recordings
from rfcx_tf.shards.records import read_manifest


def test_a_row_for_the_savedmodel_and_each_precision(
    untrained_run, tiny_data, tiny_shards, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "run"
    shutil.copytree(untrained_run.path, path)
    run = RunFolder.open(path)
    scorer = load_scorer(run)
    results = score_recordings(scorer, read_manifest(tiny_shards).audio_sources(0), progress=False)
    scores = scores_table(scorer.card, {name: result.scores for name, result in results})
    scores.to_csv(run.fold(0) / "oof_scores.csv", index=False)
    # Threads can be chosen only before TensorFlow starts; one conversion is enough.
    for pool in ("intra", "inter"):
        name = f"tensorflow.config.threading.set_{pool}_op_parallelism_threads"
        monkeypatch.setattr(name, lambda threads: None)
    monkeypatch.setattr(litert_precisions, "PRECISIONS", ("float32",))
    arguments = ["--run", path, "--audio", tiny_data / "train", "--seconds", "3"]
    arguments += ["--truth", tiny_data / "train_truth.csv"]
    monkeypatch.setattr(sys, "argv", ["litert_precisions.py", *map(str, arguments)])
    litert_precisions.main()
    saved, float32 = capsys.readouterr().out.strip().splitlines()[-2:]
    assert [cell.strip() for cell in saved.split("|")][1:5] == ["SavedModel", "", "", ""]
    _, name, mb, largest, mean, ms, speed, lwlrap, _ = (c.strip() for c in float32.split("|"))
    assert name == "float32"
    assert 0 < float(mean) <= float(largest) < 1e-4
    assert float(mb) > 0.01
    assert min(float(ms), float(speed)) > 0
    assert 0 < float(lwlrap) <= 1
    # Held-out recordings must be in the truth, and their audio at hand.
    truth = pd.DataFrame({"recording_id": ["else"], "s2": 1, "s5": 0, "s9": 0})
    with pytest.raises(UserError, match="It names none of them"):
        litert_precisions.out_of_fold_lwlrap(run, 3, truth, {})
    truth["recording_id"] = scores["recording_id"][0]
    with pytest.raises(UserError, match=r"Missing: 1 \(tiny\d\d\)"):
        litert_precisions.out_of_fold_lwlrap(run, 3, truth, {})
