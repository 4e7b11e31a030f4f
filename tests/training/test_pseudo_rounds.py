"""Rounds of pseudo-labels: what one writes, which teachers it has, rounds that were interrupted."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.config import save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.score_table import read_truth
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.pseudo import labels as pseudo_labels
from rfcx_tf.training.pseudo import rounds as pseudo_rounds
from rfcx_tf.training.pseudo.rounds import run_rounds


def test_rounds_go_on_where_they_were_killed(
    own_run, training_is_quick, tiny_shards, tiny_data, pseudo_recipe, tmp_path, monkeypatch
):
    truth, out = read_truth(tiny_data / "train_truth.csv"), tmp_path / "out"
    run = out / "round2" / "run"

    def rounds():
        return run_rounds(
            pseudo_recipe,
            tiny_shards,
            [own_run],
            out,
            rounds=2,
            folds=[0],
            extra={"elsewhere": AudioSource(tiny_data / "train" / "tiny00.flac")},
            tolerance=1.0,
            truth=truth,
            warm=True,
            verbose=False,
            report=lambda line: None,
        )

    whole = rounds()
    assert [one.number for one in whole] == [1, 2]
    assert np.isnan(whole[0].agreement)
    assert 0 <= whole[1].agreement <= 1
    assert all(0 < one.masked_lwlrap <= 1 and 0 < one.lwlrap <= 1 for one in whole)
    # Five recordings of the other fold, and one in none.
    assert whole[0].windows == 6 * (1 + (376 - 64) // 32)
    info = json.loads((run / "run.json").read_text())
    assert info["pseudo"] == str(out / "round2" / "labels")
    assert info["start"] == str(out / "round1" / "run")

    def label_files():
        paths = sorted((out / "round2" / "labels").rglob("*"))
        return {path: path.read_bytes() for path in paths if path.is_file()}

    labels = label_files()

    # Once more from the end of round 1. Killed as round 2 has labelled a part, and then as it
    # trains.
    shutil.rmtree(out / "round2")
    cut, seen = pseudo_labels.cut_windows, []

    def stop_at_label(*arguments):
        seen.append(arguments)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return cut(*arguments)

    train, trained = pseudo_rounds.train_run, []

    def stop_at_training(*arguments, **options):
        trained.append(arguments)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    for module, name, stopped in (
        (pseudo_labels, "cut_windows", stop_at_label),
        (pseudo_rounds, "train_run", stop_at_training),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                rounds()
    assert len(pd.read_csv(out / "rounds.csv")) == 1
    assert vars(rounds()[1]) == vars(whole[1])
    assert label_files() == labels


def test_rounds_stop_when_the_students_get_worse(
    own_run, tiny_shards, pseudo_recipe, tmp_path, monkeypatch
):
    figures = iter([0.8, 0.82, 0.815, 0.7])
    monkeypatch.setattr(
        pseudo_rounds, "_evaluate", lambda *arguments: (next(figures), float("nan"))
    )
    monkeypatch.setattr(pseudo_rounds, "write_pseudo_labels_per_fold", lambda *a, **k: [])
    monkeypatch.setattr(pseudo_rounds, "train_run", lambda *a, **k: own_run)
    monkeypatch.setattr(pseudo_rounds, "PseudoLabels", lambda folder: None)
    monkeypatch.setattr(pseudo_rounds, "_describe_labels", lambda *a: (1, 1, 1.0, 1.0))
    lines = []
    rounds = run_rounds(
        pseudo_recipe,
        tiny_shards,
        [own_run],
        tmp_path / "out",
        rounds=9,
        folds=[0],
        tolerance=0.01,
        verbose=False,
        report=lines.append,
    )
    # 0.815 is within the tolerance of 0.82, 0.7 is not.
    assert [one.masked_lwlrap for one in rounds] == [0.82, 0.815, 0.7]
    assert "Stopped" in lines[-1]
    assert len(pd.read_csv(tmp_path / "out" / "rounds.csv")) == 3


def test_kept_teachers_stay_beside_the_newest_student(
    own_run, tiny_shards, pseudo_recipe, tmp_path, monkeypatch, fake_teacher
):
    taught_by = []
    monkeypatch.setattr(pseudo_rounds, "_evaluate", lambda *arguments: (0.5, float("nan")))
    monkeypatch.setattr(pseudo_rounds, "write_pseudo_labels_per_fold", lambda *a, **k: [])
    monkeypatch.setattr(pseudo_rounds, "train_run", lambda *a, **k: own_run)
    monkeypatch.setattr(pseudo_rounds, "PseudoLabels", lambda folder: None)
    monkeypatch.setattr(pseudo_rounds, "_describe_labels", lambda *a: (1, 1, 1.0, 1.0))
    group = pseudo_rounds.LabellingRuns
    monkeypatch.setattr(
        pseudo_rounds,
        "LabellingRuns",
        lambda runs, weights: taught_by.append((runs, weights)) or group(runs, weights),
    )
    classes = ShardReader(tiny_shards).manifest.classes
    first, kept = (
        fake_teacher(tmp_path / "first", classes),
        fake_teacher(tmp_path / "kept", classes),
    )
    run_rounds(
        pseudo_recipe,
        tiny_shards,
        [first],
        tmp_path / "out",
        rounds=2,
        folds=[0],
        keep=[kept],
        weights=[0.3, 0.7],
        verbose=False,
        report=lambda line: None,
    )
    assert taught_by[:2] == [([first, kept], [0.3, 0.7]), ([own_run, kept], None)]


def test_some_of_the_folds_cannot_teach_the_others(own_run, tiny_shards, tiny_config, tmp_path):
    save_config(tiny_config, tmp_path / "c.yaml")
    with pytest.raises(UserError, match="Rounds train one fold or all 2"):
        run_rounds(
            tiny_config,
            tiny_shards,
            [own_run],
            tmp_path / "out",
            rounds=1,
            folds=[],
        )


def test_every_fold_is_taught_by_its_own_detectors_where_asked(
    training_is_quick, tiny_shards, pseudo_recipe, tmp_path, monkeypatch, fake_teacher
):
    monkeypatch.setattr(pseudo_rounds, "_evaluate", lambda *arguments: (0.5, float("nan")))
    classes = ShardReader(tiny_shards).manifest.classes
    teacher = fake_teacher(tmp_path / "a", classes)

    def rounds(folds):
        return run_rounds(
            pseudo_recipe,
            tiny_shards,
            [teacher],
            tmp_path / "out",
            rounds=2,
            folds=folds,
            per_fold=True,
            verbose=False,
            report=lambda line: None,
        )

    first = rounds([0])
    # The other fold can follow, in every round.
    one, two = rounds([0, 1])
    labels = PseudoLabels(tmp_path / "out" / "round1" / "labels")
    student = RunFolder.open(tmp_path / "out" / "round1" / "run")
    assert student.finished_folds == [0, 1]
    assert student.info.pseudo_id == labels.id
    crops = {fold: len(labels.of_fold(fold).index) for fold in (0, 1)}
    assert all(count > 0 for count in crops.values())
    # Five recordings a fold.
    windows = 5 * (1 + (376 - 64) // 32)
    assert [r.windows for r in (*first, one, two)] == [windows, windows, 2 * windows, 2 * windows]
    assert (first[0].crops, one.crops) == (crops[0], sum(crops.values()))
    assert 0 <= two.agreement <= 1


def test_another_network_gives_no_warm_start_and_nothing_is_labelled(
    own_run, tiny_shards, pseudo_recipe, tmp_path
):
    values = pseudo_recipe.model_dump()
    values["model"]["frequency_coordinate"] = True
    recipe, options = type(pseudo_recipe).model_validate(values), {"rounds": 1, "folds": [0]}
    with pytest.raises(UserError, match=r"frequency_coordinate = False, here it is True"):
        run_rounds(recipe, tiny_shards, [own_run], tmp_path / "out", warm=True, **options)
    assert not (tmp_path / "out").exists()


def test_listeners_alone_give_no_warm_start(tmp_path, fake_teacher):
    with pytest.raises(UserError, match=r"No teacher is a detector: .*a\. Leave out --warm"):
        pseudo_rounds._warm_start([fake_teacher(tmp_path / "a", [])])


def test_the_script_labels_other_recordings_too_and_lists_what_it_cannot_read(
    own_run, tiny_shards, tiny_data, pseudo_recipe, tmp_path, run_script, steps_without_graphs
):
    """And a student is really trained."""
    save_config(pseudo_recipe, tmp_path / "recipe.yaml")
    other = tmp_path / "audio"
    other.mkdir()
    (other / "good.flac").write_bytes((tiny_data / "train" / "tiny00.flac").read_bytes())
    (other / "bad.flac").write_text("not a sound")

    def run(*changes):
        arguments = {
            "--config": tmp_path / "recipe.yaml",
            "--tfrecords": tiny_shards,
            "--run": own_run.path,
            "--out": tmp_path / "out",
            "--rounds": 1,
            "--fold": 0,
            "--audio": other,
        } | dict(changes)
        return run_script("pseudo_label", *(part for pair in arguments.items() for part in pair))

    refused = run(("--rounds", 0))
    assert refused.returncode == 2
    assert "--rounds: must be above 0" in refused.stderr
    with steps_without_graphs():
        result = run()
    assert result.returncode == 1
    assert "bad.flac" in result.stdout
    assert "or not to their ends: 1" in result.stderr
    assert "round1/run" in result.stdout
    student = RunFolder.open(tmp_path / "out" / "round1" / "run")
    figures = student.figures(0)
    index = PseudoLabels(tmp_path / "out" / "round1" / "labels").of_fold(0).index
    assert set(index.loc[index["fold"] == -1, "recording_id"]) == {"good"}
    # Recordings of the other fold, and the one more.
    assert figures["pseudo_crops_trained_on"] == len(index) > 0
