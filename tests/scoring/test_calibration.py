"""Calibrations: maps by hand, their score thresholds, and the file."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from refused import refused
from scipy.special import expit

from rfcx_tf.scoring.calibration import Calibration, read_calibration, write_calibration


def calibration_of(score_logits, probability_logits, thresholds) -> Calibration:
    columns = [f"s{c}" for c in range(len(thresholds))]
    rows = [{"name": f"é {c}", "method": "isotonic", "note": ""} for c in range(len(thresholds))]
    return Calibration(
        columns,
        np.array(score_logits, np.float32),
        np.array(probability_logits, np.float32),
        np.array(thresholds, np.float32),
        rows,
        "precision 0.9",
        [{"run": "a", "weight": 1.0, "folds": [0, 2]}],
    )


# Files of older versions also have isotonic maps, with many knots.
@st.composite
def calibrations(draw) -> Calibration:
    classes, knots = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    number = st.floats(-25, 25, width=32)
    x = [
        sorted(draw(st.lists(number, min_size=knots, max_size=knots, unique=True)))
        for _ in range(classes)
    ]
    y = [sorted(draw(st.lists(number, min_size=knots, max_size=knots))) for _ in range(classes)]
    unit = st.floats(0, 1, width=32)
    return calibration_of(x, y, draw(st.lists(unit, min_size=classes, max_size=classes)))


def test_a_map_is_a_line_between_knots_of_log_odds_and_constant_beyond():
    """Log odds -1 at -2, 3 at 2: half-way at 0 they are 1. Beyond: -1 and 3."""
    calibration = calibration_of([[-2, 2]], [[-1, 3]], [0.5])
    scores = np.float32([0, expit(-9), expit(-2), 0.5, expit(1), expit(2), 1, 1 + 1e-6])[:, None]
    expected = expit([[-1], [-1], [-1], [1], [2], [3], [3], [3]])
    found = calibration.probabilities(scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # The probability 0.5 is log odds 0, that is 1/4 of the way: log odds -1 of the score.
    np.testing.assert_allclose(calibration.score_thresholds(), [expit(-1)], rtol=1e-6)
    windows = scores.reshape(2, 4, 1)
    np.testing.assert_array_equal(calibration.probabilities(windows), found.reshape(2, 4, 1))
    with pytest.raises(ValueError, match=r"1 classes"):
        calibration.probabilities(np.zeros((1, 2)))


def test_scores_of_0_and_1_are_clipped_log_odds():
    straight = calibration_of([[-20, 20]], [[-20, 20]], [0.5])
    np.testing.assert_allclose(
        straight.probabilities([[0.0], [1.0]])[:, 0], expit([-20, 20]), rtol=1e-6
    )


@given(calibrations(), npst.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
@settings(max_examples=50)
def test_maps_do_not_fall(calibration, scores):
    probability = calibration.probabilities(
        np.tile(np.sort(scores)[:, None], len(calibration.rows))
    )
    assert (np.diff(probability, axis=0) >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()


@given(calibrations(), npst.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
@settings(max_examples=50)
def test_score_thresholds_detect_what_thresholds_detect(calibration, scores):
    edge = calibration.score_thresholds()
    assert edge.dtype == np.float32
    # The thresholds themselves and the numbers next to them, where the two could disagree.
    near = np.stack([np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(2))])
    scores = np.concatenate([np.tile(scores[:, None], len(edge)), near.clip(0, 1)])
    by_score = scores >= edge
    by_probability = calibration.probabilities(scores) >= calibration.thresholds
    np.testing.assert_array_equal(by_score, by_probability)


def test_a_threshold_that_no_score_reaches_is_above_1():
    calibration = calibration_of([[-1, 1]], [[-1, 1]], [0.9])
    assert 1 < calibration.score_thresholds()[0] < 1.001


# The file


@given(calibrations())
@settings(max_examples=50)
def test_the_file_keeps_every_digit(tmp_path_factory, calibration):
    path = tmp_path_factory.mktemp("file") / "new" / "calibration.yaml"
    write_calibration(calibration, path)
    read = read_calibration(path, calibration.columns)
    for name in ("score_logits", "probability_logits", "thresholds"):
        mine, theirs = getattr(calibration, name), getattr(read, name)
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(theirs, mine)
    for name in ("columns", "rows", "wanted", "members"):
        assert getattr(read, name) == getattr(calibration, name)


GOOD = {"class": "s1", "threshold": 0.5, "score_logits": [0, 1], "probability_logits": [0, 0]}


@pytest.mark.parametrize(
    "change",
    [
        {"class": "bird"},
        {"threshold": 1.5},
        {"threshold": [0.5]},
        {"threshold": float("nan")},
        {"score_logits": [1, 1]},
        {"score_logits": [0, float("inf")]},
        {"score_logits": [0]},
        {"probability_logits": [1, 0]},
        {"probability_logits": None},
        {"score_logits": [], "probability_logits": []},
    ],
)
def test_files_that_are_no_calibration_are_refused(change, tmp_path):
    path = tmp_path / "c.yaml"
    content = {"wanted": "F1", "members": [], "classes": [GOOD]}
    path.write_text(yaml.safe_dump(content))
    assert read_calibration(path).columns == ["s1"]
    path.write_text(yaml.safe_dump(content | {"classes": [GOOD | change]}))
    assert "c.yaml is not one" in refused(read_calibration, path)


def test_other_files_and_classes_are_refused(tmp_path):
    path = tmp_path / "c.yaml"
    for text in ("", "- a", "a: [", "classes: 3", "\x00", "classes: [1]"):
        path.write_text(text)
        assert "c.yaml is not " in refused(read_calibration, path)
    assert "cannot be read" in refused(read_calibration, tmp_path / "nowhere.yaml")
    twice = {"wanted": "F1", "members": [], "classes": [GOOD, GOOD]}
    path.write_text(yaml.safe_dump(twice))
    assert "each once" in refused(read_calibration, path)
    write_calibration(calibration_of([[0]] * 2, [[0]] * 2, [0.5] * 2), path)
    assert "1 (s1); only in the scores: 1 (s7)" in refused(read_calibration, path, ["s0", "s7"])
    assert "another order" in refused(read_calibration, path, ["s1", "s0"])
