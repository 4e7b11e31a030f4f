"""Whatever a command was killed at, the same command ends as if nothing had happened."""

import itertools
import shutil

import numpy as np
import pytest
from killed import content, killed_at_every_operation
from made_runs import made_tables, make_run

from rfcx_tf.cli.main import main
from rfcx_tf.core.config import Config
from rfcx_tf.core.lock import lock_file, lock_folder
from rfcx_tf.evaluation import calibration_figure
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.report import page, run_sections
from rfcx_tf.review.verdicts import apply_review
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring import load
from rfcx_tf.scoring.journal import Journal
from rfcx_tf.scoring.scorer import RecordingResult
from rfcx_tf.serving import export
from rfcx_tf.shards import make as shards
from rfcx_tf.shards.records import ShardReader


@pytest.fixture
def folders(tmp_path):
    """A function: as many folders as are asked for, copies of one or not there yet."""

    def make(start=None):
        for number in itertools.count():
            folder = tmp_path / f"{number}"
            if start is not None:
                shutil.copytree(start, folder)
            yield folder

    return make


def test_shards(folders, tiny_data, tiny_config, tmp_path, monkeypatch):
    values = tiny_config.model_dump()
    values["crops"]["recordings_per_shard"] = 5
    config = Config.model_validate(values)
    annotations = read_kaggle_folder(tiny_data)
    cut, transform, kept = shards._cut_recording, shards.RecordingTransform(config), {}

    def cut_once(recording_id, *others):
        if recording_id not in kept:
            crops, *said = cut(recording_id, *others)
            kept[recording_id] = list(crops), *said
        return kept[recording_id]

    monkeypatch.setattr(shards, "_cut_recording", cut_once)
    monkeypatch.setattr(shards, "RecordingTransform", lambda config: transform)

    def command(folder):
        with lock_folder(folder, "make-tfrecords"):
            shards.make_shards(annotations, config, tiny_data, folder, workers=1, progress=False)

    command(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    kills = 0
    for folder in killed_at_every_operation(command, folders(), monkeypatch):
        kills += 1
        command(folder)
        assert content(folder) == whole
    # 7 files are written, each begun and put to its place.
    assert kills > 2 * 7


def test_results_of_single_recordings(folders, monkeypatch):
    def begin(folder):
        with lock_file(folder / "scores.csv", "predict"):
            journal = Journal(folder / "scores.csv.parts", "new")
            for name in "ab":
                if journal.read(name, "key") is None:
                    journal.write(RecordingResult(name, folder, 1.0, np.ones(2), None), "key")
            return journal

    def command(folder):
        begin(folder).remove()

    def of_another_model(start):
        for folder in start:
            journal = Journal(folder / "scores.csv.parts", "old")
            for name in "ac":
                journal.write(RecordingResult(name, folder, 1.0, np.zeros(2), None), "key")
            yield folder

    for start in (folders(), of_another_model(folders())):
        for folder in killed_at_every_operation(command, start, monkeypatch):
            journal = begin(folder)
            assert [journal.read(name, "key").scores.tolist() for name in "ab"] == [[1, 1]] * 2
            assert journal.read("c") is None
            journal.remove()
            assert content(folder) == {}
            folder.rmdir()


def test_the_beginning_of_a_run(folders, tiny_config, tiny_shards, monkeypatch):
    manifest = ShardReader(tiny_shards).manifest

    def command(folder):
        with lock_folder(folder, "train"):
            return RunFolder.create(folder, tiny_config, manifest, tiny_shards)

    for folder in killed_at_every_operation(command, folders(), monkeypatch):
        assert command(folder).info.classes == manifest.classes
        assert content(folder).keys() == {"config.yaml", "run.json"}


def test_a_review(folders, tiny_data, tmp_path, monkeypatch):
    """Of a folder without species.csv, so that all three tables are written, and one recording."""
    start = tmp_path / "data"
    shutil.copytree(tiny_data, start)
    (start / "species.csv").unlink()
    (start / "train" / "tiny09.flac").unlink()
    lines = ["recording_id,species_id,species,t_min,t_max,f_min,f_max,verdict,file"]
    for name, verdict in (("tiny00", "TP"), ("tiny01", "FP"), ("tiny09", "TP")):
        file = tiny_data / "train" / f"{name}.flac"
        lines.append(f"{name},7,Kuckuck,1,2,500,600,{verdict},{file}")
    review = tmp_path / "review.csv"
    review.write_text("\n".join(lines))

    def command(folder):
        apply_review(review, folder, copy_recordings=True)

    for folder in killed_at_every_operation(command, folders(start), monkeypatch):
        command(folder)
        added = {
            name: (folder / name).read_text().removeprefix((tiny_data / name).read_text())
            for name in ("train_tp.csv", "train_fp.csv")
        }
        assert added["train_tp.csv"].splitlines() == [
            "tiny00,7,1,1,500,2,600",
            "tiny09,7,1,1,500,2,600",
        ]
        assert added["train_fp.csv"].splitlines() == ["tiny01,7,1,1,500,2,600"]
        assert (folder / "species.csv").read_text() == (
            "species_id,name\n2,s2\n5,s5\n7,Kuckuck\n9,s9\n"
        )
        assert content(folder / "train") == content(tiny_data / "train")
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        shutil.rmtree(folder)


def verb(*words, statuses=(0,)):
    """A command that runs a verb; DIR in its words stands for the folder."""

    def command(folder):
        status = main([str(word).replace("DIR", str(folder)) for word in words])
        assert status in statuses

    return command


def once(monkeypatch, module, name):
    """Lets a function do its work the first time alone: it is not what is killed."""
    work, results = getattr(module, name), []

    def first_result(*arguments, **options):
        if not results:
            results.append(work(*arguments, **options))
        return results[0]

    monkeypatch.setattr(module, name, first_result)


def test_a_prediction(folders, untrained_run, tiny_data, tmp_path, monkeypatch):
    """Killed again and again in one folder: amid recordings, tables and as it cleans up."""
    scorer = load.load_together([untrained_run], [1.0], "mean")
    monkeypatch.setattr(load, "load_together", lambda *arguments: scorer)
    predict = verb(
        *("predict", "--run", untrained_run.path, "--audio", tiny_data / "train"),
        *("--out", "DIR/scores.csv", "--window-scores", "DIR/windows.parquet"),
        *("--events", "DIR/events", "--format", "csv", "raven"),
    )
    predict(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    assert len(whole) == 3 + 2 * 10
    again = itertools.repeat(tmp_path / "again")
    operations = (8, 23, 9, 40, 66, 70, 72)
    for folder in killed_at_every_operation(predict, again, monkeypatch, operations):
        kept = {name: found for name, found in content(folder).items() if name in whole}
        assert kept.items() <= whole.items()
    predict(tmp_path / "again")
    assert content(tmp_path / "again") == whole


@pytest.mark.parametrize(
    "words",
    [
        "calibrate --run ONE --out DIR/a.yaml",
        "ensemble --run ONE TWO --out DIR/a.yaml",
        "report --run ONE --out DIR/a.html",
    ],
)
def test_what_is_made_of_runs(words, folders, tmp_path, monkeypatch):
    once(monkeypatch, calibration_figure, "draw_reliability")
    once(monkeypatch, run_sections, "run_sections")
    once(monkeypatch, page, "report_page")
    for name, folds in {"ONE": [0, 1], "TWO": [0]}.items():
        make_run(tmp_path / name, *made_tables(folds))
        words = words.replace(name, str(tmp_path / name))
    command = verb(*words.split())
    command(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for folder in killed_at_every_operation(command, folders(), monkeypatch):
        command(folder)
        assert content(folder) == whole


def test_exports(folders, untrained_run, monkeypatch):
    """A version is there whole or not at all."""

    class Servable:
        def __init__(self, scorer, assets):
            (assets / "card.json").write_text("{}")

        def save(self, folder):
            folder.mkdir()
            for name in ("saved_model.pb", "variables"):
                (folder / name).write_text(name)

        def warmup_calls(self, seconds):
            return []

    monkeypatch.setattr(export, "ServableModel", Servable)

    def command(folder):
        with lock_folder(folder, "export"):
            export.export_saved_model(None, folder)

    versions = []
    for folder in killed_at_every_operation(command, folders(), monkeypatch):
        versions.append(sorted(path.name for path in folder.glob("[0-9]*")))
        command(folder)
        assert {path.name for path in folder.iterdir()} == {"1", *(["2"] * len(versions[-1]))}
        for version in folder.iterdir():
            assert content(version).keys() >= {"saved_model.pb", "variables"}
    assert versions[0] == [] and versions[-1] == ["1"]


def test_marks_of_tables(folders, tiny_data, tmp_path, monkeypatch):
    start, tables = tmp_path / "data", tmp_path / "tables"
    shutil.copytree(tiny_data, start)
    (start / "species.csv").unlink()
    tables.mkdir()
    (tables / "tiny00.txt").write_text("1\t2\tKuckuck\n3\t4\tlow|FP\n")
    (tables / "tiny01.txt").write_text("0.5\t0.75\tOwl\t0.75\n")
    command = verb(
        *("import-annotations", "--tables", tables, "--data", "DIR"),
        *("--detections", "DIR/found.csv"),
    )

    def found_in(folder):
        found = content(folder)
        # It names files by their paths.
        return found | {"found.csv": found["found.csv"].replace(bytes(folder), b"DIR")}

    shutil.copytree(start, tmp_path / "whole")
    command(tmp_path / "whole")
    whole = found_in(tmp_path / "whole")
    for folder in killed_at_every_operation(command, folders(start), monkeypatch):
        command(folder)
        assert found_in(folder) == whole
        shutil.rmtree(folder)
