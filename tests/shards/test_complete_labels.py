"""From complete.csv to the labels of crops, regressions and held-out tables, by hand."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from refused import refused

from rfcx_tf.core.config import BaselineConfig
from rfcx_tf.evaluation.crop_table import read_crops
from rfcx_tf.evaluation.held_out import read_held_out
from rfcx_tf.evaluation.prior_shift import known_recordings
from rfcx_tf.evaluation.run import evaluate_run
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.shards.dataset import _sampler, validation_dataset
from rfcx_tf.shards.make import _plan_id, make_shards
from rfcx_tf.shards.records import LABELLED, ShardReader
from rfcx_tf.training.baseline import train_baseline
from rfcx_tf.training.callbacks import ValidationMonitors
from rfcx_tf.training.checks import check_monitor
from rfcx_tf.training.listener import _labeller

# recording, species, begin, end, TP or FP. The last lies behind the end of its recording.
ROWS = [
    ("both", 2, 1.0, 1.4, "tp"),
    ("both", 5, 4.0, 4.4, "fp"),
    ("plain", 5, 2.0, 2.4, "tp"),
    ("only2", 5, 2.0, 2.4, "tp"),
    ("lost", 2, 1.0, 1.4, "tp"),
    ("lost", 9, 5.8, 6.6, "tp"),
    ("more", 9, 2.0, 2.4, "tp"),
    ("more", 9, 4.0, 4.4, "fp"),
]
# "quiet" has no row at all, and "short" is shorter than a crop.
COMPLETE = "recording_id,species_id\nboth,\nonly2,2\nlost,\nquiet,\nshort,\n"
# What is known of crops by recording and kind: states of the species 2, 5, 9, by hand.
EXPECTED = {
    ("both", "tp"): "paa",
    ("both", "fp"): "aaa",
    ("both", "absent"): "aaa",
    ("plain", "tp"): "upu",
    ("only2", "tp"): "apu",
    ("only2", "absent"): "auu",
    # Its call of 9 could not be used, so 9 is not absent.
    ("lost", "tp"): "pau",
    ("lost", "absent"): "aau",
    ("more", "tp"): "uup",
    ("more", "fp"): "uua",
    ("quiet", "absent"): "aaa",
    ("short", "absent"): "aaa",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with complete.csv."""
    folder = tmp_path_factory.mktemp("complete")
    (folder / "train").mkdir()
    random = np.random.default_rng(3)
    for name in (*dict.fromkeys(row[0] for row in ROWS), "quiet", "short"):
        sound = random.normal(0, 0.1, 4000 if name == "short" else 48000)
        soundfile.write(folder / "train" / f"{name}.wav", sound, 8000)
    header = ["recording_id", "species_id", "t_min", "t_max", "f_min", "f_max"]
    for kind in ("tp", "fp"):
        rows = [[*row[:4], 100, 200] for row in ROWS if row[4] == kind]
        with (folder / f"train_{kind}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    (folder / "complete.csv").write_text(COMPLETE)
    return folder


@pytest.fixture(scope="module")
def reader(data, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete_shards")
    make_shards(
        *(read_kaggle_folder(data), tiny_config, data, folder),
        progress=False,
        report=lambda line: None,
    )
    return ShardReader(folder)


def states(target, known):
    letters = {(1, 1): "p", (0, 1): "a", (0, 0): "u"}
    return "".join(letters[pair] for pair in zip(target, known, strict=True))


def test_crops_of_complete_recordings_know_what_is_absent(reader, tiny_config):
    rows = reader.rows([0, 1], *LABELLED)
    labels = {}
    for batch in validation_dataset(reader, tiny_config, rows).as_numpy_iterator():
        for target, known, partly in zip(
            batch["target"], batch["known"], batch["partly"], strict=True
        ):
            assert not partly.any()
            line = reader.index.iloc[rows[len(labels)]]
            labels[line["recording_id"], line["kind"]] = states(target, known)
    assert labels == EXPECTED
    # One a started half minute.
    assert reader.manifest.counts == {"tp": 5, "fp": 2, "absent": 5, "unlabelled": 0}
    absent = reader.index[reader.index["kind"] == "absent"]
    assert set(absent["species_id"]) == {-1}
    for name, species, begin, end, _ in ROWS:
        own = absent[absent["recording_id"] == name]
        assert ((own["t_max"] <= begin) | (own["t_min"] >= end)).all(), species


def test_the_manifest_says_which_recordings_are_complete(reader):
    every = [2, 5, 9]
    assert reader.manifest.complete == {
        "both": every,
        "only2": [2],
        "lost": [2, 5],
        "quiet": every,
        "short": every,
    }


def test_draws_of_fp_rows_are_also_of_absent_crops(reader, tiny_config):
    values = tiny_config.model_dump()
    values["dataset"]["tp_fraction"] = 0.0
    config = type(tiny_config).model_validate(values)
    sampler = _sampler(reader, config, [0, 1])
    drawn = reader.index.iloc[[sampler.draw(number)[0] for number in range(30)]]
    # FP rows of 5 and 9, and absent crops as a class more: all of them in turn.
    assert drawn["species_id"].value_counts().to_dict() == {5: 10, 9: 10, -1: 10}
    counts = drawn.loc[drawn["kind"] == "absent", "recording_id"].value_counts()
    assert counts.to_dict() == dict.fromkeys(["both", "only2", "lost", "quiet", "short"], 2)


def test_another_complete_csv_makes_other_shards(data, reader, tiny_config, tmp_path):
    annotations = read_kaggle_folder(data)
    annotations.complete.pop("quiet")
    text = refused(make_shards, annotations, tiny_config, data, reader.folder, progress=False)
    assert "holds those of another" in text
    # How many absent crops there are matters only where something is complete.
    ids = set()
    for complete, per_minute in (({}, 2.0), ({}, 9.0), ({"both": [2]}, 2.0), ({"both": [2]}, 9.0)):
        values = tiny_config.model_dump()
        values["crops"]["absent_per_minute"] = per_minute
        config = type(tiny_config).model_validate(values)
        annotations = read_kaggle_folder(data)
        annotations.complete.clear()
        annotations.complete.update(complete)
        ids.add(_plan_id(annotations, [], config))
    assert len(ids) == 3


def test_windows_of_listeners_know_what_crops_do(reader):
    annotated = reader.index.iloc[reader.rows([0, 1], *LABELLED)]
    label = _labeller(annotated, reader.manifest, 1.0)

    def at(recording, *begins):
        target, known, partly = label(np.array(begins), recording)
        of_windows = zip(target, known, partly, strict=True)
        return ["h" * bool(h.any()) + states(t, k) for t, k, h in of_windows]

    # The call from 1 to 1.4 s is heard, half heard and less, and not.
    assert at("both", 0.5, 0.2, 0.15, 2.0) == ["paa", "paa", "huaa", "aaa"]
    assert at("only2", 2.0, 3.0) == ["apu", "auu"]
    assert at("plain", 2.0, 3.0) == ["upu", "uuu"]
    assert at("lost", 3.0) == ["aau"]
    assert at("quiet", 0.0, 5.0) == ["aaa", "aaa"]


def test_a_positives_only_data_set_has_absents(reader):
    check_monitor(reader, "val_fp_log_loss")
    positives = SimpleNamespace(
        folder="shards",
        index=reader.index[reader.index["kind"] != "fp"],
        manifest=replace(reader.manifest, complete={}),
    )
    assert "has no FP rows" in refused(check_monitor, positives, "val_fp_log_loss")
    positives.manifest = reader.manifest
    check_monitor(positives, "val_fp_log_loss")


def test_what_is_found_in_absent_crops_is_wrong(reader, tiny_config):
    rows = reader.rows([0, 1], *LABELLED)
    lines = reader.index.iloc[rows]
    dataset = validation_dataset(reader, tiny_config, rows)
    monitors = ValidationMonitors(dataset, lines, reader.manifest.classes, tiny_config.frontend)
    outputs = {
        "logits": np.zeros((len(rows), 3), np.float32),
        "box": np.tile(np.float32([0.3, 0.7, 100, 200]), (len(rows), 3, 1)),
    }
    monitors.set_model(SimpleNamespace(predict=lambda *_, **__: outputs))
    figures = monitors.validate()
    is_absent = (lines["kind"] == "absent").tolist()
    assert monitors.found.isna().all(axis=1).tolist() == is_absent
    assert monitors.found["iou"].isna().tolist() == is_absent
    assert figures["val_fp_log_loss"] == pytest.approx(np.log(2))
    # All five TP rows are found, both FP rows, and all that absent crops are known not to hold.
    wrong = sum(said.count("a") for (_, kind), said in EXPECTED.items() if kind == "absent")
    assert figures["val_event_f1"] == pytest.approx(2 * 5 / (5 + 5 + 2 + wrong))


@pytest.fixture(scope="module")
def run(reader, tiny_config, tmp_path_factory):
    """A baseline of those shards, since it takes the least time."""
    values = tiny_config.model_dump(include={"frontend", "crops", "training", "audio", "loss"})
    path = tmp_path_factory.mktemp("complete_run") / "run"
    config = BaselineConfig.model_validate(values)
    return train_baseline(
        config, reader.folder, path, [0, 1], progress=False, report=lambda line: None
    )


def test_held_out_crops_say_what_was_absent(run):
    table = read_crops(run)
    ids = {"2": 0, "5": 1, "9": 2}
    found = {}
    for row in table.itertuples():
        cells = ["u"] * 3
        for name in ("present", "absent"):
            for species in filter(None, getattr(row, name).split(";")):
                cells[ids[species]] = name[0]
        found[row.recording_id, row.kind] = "".join(cells)
    assert found == EXPECTED
    figures = evaluate_run(run)[0].set_index("fold").loc["all"]
    assert (figures["tp_crops"], figures["fp_crops"], figures["absent_crops"]) == (5, 2, 5)
    # Over all labels that are known absent, in whatever crop: 8 of `both`, 2, 3, 1, 3 and 3.
    scores, known = table[["s2", "s5", "s9"]].to_numpy(), np.array([*map(list, found.values())])
    losses = -np.log1p(-np.clip(scores[known == "a"], 0, 1 - 1e-7))
    assert len(losses) == 20
    assert figures["fp_log_loss"] == pytest.approx(losses.mean(), rel=1e-3)


def test_recordings_know_what_their_crops_do(run):
    present, absent = known_recordings(read_held_out([run]))
    recordings = read_held_out([run]).recordings["recording_id"]
    labels = np.where(present, "p", np.where(absent, "a", "u"))
    assert dict(zip(recordings, map("".join, labels), strict=True)) == {
        "both": "paa",
        "plain": "upu",
        "only2": "apu",
        "lost": "pau",
        "more": "uup",
        "quiet": "aaa",
        "short": "aaa",
    }
