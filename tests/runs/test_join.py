"""Folds from several run folders in one: what is copied, kept and refused."""

import json
import shutil
import sys
from dataclasses import asdict, replace

import pandas as pd
import pytest

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs import join as module
from rfcx_tf.runs.join import join_folds
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(5, "high")]


def make_part(path, finished, unfinished=(), classes=CLASSES, shards_id="0a1b", epochs=3):
    """A run with such folds, trained on shards in a folder of its own."""
    manifest = Manifest(classes, {2: 0.5}, {}, "f", 64, 32, 3, 0, shards_id, {}, {}, {}, "", {})
    config = Config.model_validate({"training": {"folds": 3, "epochs": epochs}})
    run = RunFolder.create(path, config, manifest, path / "shards")
    for fold in (*finished, *unfinished):
        folder = run.fold(fold)
        (folder / "logs" / "train").mkdir(parents=True)
        (folder / "logs" / "train" / "events").write_text("e")
        (folder / "detector.weights.h5").write_bytes(bytes([fold]))
    for fold in finished:
        folder = run.fold(fold)
        (folder / "oof_crops.csv").write_text(
            "recording_id,fold,kind,species_id,t_min,t_max,present,absent,s2,s5\n"
            f"00{fold},{fold},tp,2,0.0,1.0,2,5,0.5,0.25\n"
        )
        (folder / "oof_scores.csv").write_text(f"recording_id,s2,s5\n00{fold},0.5,0.25\n")
        done = {"fold": fold, "epochs": 3, "seconds": 7.5, "checkpoint": "epoch 3, the last"}
        (folder / "done.json").write_text(json.dumps({**done, "recordings_predicted": 1}))
    return run


def change_info(run, **values) -> RunFolder:
    info = replace(run.info, **values)
    (run.path / "run.json").write_text(json.dumps(asdict(info)))
    return RunFolder.open(run.path)


def refused(parts, out) -> str:
    before = sorted(out.rglob("*")) if out.exists() else None
    with pytest.raises(UserError) as caught:
        join_folds(parts, out)
    assert "\n" not in str(caught.value)
    assert (sorted(out.rglob("*")) if out.exists() else None) == before
    return str(caught.value)


def files_of(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_finished_folds_become_one_run(tmp_path):
    parts = [make_part(tmp_path / "a", [2, 0]), make_part(tmp_path / "b", [1])]
    lines = []
    joined = join_folds(parts, tmp_path / "all", lines.append)
    assert lines == [f"Fold {k} copied from {tmp_path / name}." for k, name in enumerate("aba")]
    assert joined.finished_folds == [0, 1, 2]
    assert (joined.config, joined.info.shards_id) == (parts[0].config, "0a1b")
    for fold, part in ((0, parts[0]), (1, parts[1]), (2, parts[0])):
        copied = files_of(joined.fold(fold))
        # What it was trained with stays known.
        assert copied.pop("run.json") == (part.path / "run.json").read_bytes()
        assert copied == files_of(part.fold(fold))
    scores = pd.read_csv(joined.path / "oof_scores.csv", dtype=str)
    assert scores["recording_id"].to_list() == ["000", "001", "002"]
    assert len(pd.read_csv(joined.path / "oof_crops.csv")) == 3
    assert not [path for path in joined.path.iterdir() if path.name.startswith(".")]


def test_unfinished_folds_are_left_out_and_named(tmp_path):
    parts = [make_part(tmp_path / "a", [0], [2]), make_part(tmp_path / "b", [])]
    lines = []
    joined = join_folds(parts, tmp_path / "all", lines.append)
    assert f"Left out: {tmp_path / 'a' / 'fold2'} is not finished." in lines
    assert f"Left out: {tmp_path / 'b'} has no fold." in lines
    assert not joined.fold(2).exists()
    assert joined.finished_folds == [0]


def test_an_interrupted_join_goes_on(tmp_path, monkeypatch):
    """Killed in the middle of the second fold, at any file."""
    parts = [make_part(tmp_path / "a", [0]), make_part(tmp_path / "b", [1])]
    out, copytree = tmp_path / "all", shutil.copytree

    def killed(source, copy, *others):
        if source.name == "fold1":
            copy.mkdir()
            (copy / "done.json").write_text("{}")
            raise KeyboardInterrupt
        return copytree(source, copy, *others)

    monkeypatch.setattr(module.shutil, "copytree", killed)
    with pytest.raises(KeyboardInterrupt):
        join_folds(parts, out, lambda _: None)
    monkeypatch.undo()
    assert RunFolder.open(out).finished_folds == [0]
    # A kill without a word also leaves the temporary folder.
    (out / ".tmp" / "fold1").mkdir(parents=True)
    lines = []
    joined = join_folds(parts, out, lines.append)
    assert lines == ["Fold 0 is there already.", f"Fold 1 copied from {tmp_path / 'b'}."]
    assert files_of(joined.fold(1)).keys() == files_of(joined.fold(0)).keys()
    assert len(pd.read_csv(out / "oof_scores.csv")) == 2


def test_a_join_killed_as_it_began_goes_on(tmp_path):
    parts = [make_part(tmp_path / "a", [0])]
    out = tmp_path / "all"
    out.mkdir()
    (out / "config.yaml").write_text("half")
    assert join_folds(parts, out, lambda _: None).finished_folds == [0]


def test_parts_may_come_one_after_another(tmp_path):
    out = tmp_path / "all"
    join_folds([make_part(tmp_path / "a", [0])], out, lambda _: None)
    joined = join_folds([make_part(tmp_path / "b", [2])], out, lambda _: None)
    assert joined.finished_folds == [0, 2]
    assert len(pd.read_csv(out / "oof_scores.csv")) == 2


def test_other_places_and_versions_are_no_other_run(tmp_path):
    one, other = make_part(tmp_path / "a", [0]), make_part(tmp_path / "b", [1])
    assert one.info.tfrecords != other.info.tfrecords
    one = change_info(one, start="/here/runs/first")
    versions = {**other.info.versions, "numpy": "0.1"}
    other = change_info(other, start="/there/first", versions=versions)
    lines = []
    joined = join_folds([one, other], tmp_path / "all", lines.append)
    assert joined.finished_folds == [0, 1]
    numpy = f"numpy {one.info.versions['numpy']} and 0.1"
    starts = "start /here/runs/first and /there/first"
    assert f"{one.path} and {other.path} differ in {numpy}, {starts}." in lines


def test_parts_of_other_runs_are_refused(tmp_path):
    out = tmp_path / "all"
    part = make_part(tmp_path / "a", [0])
    other = make_part(tmp_path / "epochs", [1], epochs=5)
    text = refused([part, other], out)
    assert f"training.epochs is 3 in {part.path} and 5 in {other.path}. " in text
    other = make_part(tmp_path / "shards", [1], shards_id="2c3d")
    assert "shards_id is 0a1b in" in refused([part, other], out)
    turned = make_part(tmp_path / "turned", [1], classes=CLASSES[::-1])
    assert "The class list is s2 low, s5 high in" in refused([part, turned], out)
    for key, value in (("pseudo_id", "4e5f"), ("start", "/runs/first")):
        other = change_info(make_part(tmp_path / key, [1]), **{key: value})
        text = refused([part, other], out)
        assert f"{key} is none in {part.path} and {value} in {other.path}. " in text
    # What is in the folder already counts as well.
    join_folds([part], out, lambda _: None)
    assert f"and 2c3d in {tmp_path / 'shards'}" in refused(
        [RunFolder.open(tmp_path / "shards")], out
    )


def test_a_fold_comes_from_one_part(tmp_path):
    out = tmp_path / "all"
    parts = [make_part(tmp_path / "a", [0, 1]), make_part(tmp_path / "b", [1, 2])]
    text = refused(parts, out)
    assert f"Fold 1 is finished in both {parts[0].path} and {parts[1].path}. " in text
    join_folds(parts[:1], out, lambda _: None)
    # Fold 1 of b is as that of a to the byte; another training is not.
    (parts[1].fold(1) / "done.json").write_text("{}")
    assert f"{out / 'fold1'} is there and of another training" in refused(parts[1:], out)
    shutil.rmtree(out / "fold1")
    (out / "fold1").mkdir()
    assert f"{out / 'fold1'} is there and not finished" in refused(parts[1:], out)


def test_nothing_to_join_is_refused(tmp_path):
    empty = make_part(tmp_path / "a", [], [0])
    assert "at least one finished fold" in refused([empty], tmp_path / "all")
    part = make_part(tmp_path / "b", [0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "holds something else" in refused([part], tmp_path / "other")


def test_script_prints_the_summary_and_what_it_wrote(tmp_path, monkeypatch, run_script):
    parts = [make_part(tmp_path / "a", [0]).path, make_part(tmp_path / "b", [2]).path]
    words = ["--join", *parts, "--run", tmp_path / "all"]
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", *map(str, words)])
    result = run_script("train", *words)
    assert (result.returncode, result.stderr) == (0, "")
    assert "2 of 3 folds finished; missing: 1." in result.stdout
    assert (tmp_path / "all" / "summary.md").read_text() in result.stdout
    assert result.stdout.splitlines()[-2].startswith(f"Wrote {tmp_path / 'all'}:")
    assert "train.py --join" in RunFolder.open(tmp_path / "all").info.command
