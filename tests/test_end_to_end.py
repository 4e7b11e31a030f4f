"""All verbs on a small data set, as a user runs them: recordings in, SavedModel and scores out."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config, save_config
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.load import load_scorer

ROOT = Path(__file__).resolve().parents[1]
# 60 steps a fold reach an LWLRAP of 1.0 here (0.72 with the first two settings alone). The tiny
# FP rows are all silence, so only the TP crops tell that one tone is not another species; and
# windows that cut a call in two have to be trained on.
LEARNING = (
    "training.learning_rate=0.01",
    "model.frequency_coordinate=true",
    "loss.unknown_negative_weight=1",
    "augment.tp_shift_s=0.5",
    "model.head.dropout=0.1",
    "training.epochs=3",
    "training.steps_per_epoch=20",
)
# What a front end of two channels passes through on its way.
LOOKING = ("training.pictures_every_epochs=3", "training.recording_validation=true")


def lwlrap_of(output) -> tuple[float, float]:
    value, chance = re.search(r"LWLRAP ([0-9.]+) \(chance ([0-9.]+)\)", output).groups()
    return float(value), float(chance)


def test_recordings_become_scores_and_a_served_model(
    tiny_data, tiny_config, tmp_path, run_script, monkeypatch
):
    # Of eight crops drawing takes seconds.
    monkeypatch.setattr("rfcx_tf.training.pictures._PICTURED", 1)

    def rfcx(verb, *arguments) -> str:
        result = run_script(verb, *arguments)
        assert result.returncode == 0, f"{verb}: {result.stderr}"
        return result.stdout

    config, shards, run = tmp_path / "tiny.yaml", tmp_path / "shards", tmp_path / "run"
    values = tiny_config.model_dump()
    values["frontend"]["compression"] = "pcen_log"
    values["model"]["backbone"]["width"] = 16
    save_config(Config.model_validate(values), config)
    truth = tiny_data / "train_truth.csv"
    settings = [text for value in LEARNING + LOOKING for text in ("--set", value)]

    # It sets TensorFlow up, so it needs a process of its own, which does not know the short network
    # of this one.
    values["model"]["backbone"] = {"name": "resnet10"}
    save_config(Config.model_validate(values), tmp_path / "shards.yaml")
    command = [sys.executable, ROOT / "scripts" / "make_tfrecords.py"]
    command += ["--config", tmp_path / "shards.yaml"]
    subprocess.run([*command, "--data", tiny_data, "--out", shards], timeout=1200, check=True)
    assert (shards / "manifest.json").exists()

    output = rfcx(
        *("train", "--config", config, *settings, "--tfrecords", shards),
        *("--run", run, "--fold", "all", "--data", tiny_data),
    )
    assert "2 of 2 folds finished." in output
    assert "| 0 | 3 |" in output
    assert "| 1 | 3 |" in output
    for fold in (0, 1):
        folder = run / f"fold{fold}"
        assert json.loads((folder / "done.json").read_text())["epochs"] == 3
        history = pd.read_csv(folder / "history.csv")
        assert np.isfinite(history.to_numpy(float)).all()
        assert history["val_recording_lwlrap"].iloc[-1] > 0.9
        assert tf.io.decode_png((folder / "validation.png").read_bytes()).shape[0] > 0
    # Every recording is held out once.
    ids = pd.read_csv(truth)["recording_id"].to_list()
    assert sorted(pd.read_csv(run / "oof_scores.csv")["recording_id"]) == sorted(ids)

    output = rfcx("evaluate", "--run", run, "--truth", truth)
    held_out, chance = lwlrap_of(output)
    assert held_out > 0.95 > chance + 0.1

    scores = tmp_path / "scores.csv"
    rfcx("predict", "--run", run, "--audio", tiny_data / "train", "--out", scores)
    table = pd.read_csv(scores)
    assert table.columns.to_list() == ["recording_id", "s2", "s5", "s9"]
    assert table["recording_id"].to_list() == sorted(ids)
    seen, _ = lwlrap_of(rfcx("evaluate", "--scores", scores, "--truth", truth))
    print(f"LWLRAP {held_out} out of fold, {seen} on all, chance {chance}")
    assert seen > 0.95

    exported = tmp_path / "exported"
    output = rfcx("export", "--run", run, "--out", exported)
    assert f"Wrote {exported / '1'}" in output
    served = tf.saved_model.load(str(exported / "1")).signatures
    waveform = read_audio(tiny_data / "train" / f"{ids[0]}.flac", 8000)[None]
    found = served["serving_default"](waveform=tf.constant(waveform))["scores"]
    expected = table.set_index("recording_id").loc[ids[0]]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    spectrogram = load_scorer(RunFolder.open(run), [0]).spectrogram(waveform)
    assert spectrogram.shape == (1, 376, 64)
    again = served["spectrogram"](spectrogram=spectrogram)["scores"]
    np.testing.assert_allclose(again, found, atol=1e-6)
