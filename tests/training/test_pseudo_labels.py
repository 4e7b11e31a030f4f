"""Who labels which recording, what a round writes, and rounds that were interrupted."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.config import load_config, save_config
from rfcx_tf.data.audio import AudioSource
from rfcx_tf.data.records import ShardReader, parse_crop
from rfcx_tf.errors import InputError
from rfcx_tf.inference.tables import read_truth
from rfcx_tf.run_folder import RunFolder
from rfcx_tf.training import pseudo_labels
from rfcx_tf.training.pseudo_labels import Teachers, label_windows, run_rounds
from rfcx_tf.training.run import train_run


class FakeTeacher:
    """Gives every window the probability 0.1 x (1 + fold), and the mean fold for several."""

    def __init__(self, path, classes, finished_folds=(0, 1)):
        path.mkdir(parents=True)
        (path / "oof_scores.csv").write_text("recording_id,s2\n")
        self.path = path
        self.info = SimpleNamespace(classes=classes, shards_id="")
        self.finished_folds = list(finished_folds)

    def load(self, folds):
        level = 0.1 * (1 + np.mean(self.finished_folds if folds is None else folds))

        def score(waveform):
            windows = np.full((1, 5, 3), level, np.float32)
            return {"window_start_s": np.arange(5.0), "window_scores": windows}

        return SimpleNamespace(sample_rate_hz=8000, window_s=1.0, score_waveform=score)


@pytest.fixture
def recipe(tiny_config, tmp_path):
    """The tiny recipe with bounds that an untrained network reaches, one epoch."""
    save_config(tiny_config, tmp_path / "recipe.yaml")
    return load_config(
        tmp_path / "recipe.yaml",
        [
            "training.epochs=1",
            "training.steps_per_epoch=2",
            "training.warmup_epochs=0",
            "pseudo.windows_per_recording=4",
            "pseudo.present_above=0.3",
            "pseudo.absent_below=0.25",
        ],
    )


@pytest.fixture(scope="module")
def teacher(tiny_config, tiny_shards, tmp_path_factory):
    """A run of the tiny recipe, fold 0."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    train_run(tiny_config, tiny_shards, path, [0], verbose=False, report=lambda line: None)
    return RunFolder.open(path)


def labels_of(folder):
    """Soft targets [crops, classes] and folds [crops] of a folder of labels."""
    reader = ShardReader(folder)
    crops = [parse_crop(reader[row]) for row in range(len(reader.index))]
    return np.array([c["soft_target"] for c in crops]), reader.index["fold"].to_numpy()


def test_a_recording_is_labelled_by_the_detectors_that_held_it_out(
    tiny_shards, tiny_data, recipe, tmp_path
):
    reader = ShardReader(tiny_shards)
    runs = [FakeTeacher(tmp_path / "a", reader.manifest.classes)]
    extra = {"elsewhere": AudioSource(tiny_data / "train" / "tiny00.flac")}
    manifest = label_windows(
        Teachers(runs, None, None),
        reader,
        recipe,
        tmp_path / "labels",
        extra=extra,
        progress=False,
    )
    target, folds = labels_of(tmp_path / "labels")
    assert set(folds) == {-1, 0, 1}
    for fold, level in ((0, 0.1), (1, 0.2), (-1, 0.15)):
        np.testing.assert_allclose(target[folds == fold], level, rtol=1e-6)
    assert manifest.counts["pseudo"] == len(folds)
    # Every window is kept beside the crops: 6 s at a distance of a cell of 0.256 s.
    windows = np.load(tmp_path / "labels" / "windows" / "tiny00.npy")
    assert windows.shape == (1 + (376 - 64) // 32, 3)


def test_a_single_fold_is_taught_by_its_own_detectors_alone(tiny_shards, recipe, tmp_path):
    reader = ShardReader(tiny_shards)
    runs = [FakeTeacher(tmp_path / "a", reader.manifest.classes, finished_folds=[1])]
    group = Teachers(runs, None, 1)
    group.check_folds(2)
    label_windows(group, reader, recipe, tmp_path / "labels", extra={}, progress=False)
    target, folds = labels_of(tmp_path / "labels")
    assert set(folds) == {0, 1}
    np.testing.assert_allclose(target, 0.2, rtol=1e-6)


def test_teachers_are_averaged_by_their_weights(tiny_shards, recipe, tmp_path):
    reader = ShardReader(tiny_shards)
    classes = reader.manifest.classes
    runs = [FakeTeacher(tmp_path / "a", classes, [0]), FakeTeacher(tmp_path / "b", classes, [1])]
    group = Teachers(runs, [0.25, 0.75], None)
    group.load([-1], reader.manifest.shards_id)
    source = next(iter(reader.manifest.audio_sources(0).values()))
    probability = group.probability("r", source, -1, np.array([1.0, 2.0]))
    np.testing.assert_allclose(probability, 0.25 * 0.1 + 0.75 * 0.2, rtol=1e-6)


def test_a_teacher_without_a_fold_is_refused(tiny_shards, tmp_path):
    classes = ShardReader(tiny_shards).manifest.classes
    group = Teachers([FakeTeacher(tmp_path / "a", classes, [0])], None, None)
    with pytest.raises(InputError, match=r"a lacks 1\..*--fold"):
        group.check_folds(2)


def test_labels_of_other_teachers_never_share_a_folder(tiny_shards, recipe, tmp_path):
    reader = ShardReader(tiny_shards)
    runs = [FakeTeacher(tmp_path / "a", reader.manifest.classes)]
    out = tmp_path / "labels"
    label_windows(Teachers(runs, None, None), reader, recipe, out, extra={}, progress=False)
    (tmp_path / "a" / "oof_scores.csv").write_text("recording_id,s2\nx,0.5\n")
    with pytest.raises(InputError, match="holds those of another"):
        label_windows(Teachers(runs, None, None), reader, recipe, out, extra={}, progress=False)


def test_rounds_go_on_where_they_were_killed(
    teacher, tiny_shards, tiny_data, recipe, tmp_path, monkeypatch
):
    truth, out = read_truth(tiny_data / "train_truth.csv"), tmp_path / "out"
    run = out / "round2" / "run"

    def rounds():
        return run_rounds(
            recipe,
            tiny_shards,
            [teacher],
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
    assert whole[0].windows == 11 * (1 + (376 - 64) // 32)
    info = json.loads((run / "run.json").read_text())
    assert info["pseudo"] == str(out / "round2" / "labels")
    assert info["start"] == str(out / "round1" / "run")
    tables = {name: (run / name).read_bytes() for name in ("oof_scores.csv", "oof_crops.csv")}

    # Once more from the end of round 1. Killed as round 2 has labelled a part, and then as it
    # trains.
    shutil.rmtree(out / "round2")
    cut, seen = pseudo_labels.cut_windows, []

    def stop_at_label(*arguments):
        seen.append(arguments)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return cut(*arguments)

    train, trained = pseudo_labels.train_run, []

    def stop_at_training(*arguments, **options):
        trained.append(arguments)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    for name, stopped in (("cut_windows", stop_at_label), ("train_run", stop_at_training)):
        with monkeypatch.context() as patch:
            patch.setattr(pseudo_labels, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                rounds()
    assert len(pd.read_csv(out / "rounds.csv")) == 1
    assert vars(rounds()[1]) == vars(whole[1])
    assert tables == {name: (run / name).read_bytes() for name in tables}


def test_rounds_stop_when_the_students_get_worse(
    teacher, tiny_shards, recipe, tmp_path, monkeypatch
):
    figures = iter([0.8, 0.82, 0.815, 0.7])
    monkeypatch.setattr(
        pseudo_labels, "_evaluate", lambda *arguments: (next(figures), float("nan"))
    )
    monkeypatch.setattr(pseudo_labels, "label_windows", lambda *a, **k: SimpleNamespace(skipped=[]))
    monkeypatch.setattr(pseudo_labels, "train_run", lambda *a, **k: None)
    monkeypatch.setattr(pseudo_labels, "_describe_labels", lambda *a: (1, 1, 1.0, 1.0))
    monkeypatch.setattr(pseudo_labels.RunFolder, "open", classmethod(lambda cls, path: teacher))
    lines = []
    rounds = run_rounds(
        recipe,
        tiny_shards,
        [teacher],
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
    teacher, tiny_shards, recipe, tmp_path, monkeypatch
):
    taught_by = []
    monkeypatch.setattr(pseudo_labels, "_evaluate", lambda *arguments: (0.5, float("nan")))
    monkeypatch.setattr(pseudo_labels, "label_windows", lambda *a, **k: SimpleNamespace(skipped=[]))
    monkeypatch.setattr(pseudo_labels, "train_run", lambda *a, **k: None)
    monkeypatch.setattr(pseudo_labels, "_describe_labels", lambda *a: (1, 1, 1.0, 1.0))
    monkeypatch.setattr(pseudo_labels.RunFolder, "open", classmethod(lambda cls, path: teacher))
    group = pseudo_labels.Teachers
    monkeypatch.setattr(
        pseudo_labels,
        "Teachers",
        lambda runs, weights, fold: taught_by.append((runs, weights)) or group(runs, weights, fold),
    )
    classes = ShardReader(tiny_shards).manifest.classes
    first, kept = FakeTeacher(tmp_path / "first", classes), FakeTeacher(tmp_path / "kept", classes)
    run_rounds(
        recipe,
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
    # The first group is only checked.
    assert taught_by[1:] == [([first, kept], [0.3, 0.7]), ([teacher, kept], None)]


def test_some_of_the_folds_cannot_teach_the_others(teacher, tiny_shards, tiny_config, tmp_path):
    save_config(tiny_config, tmp_path / "c.yaml")
    with pytest.raises(InputError, match="Rounds train one fold or all 2"):
        run_rounds(
            tiny_config,
            tiny_shards,
            [teacher],
            tmp_path / "out",
            rounds=1,
            folds=[],
        )


def test_listeners_alone_give_no_warm_start(tmp_path):
    with pytest.raises(InputError, match=r"All teachers are listeners: .*a\. Leave out --warm"):
        pseudo_labels._warm_start([FakeTeacher(tmp_path / "a", [])])


def test_the_script_labels_other_recordings_too_and_lists_what_it_cannot_read(
    teacher, tiny_shards, tiny_data, recipe, tmp_path, monkeypatch, run_script
):
    # The student is the teacher once more, since training is not what this is about.
    monkeypatch.setattr(
        pseudo_labels,
        "train_run",
        lambda config, shards, run_dir, *_, **options: shutil.copytree(teacher.path, run_dir),
    )
    save_config(recipe, tmp_path / "recipe.yaml")
    other = tmp_path / "audio"
    other.mkdir()
    (other / "good.flac").write_bytes((tiny_data / "train" / "tiny00.flac").read_bytes())
    (other / "bad.flac").write_text("not a sound")

    def run(*changes):
        arguments = {
            "--config": tmp_path / "recipe.yaml",
            "--tfrecords": tiny_shards,
            "--run": teacher.path,
            "--out": tmp_path / "out",
            "--rounds": 1,
            "--fold": 0,
            "--audio": other,
        } | dict(changes)
        return run_script("pseudo_label", *(part for pair in arguments.items() for part in pair))

    refused = run(("--rounds", 0))
    assert refused.returncode == 2
    assert "--rounds must be at least 1" in refused.stderr
    result = run()
    assert result.returncode == 1
    assert "bad.flac" in result.stdout
    assert "could not be read: 1" in result.stderr
    assert "round1/run" in result.stdout
    index = ShardReader(tmp_path / "out" / "round1" / "labels").index
    assert set(index.loc[index["fold"] == -1, "recording_id"]) == {"good"}
