"""The few commands from a data folder to results: what they run on their way."""

import pandas as pd
import pytest
from refused import refused

from rfcx_tf.cli import steps, train
from rfcx_tf.core.config import Config, save_config


def test_shards_for_a_run_lie_beside_it(tiny_data, tiny_config, tiny_shards, tmp_path, capsys):
    # Shards do not depend on the network, of which another process does not know the short one.
    recipe, values = tmp_path / "tiny.yaml", tiny_config.model_dump()
    values["model"]["backbone"] = {"name": "resnet10"}
    save_config(Config.model_validate(values), recipe)
    shards, status = steps.make_shards_for(
        tmp_path / "runs" / "my", str(recipe), tiny_data, ["training.epochs=7"]
    )
    assert (shards, status) == (tmp_path / "runs" / "my.tfrecords", 0)
    own, expected = (pd.read_csv(folder / "index.csv") for folder in (shards, tiny_shards))
    assert own.equals(expected)
    out = capsys.readouterr().out
    assert "Crops: 20 tp, 20 fp" in out and "Next:" not in out


def test_a_training_without_shards_does_not_begin(tmp_path):
    text = refused(steps.make_shards_for, tmp_path / "my", "demo", tmp_path / "none", [])
    assert "my.tfrecords could not be made" in text


def test_a_training_on_a_data_folder_is_of_all_folds_and_ends_with_the_next_command(
    tiny_data, tmp_path, monkeypatch, run_script
):
    asked = {}

    def trained(recipe, folds, arguments):
        asked.update(folds=folds, tfrecords=arguments.tfrecords)
        return [], []

    monkeypatch.setattr(train, "_train_detector", trained)
    monkeypatch.setattr(steps, "make_shards_for", lambda *arguments: (tmp_path / "shards", 1))
    run = tmp_path / "none"
    result = run_script("train", "--config", "demo", "--data", tiny_data, "--run", run)
    # Shards that lack something are trained on, and the status says so.
    assert result.returncode == 1
    assert asked == {"folds": [0, 1, 2, 3], "tfrecords": tmp_path / "shards"}
    *_, why, following = result.stdout.splitlines()
    assert why.startswith("Without a calibration") and str(run) in why
    assert following == f"Next: rfcx-tf predict --run {run} --audio FOLDER --results results"
    # Recordings of two sites are called by their paths, and the next command says so.
    run.mkdir(exist_ok=True)
    (run / "oof_scores.csv").write_text("recording_id,s0\nridge/0500,0.5\n")
    result = run_script("train", "--config", "demo", "--data", tiny_data, "--run", run)
    assert result.stdout.splitlines()[-1] == f"{following} --recording-ids path"
    result = run_script("train", "--config", "demo", "--tfrecords", "x", "--run", run)
    assert asked["folds"] == [0] and "rfcx-tf evaluate --run" in result.stdout
    # All workers would make the same shards.
    monkeypatch.setenv("TF_CONFIG", "{}")
    result = run_script("train", "--config", "demo", "--data", tiny_data, "--run", run)
    assert result.returncode == 2 and "add --tfrecords DIR" in result.stderr


def test_results_are_tables_and_a_page_of_them(untrained_run, tiny_data, tmp_path, run_script):
    audio = tiny_data / "train" / "tiny00.flac"
    results = tmp_path / "results"
    result = run_script(
        *("predict", "--run", untrained_run.path, "--audio", audio, "--results", results),
        *("--threshold", "0.01"),
    )
    assert result.returncode == 0
    names = {"scores.csv", "events.csv", "windows.parquet", "report.html"}
    assert names <= {path.name for path in results.iterdir()}
    events = pd.read_csv(results / "events.csv")
    assert set(events["recording_id"]) == {"tiny00"}
    assert "tiny00" in (results / "report.html").read_text()
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"Next: rfcx-tf review serve --events {results}/events.csv --audio")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--results", "r", "--events", "e.csv"], "--events has its place in --results"),
        (["--results", "r", "--format", "raven"], "Add csv to --format"),
        (["--results", "r", "--out", "o.csv"], "not allowed with argument"),
        ([], "ne of the arguments --out --results is required"),
    ],
)
def test_results_have_their_places(options, says, run_script):
    result = run_script("predict", "--run", "x", "--audio", "y", *options)
    assert result.returncode == 2 and says in result.stderr
