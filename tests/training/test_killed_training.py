"""Killed amid its files, a training or a round of pseudo-labels goes on to the end that it had."""

import itertools
import json
import shutil

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from killed import content, killed_at_every_operation

from rfcx_tf.core.lock import lock_folder
from rfcx_tf.training.pseudo.rounds import run_rounds
from rfcx_tf.training.run import train_run

QUIET = {"verbose": False, "report": lambda line: None}


@pytest.fixture(autouse=True)
def float32_policy():
    """A run sets the global precision; the next test wants the default again."""
    yield
    keras.mixed_precision.set_global_policy("float32")


def arrays(path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_a_training(
    reference,
    reference_config,
    tiny_shards,
    steps_without_graphs,
    without_pictures,
    tmp_path,
    monkeypatch,
):
    """Killed between the weights of the second epoch and the state that names them."""

    def train(run):
        with lock_folder(run, "train"), steps_without_graphs():
            train_run(reference_config, tiny_shards, run, [0], **QUIET)

    run = tmp_path / "run"
    # Four operations write the state of the first epoch.
    for _ in killed_at_every_operation(train, iter([run]), monkeypatch, [4], ending="state.json"):
        assert (run / "fold0" / "resume-0002.weights.h5").exists()
        state = json.loads((run / "fold0" / "state.json").read_text())
        assert len(state["history"]) == 1
    train(run)
    names = [{name for name in content(path) if "logs/" not in name} for path in (run, reference)]
    assert names[0] == names[1]
    one, other = (
        pd.read_csv(path / "fold0" / "history.csv").drop(columns="seconds")
        for path in (run, reference)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    for name in ("detector.weights.h5", "resume-0003.weights.h5"):
        whole = arrays(reference / "fold0" / name)
        found = arrays(run / "fold0" / name)
        assert found.keys() == whole.keys()
        assert all(np.array_equal(found[key], whole[key]) for key in whole)
    for name in ("oof_scores.csv", "oof_crops.csv"):
        assert (run / name).read_bytes() == (reference / name).read_bytes()


def test_rounds_of_pseudo_labels(
    fake_teacher, own_run, training_is_quick, tiny_shards, pseudo_recipe, tmp_path, monkeypatch
):
    """Killed amid labels, the beginning and the end of the student, and the table of rounds."""
    teacher = fake_teacher(tmp_path / "teacher", own_run.info.classes)
    shutil.copy(own_run.path / "oof_scores.csv", teacher.path)

    def rounds(out):
        with lock_folder(out, "pseudo-label"):
            run_rounds(*(pseudo_recipe, tiny_shards, [teacher], out), rounds=1, folds=[0], **QUIET)

    def found_in(out):
        return {name: found for name, found in content(out).items() if not name.endswith(".h5")}

    out = tmp_path / "out"
    rounds(out)
    whole = found_in(out)
    assert {"rounds.csv", "round1/run/fold0/done.json"} <= whole.keys()
    # Runs name their labels by their paths.
    out.rename(tmp_path / "whole")
    operations = (7, 21, 33, 40, 44, 60, 30)
    for _ in killed_at_every_operation(rounds, itertools.repeat(out), monkeypatch, operations):
        assert found_in(out) != whole
    rounds(out)
    assert found_in(out) == whole
