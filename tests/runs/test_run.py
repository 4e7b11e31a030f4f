"""What a run folder accepts and what it refuses."""

import json
import sys
from types import SimpleNamespace

import pytest
from refused import refused

from rfcx_tf.core.config import Config, load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.kept import of_run
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(5, "middle")]


def manifest(classes=CLASSES, shards_id="0a1b") -> Manifest:
    return Manifest(
        classes=classes,
        mean_box_s={2: 0.5},
        frontend={},
        frontend_fingerprint="abc",
        crop_frames=64,
        margin_frames=32,
        folds=2,
        fold_seed=0,
        shards_id=shards_id,
        rows={},
        shards={},
        counts={"tp": 3, "fp": 4, "unlabelled": 0},
        data_dir="data",
        recordings={"a": {}, "b": {}},
        box_hz={2: (600.0, 800.5)},
    )


def config(**training) -> Config:
    return Config.model_validate({"training": {"folds": 3, **training}})


def test_a_run_can_be_understood_from_its_folder(tmp_path):
    RunFolder.create(tmp_path / "run", config(epochs=7), manifest(), tmp_path / "shards")
    run = RunFolder.open(tmp_path / "run")
    assert run.config == config(epochs=7)
    assert run.info.classes == CLASSES
    assert run.info.mean_box_s == {2: 0.5}
    assert run.info.box_hz == {2: (600.0, 800.5)}
    assert (run.info.frontend_fingerprint, run.info.recordings) == ("abc", 2)
    assert run.info.counts["fp"] == 4
    assert run.info.tfrecords == str(tmp_path / "shards")
    assert run.info.command == " ".join(sys.argv)
    import tensorflow as tf

    assert run.info.versions["tensorflow"] == tf.__version__
    assert "python" in run.info.versions


def test_the_same_recipe_goes_on_in_the_same_folder(tmp_path):
    RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    before = (tmp_path / "run.json").read_text()
    assert RunFolder.create(tmp_path, config(), manifest(), tmp_path).config == config()
    assert (tmp_path / "run.json").read_text() == before


def test_another_recipe_is_refused_with_key_and_both_values(tmp_path):
    RunFolder.create(tmp_path, config(epochs=7), manifest(), tmp_path)
    other = config(epochs=9, batch_size=32)
    text = refused(RunFolder.create, tmp_path, other, manifest(), tmp_path)
    assert "began with training.epochs = 7, not 9 (and 1 more)" in text


def test_other_shards_are_refused_with_both_ids(tmp_path):
    RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    others = manifest(shards_id="2c3d")
    text = refused(RunFolder.create, tmp_path, config(), others, tmp_path)
    assert "0a1b" in text and "2c3d" in text


def pseudo_labels(folder, shards_id="9f8e"):
    """Of pseudo-labels, what a run notes."""
    return SimpleNamespace(folder=folder, id=shards_id)


def test_a_run_notes_its_pseudo_labels_and_start_and_goes_on_with_the_same(tmp_path):
    start = RunFolder.create(tmp_path / "start", config(), manifest(), tmp_path)
    options = {"pseudo": pseudo_labels(tmp_path / "labels"), "start": start}
    run_dir = tmp_path / "run"
    RunFolder.create(run_dir, config(), manifest(), tmp_path, **options)
    run = RunFolder.create(run_dir, config(), manifest(), tmp_path, **options)
    assert run.info == RunFolder.open(run_dir).info
    assert (run.info.pseudo, run.info.pseudo_id) == (str(tmp_path / "labels"), "9f8e")
    assert run.info.start == str(tmp_path / "start")
    # Labels may move; what identifies them is what they are.
    moved = options | {"pseudo": pseudo_labels(tmp_path / "moved")}
    RunFolder.create(run_dir, config(), manifest(), tmp_path, **moved)

    def refusal(**changes):
        with pytest.raises(UserError) as caught:
            RunFolder.create(run_dir, config(), manifest(), tmp_path, **options | changes)
        return str(caught.value)

    text = refusal(pseudo=pseudo_labels(tmp_path / "others", "7c6b"))
    assert f"began with {tmp_path / 'labels'} (9f8e), not" in text
    assert f"{tmp_path / 'others'} (7c6b)" in text
    assert "(9f8e), not none" in refusal(pseudo=None)
    assert f"began with {start.path}, not none" in refusal(start=None)
    assert f"not {run.path}" in refusal(start=run)


def test_a_run_from_before_there_were_pseudo_labels_opens_and_goes_on(tmp_path):
    RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    path = tmp_path / "run.json"
    values = json.loads(path.read_text())
    del values["seal"]
    for name in ("pseudo", "pseudo_id", "start"):
        assert values.pop(name) == ""
    path.write_text(json.dumps(values))
    info = RunFolder.create(tmp_path, config(), manifest(), tmp_path).info
    assert (info.pseudo, info.pseudo_id, info.start) == ("", "", "")


def test_a_run_from_before_the_bands_of_boxes_were_kept_opens(tmp_path):
    RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    path = tmp_path / "run.json"
    values = json.loads(path.read_text())
    del values["box_hz"], values["seal"]
    path.write_text(json.dumps(values))
    assert RunFolder.open(tmp_path).info.box_hz == {}


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    text = refused(RunFolder.create, tmp_path, config(), manifest(), tmp_path)
    assert "holds something else" in text
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content", [None, "{}", '{"classes": []}'])
def test_what_is_not_a_run_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert f"{tmp_path} is not one" in refused(RunFolder.open, tmp_path)


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_record_that_is_not_as_it_was_written_is_refused(tmp_path, name):
    RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert str(path) in refused(RunFolder.open, tmp_path)
    for text in ("", "[]"):
        path.write_text(text)
        assert str(tmp_path) in refused(RunFolder.open, tmp_path)
    if name == "config.yaml":
        # A recipe to go on from is anybody's to edit.
        path.write_bytes(whole.replace(b"\nseed: 0", b"\nseed: 7"))
        assert load_config(path).seed == 7


def test_weights_and_tables_of_a_fold_are_compared_with_what_was_written(tmp_path):
    run = RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    run.fold(0).mkdir()
    table, weights = run.fold(0) / "oof_scores.csv", run.weights(0)
    table.write_text("recording_id,s2\na,0.5\n")
    weights.write_bytes(b"weights")
    run.finish(0, {})
    assert run.whole_weights(0) == weights
    weights.write_bytes(b"weightt")
    message = refused(run.whole_weights, 0)
    assert str(weights) in message and f"move {run.fold(0)} out of the run" in message
    (run.fold(0) / "oof_crops.csv").write_text("recording_id,s2\na,0.5\n")
    join_out_of_fold(run)
    assert of_run(run.path / "oof_scores.csv").read_text() == table.read_text()
    (run.path / "oof_scores.csv").write_text("recording_id,s2\na,0.6\n")
    assert "joins the tables of the folds again" in refused(of_run, run.path / "oof_scores.csv")
    table.write_text("recording_id,s2\na,0.6\n")
    assert str(table) in refused(join_out_of_fold, run)
    # Of an earlier version nothing is known.
    (run.fold(0) / "checksums.json").unlink()
    assert run.whole_weights(0) == weights


def test_finished_folds_are_those_with_figures(tmp_path):
    run = RunFolder.create(tmp_path, config(), manifest(), tmp_path)
    assert run.finished_folds == []
    for fold in (2, 0):
        run.fold(fold).mkdir()
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": fold}))
    run.fold(1).mkdir()
    assert run.finished_folds == [0, 2]
    assert run.weights(2) == tmp_path / "fold2" / "detector.weights.h5"
