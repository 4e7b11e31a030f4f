"""The mean of several runs by hand, and weights that a user gives."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from refused import refused

from rfcx_tf.scoring.ensemble_weights import choose_weights, combine_scores, write_weights


def test_the_mean_by_hand():
    one, other = np.array([[0.8, 0.4, 0.2]], np.float32), np.array([[0.1, 0.2, 0.0]], np.float32)
    for as_given in (np.asarray, tf.constant):
        mean = combine_scores([as_given(one), as_given(other)], np.array([0.75, 0.25]))
        assert mean.dtype == one.dtype
        np.testing.assert_allclose(mean, [[0.625, 0.35, 0.15]], rtol=1e-6)
        # A member alone is given back to the bit.
        np.testing.assert_array_equal(combine_scores([as_given(one)], [1.0]), one)


def test_weights_go_by_the_names_of_the_folders(tmp_path):
    path = tmp_path / "weights.yaml"
    write_weights(path, ["a", "b"], [0.71239, 0.28761])
    assert choose_weights([str(path)], [Path("elsewhere/b"), Path("a/")]) == [0.2876, 0.7124]
    assert choose_weights(["3", "1"], ["a", "b"]) == [0.75, 0.25]
    assert choose_weights(None, ["a", "b"]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (["1", "1", "1"], "one number for every run"),
        (["0.5"], "one number for every run"),
        (["a.yaml", "b.yaml"], "one number for every run"),
        (["2", "-1"], "not negative"),
        (["nan", "1"], "finite"),
        (["0", "0"], "above 0"),
        (["nowhere.yaml"], "cannot be read"),
    ],
)
def test_weights_that_cannot_be_are_refused(given, rule):
    assert rule in refused(choose_weights, given, ["runs/a", "runs/b"])


@pytest.mark.parametrize("text", ["", "- a", "members: 3", "members: [{run: a}]", "a: [", "\x00"])
def test_files_that_are_no_weights_are_refused(text, tmp_path):
    (tmp_path / "w.yaml").write_text(text)
    assert "w.yaml is not " in refused(choose_weights, [str(tmp_path / "w.yaml")], ["a", "b"])


def test_weights_of_other_runs_are_refused(tmp_path):
    path = str(tmp_path / "weights.yaml")
    write_weights(path, ["a", "b"], [0.5, 0.5])
    for runs in (["a", "c"], ["a"], ["a", "b", "b"]):
        text = refused(choose_weights, [path], runs)
        assert "has those of a, b" in text
        assert f"names {', '.join(runs)}." in text
