"""Calibration against scikit-learn and SciPy: maps, thresholds, figures, the file, the script."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, precision_recall_curve

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation import calibration_fit
from rfcx_tf.evaluation.calibration_fit import HeldOutCrops, fit_crops, read_crops
from rfcx_tf.evaluation.calibration_report import calibration_error, reliability, report_calibration
from rfcx_tf.evaluation.crop_table import crop_table, write_crops
from rfcx_tf.evaluation.thresholds import Wanted, choose_threshold, parse_wanted
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import (
    Calibration,
    read_calibration,
    write_calibration,
)
from rfcx_tf.shards.records import Manifest

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [SpeciesClass(2, "low"), SpeciesClass(15, "middle"), SpeciesClass(5, "high")]
COLUMNS = ["s2", "s15", "s5"]
PRECISION = Wanted("precision", 0.9)


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Maps


def calibration_of(score_logits, probability_logits, thresholds) -> Calibration:
    columns = [f"s{c}" for c in range(len(thresholds))]
    rows = [{"name": f"é {c}", "method": "platt", "note": ""} for c in range(len(thresholds))]
    return Calibration(
        columns,
        np.array(score_logits, np.float32),
        np.array(probability_logits, np.float32),
        np.array(thresholds, np.float32),
        rows,
        "precision 0.9",
        [{"run": "a", "weight": 1.0, "folds": [0, 2]}],
    )


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
@settings(max_examples=50, deadline=None)
def test_maps_do_not_fall(calibration, scores):
    probability = calibration.probabilities(
        np.tile(np.sort(scores)[:, None], len(calibration.rows))
    )
    assert (np.diff(probability, axis=0) >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()


@given(calibrations(), npst.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
@settings(max_examples=50, deadline=None)
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
@settings(max_examples=50, deadline=None)
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
        assert "c.yaml is not one" in refused(read_calibration, path)
    assert "cannot be read" in refused(read_calibration, tmp_path / "nowhere.yaml")
    twice = {"wanted": "F1", "members": [], "classes": [GOOD, GOOD]}
    path.write_text(yaml.safe_dump(twice))
    assert "each once" in refused(read_calibration, path)
    write_calibration(calibration_of([[0]] * 2, [[0]] * 2, [0.5] * 2), path)
    assert "1 (s1); only there: 1 (s7)" in refused(read_calibration, path, ["s0", "s7"])
    assert "another order" in refused(read_calibration, path, ["s1", "s0"])


# Thresholds


def expected_curve(probability):
    """Precision and recall that probabilities foretell, by scikit-learn's weighted counts.

    A row of probability q is q of a present row and 1 - q of an absent one.
    """
    target = np.repeat([1, 0], len(probability))
    weight = np.concatenate([probability, 1 - probability]).astype(float)
    values = np.tile(probability, 2)
    precision, recall, thresholds = precision_recall_curve(target, values, sample_weight=weight)
    return precision[:-1], recall[:-1], thresholds


probabilities = npst.arrays(
    np.float32, st.integers(1, 30), elements=st.floats(2**-20, 1 - 2**-20, width=32)
)


@given(probabilities, st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_thresholds_keep_what_is_wanted_and_no_more(probability, value):
    precision, recall, values = expected_curve(probability)
    threshold, reached = choose_threshold(probability, Wanted("precision", value))
    assert reached == (probability.max() >= value)
    detected = values >= threshold
    if reached:
        assert precision[detected].min() >= value - 1e-6
        assert (precision[~detected] < value + 1e-6).all()
    else:
        assert value <= threshold < value + 1e-6 and not detected.any()
    threshold, reached = choose_threshold(probability, Wanted("recall", value))
    detected = values >= threshold
    assert reached and recall[detected].max() >= value - 1e-6
    assert (recall[values > values[detected].min()] < value + 1e-6).all()
    threshold, reached = choose_threshold(probability, Wanted("F1"))
    f1 = 2 * precision * recall / (precision + recall)
    assert reached and f1[values >= threshold][0] == pytest.approx(f1.max(), abs=1e-6)


def test_a_threshold_lies_half_way_between_two_probabilities():
    probability = np.float32([0.2, 0.95, 0.9, 0.9, 0.4])
    # Mean of the first three 0.917, of the first four 0.7875.
    assert choose_threshold(probability, PRECISION)[0] == pytest.approx(0.65)
    assert choose_threshold(probability, Wanted("precision", 0.1))[0] == np.float32(0.2)


def test_wanted_is_read_and_written():
    assert str(parse_wanted("precision=0.9")) == "precision 0.9"
    assert str(parse_wanted("recall=0.75")) == "recall 0.75"
    assert str(parse_wanted("F1")) == str(parse_wanted("f1")) == "F1"
    for text in ("precision", "precision=1", "precision=nan", "accuracy=0.9", "f1=0.5", "0.9"):
        assert f"Received: '{text}'" in refused(parse_wanted, text)


# The fit


def gaussian_crops(seed=0, crops=800, known=0.7, priors=(0.4, 0.25, 0.1)) -> HeldOutCrops:
    """Crops of 5 folds whose scores are too sure: expit(2 l + 1) where the log odds are l."""
    random = np.random.default_rng(seed)
    present = random.random((crops, 3)) < priors
    signal = random.normal(2 * present)
    log_odds = 2 * signal - 2 + logit(priors)
    is_known = random.random((crops, 3)) < known
    ids = np.array([f"r{number // 2:04d}" for number in range(crops)])
    fold = np.arange(crops) // 2 % 5
    scores = expit(2 * log_odds + 1)
    recordings = pd.DataFrame(scores[::2], columns=COLUMNS)
    recordings.insert(0, "recording_id", ids[::2])
    return HeldOutCrops(
        *(COLUMNS, ["low", "middle", "high"], [{"run": "a", "weight": 1.0, "folds": [0]}]),
        *(ids, fold, scores, present & is_known, ~present & is_known, recordings),
    )


def test_platt_is_scikit_learns_regression_with_one_slope():
    crops = gaussian_crops()
    row, column = np.nonzero(crops.present | crops.absent)
    features = np.column_stack([logit(crops.scores[row, column]), np.eye(3)[column]])
    oracle = LogisticRegression(C=1 / calibration_fit.SHRINKAGE, tol=1e-10, max_iter=10_000)
    oracle.fit(features, crops.present[row, column])
    calibration = fit_crops(crops, "platt", PRECISION)
    found = calibration.probabilities(crops.scores)[row, column]
    np.testing.assert_allclose(found, oracle.predict_proba(features)[:, 1], atol=1e-4)
    assert [row["method"] for row in calibration.rows] == ["platt"] * 3
    assert [row["present"] for row in calibration.rows] == crops.present.sum(axis=0).tolist()


def test_isotonic_is_scikit_learns_at_every_row():
    crops = gaussian_crops(known=0.3)
    calibration = fit_crops(crops, "isotonic", PRECISION)
    found = calibration.probabilities(crops.scores)
    for c in range(3):
        known = (crops.present | crops.absent)[:, c]
        lowest = 1 / (known.sum() + 2)
        oracle = IsotonicRegression(y_min=lowest, y_max=1 - lowest, out_of_bounds="clip")
        oracle.fit(crops.scores[known, c], crops.present[known, c])
        np.testing.assert_allclose(
            found[known, c], oracle.predict(crops.scores[known, c]), atol=1e-5
        )
    assert (np.diff(calibration.score_logits) > 0).all()
    assert (np.diff(calibration.probability_logits) >= 0).all()


def test_true_log_odds_are_found_again():
    """Scores were expit(2 l + 1): the probability is expit((logit - 1) / 2)."""
    crops = gaussian_crops(crops=8000, known=1.0)
    true = expit((logit(crops.scores) - 1) / 2)
    for method, error in (("platt", 0.02), ("isotonic", 0.12)):
        found = fit_crops(crops, method, PRECISION).probabilities(crops.scores)
        assert np.abs(found - true).max() < error
        assert np.abs(found - true).mean() < 0.02


def keep_few(crops: HeldOutCrops, c: int, few: int) -> HeldOutCrops:
    """The crops with so many present labels of a class."""
    present = crops.present.copy()
    present[np.flatnonzero(present[:, c])[few:], c] = False
    return replace(crops, present=present)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_class_with_too_few_rows_gets_the_map_of_all(method):
    enough = fit_crops(keep_few(gaussian_crops(), 2, 10), method, PRECISION)
    assert enough.rows[2]["method"] == method
    assert "all classes together" not in enough.rows[2]["note"]
    few = keep_few(gaussian_crops(), 2, 9)
    calibration = fit_crops(few, method, PRECISION)
    row = calibration.rows[2]
    assert (row["method"], row["present"]) == ("pooled", 9)
    assert "all classes together" in row["note"]
    known = few.present | few.absent
    x, y = logit(few.scores[known]), few.present[known]
    if method == "platt":
        oracle = LogisticRegression(C=1 / calibration_fit.SHRINKAGE, tol=1e-10, max_iter=10_000)
        expected = oracle.fit(x[:, None], y).predict_proba(x[:, None])[:, 1]
    else:
        lowest = 1 / (len(y) + 2)
        expected = IsotonicRegression(y_min=lowest, y_max=1 - lowest).fit_transform(x, y)
    found = calibration.probabilities(np.repeat(few.scores[known][:, None], 3, axis=1))[:, 2]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # And their threshold: the mean of all that is above it.
    above = found >= calibration.thresholds[2]
    assert 0.9 <= found[above].mean() < 0.91


def test_a_class_of_which_nothing_is_known_is_pooled():
    crops = gaussian_crops()
    nothing = np.array([True, True, False])
    crops = replace(crops, present=crops.present & nothing, absent=crops.absent & nothing)
    for method in ("platt", "isotonic"):
        row = fit_crops(crops, method, PRECISION).rows[2]
        assert (row["method"], row["present"], row["absent"]) == ("pooled", 0, 0)
    report = report_calibration(crops, "platt", PRECISION)
    assert np.isnan(report.species["precision"][2]) and np.isnan(report.species["ece"][2])


def test_a_precision_out_of_reach_is_said():
    """Isotonic probabilities of n labels end at 1 - 1 / (n + 2)."""
    crops = gaussian_crops(crops=200)
    calibration = fit_crops(crops, "isotonic", Wanted("precision", 0.999))
    for row, threshold in zip(calibration.rows, calibration.thresholds, strict=True):
        assert "no threshold has the wanted precision 0.999: it is 0.999 itself" in row["note"]
        assert threshold == np.float32(0.999)
    assert (calibration.score_thresholds() > 1).all()
    assert all(row["note"] == "" for row in fit_crops(crops, "isotonic", Wanted("F1")).rows)


def test_labels_of_one_kind_and_backward_scores_are_refused():
    crops = gaussian_crops()
    nothing = np.zeros_like(crops.present)
    text = refused(fit_crops, replace(crops, absent=nothing), "isotonic", PRECISION)
    assert "0 absent" in text
    backward = replace(crops, present=crops.absent, absent=crops.present)
    assert "Scores must be higher" in refused(fit_crops, backward, "platt", PRECISION)


def test_scores_of_exactly_0_and_1_can_be_fitted():
    crops = gaussian_crops(crops=300)
    crops = replace(crops, scores=np.round(crops.scores))
    for method in ("platt", "isotonic"):
        calibration = fit_crops(crops, method, PRECISION)
        assert np.isfinite(calibration.probability_logits).all()
        assert (np.diff(calibration.score_logits) > 0).all()


# Figures


@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
@settings(max_examples=30, deadline=None)
def test_bins_and_error_are_scikit_learns(seed, labels):
    random = np.random.default_rng(seed)
    probability = random.random(labels)
    target = random.random(labels) < 0.4
    present, mean = calibration_curve(target, probability, n_bins=10)
    table = reliability(target, probability)
    count = np.histogram(probability, np.linspace(0, 1, 11))[0]
    np.testing.assert_array_equal(table["count"], count)
    filled = table[table["count"] > 0]
    np.testing.assert_allclose(filled["present"], present)
    np.testing.assert_allclose(filled["probability"], mean)
    expected = np.average(np.abs(present - mean), weights=count[count > 0])
    assert calibration_error(target, probability) == pytest.approx(expected)


def test_calibration_error_by_hand():
    """Bins of 0.95 twice (one present) and 0.05 twice (none): (2 * 0.45 + 2 * 0.05) / 4."""
    error = calibration_error([True, False, False, False], [0.95, 0.95, 0.05, 0.05])
    assert error == pytest.approx(0.25)
    assert np.isnan(calibration_error([], []))
    assert reliability([True], [1.0])["count"].tolist() == [0] * 9 + [1]


@pytest.fixture(scope="module")
def report():
    """A report of Gaussian crops, whose truth of recordings is 1 where a score is above 0.9."""
    crops = gaussian_crops()
    truth = crops.recordings[COLUMNS] > 0.9
    truth.insert(0, "recording_id", crops.recordings["recording_id"])
    return crops, truth, report_calibration(crops, "platt", PRECISION, truth[10:])


def test_figures_are_of_fits_that_left_the_fold_out(report):
    crops, _, made = report
    expected = np.empty(crops.scores.shape)
    detected = np.empty(crops.scores.shape, bool)
    for fold in range(5):
        fit = fit_crops(crops, "platt", PRECISION, used=crops.fold != fold)
        # What a fold's labels are has no say in its own probabilities.
        other = replace(crops, present=crops.present & (crops.fold != fold)[:, None])
        same = fit_crops(other, "platt", PRECISION, used=crops.fold != fold)
        np.testing.assert_array_equal(fit.probability_logits, same.probability_logits)
        inside = crops.fold == fold
        expected[inside] = fit.probabilities(crops.scores[inside])
        detected[inside] = expected[inside] >= fit.thresholds
    np.testing.assert_array_equal(made.probability, expected.astype(np.float32))
    known = crops.present | crops.absent
    target = crops.present[known]
    figures = made.figures.set_index("values")
    before, after = figures.loc["scores as they are"], figures.loc["platt, out of fold"]
    assert before["brier"] == pytest.approx(brier_score_loss(target, crops.scores[known]))
    assert after["brier"] == pytest.approx(brier_score_loss(target, expected[known]))
    assert after["log_loss"] == pytest.approx(log_loss(target, expected[known]), rel=1e-5)
    assert after["precision"] == pytest.approx(target[detected[known]].mean())
    assert after["recall"] == pytest.approx(detected[known][target].mean())
    assert after["precision"] == pytest.approx(0.9, abs=0.04)
    assert after["ece"] < before["ece"] / 2
    assert after["log_loss"] < before["log_loss"]
    np.testing.assert_array_equal(made.species["present"], crops.present.sum(axis=0))


def test_recordings_are_scored_with_the_truth_that_is_given(report):
    crops, truth, made = report
    present = truth[COLUMNS].to_numpy(bool)[10:]
    scores = crops.recordings[COLUMNS].to_numpy()[10:]
    before = made.recordings.iloc[0]
    assert before["brier"] == pytest.approx(brier_score_loss(present.ravel(), scores.ravel()))
    assert before["mean"] == pytest.approx(scores.mean())
    assert before["present"] == pytest.approx(present.mean())
    # A crop here is its recording: even ones have the same probability.
    after = made.recordings.iloc[1]
    own = made.probability[::2][10:].ravel()
    assert after["brier"] == pytest.approx(brier_score_loss(present.ravel(), own))
    assert "## Whole recordings" in made.text
    without = report_calibration(crops, "platt", PRECISION)
    assert without.recordings is None and "Whole recordings" not in without.text
    np.testing.assert_array_equal(without.calibration.score_logits, made.calibration.score_logits)


def test_a_truth_that_does_not_fit_is_refused(report):
    crops, truth, _ = report
    strange = truth.assign(recording_id=[f"x{k}" for k in range(len(truth))])
    text = refused(report_calibration, crops, "platt", PRECISION, strange)
    assert "names none of the 400" in text
    renamed = truth.rename(columns={"s5": "s6"})
    text = refused(report_calibration, crops, "platt", PRECISION, renamed)
    assert "Only in the truth: 1 (s6); only in the runs: 1 (s5)" in text


def test_what_is_not_as_wanted_is_said():
    crops = gaussian_crops(seed=3, crops=300)
    notes = report_calibration(crops, "isotonic", Wanted("precision", 0.95)).notes
    assert any("platt, out of fold is better than isotonic" in note for note in notes)
    assert any(note.startswith("Wanted: precision 0.95. On crops") for note in notes)


def test_a_single_fold_is_dealt_into_parts_of_recordings():
    crops = gaussian_crops()
    made = report_calibration(replace(crops, fold=np.zeros_like(crops.fold)), "platt", PRECISION)
    assert "part of the recordings (of 5)" in made.text
    one = replace(crops, recording_id=np.full(len(crops.scores), "r1"), fold=crops.fold * 0)
    assert "Only one was held out, r1" in refused(report_calibration, one, "platt", PRECISION)


# Runs and the script


def make_run(path, crops: HeldOutCrops, classes=CLASSES, finished=range(5)) -> RunFolder:
    manifest = Manifest(classes, {}, {}, "", 64, 32, 5, 0, "", {}, {}, {}, "", {})
    config = Config.model_validate({"training": {"folds": 5}})
    run = RunFolder.create(path, config, manifest, path)
    rows = pd.DataFrame(
        {
            "recording_id": crops.recording_id,
            "fold": crops.fold,
            "kind": "tp",
            "species_id": 2,
            "t_min": np.arange(len(crops.fold)) % 2 + 1.0,
            "t_max": 2.5,
        }
    )
    known = crops.present | crops.absent
    table = crop_table(rows, classes, crops.present, known, crops.scores)
    write_crops(table, path / "oof_crops.csv")
    crops.recordings.to_csv(path / "oof_scores.csv", index=False)
    for fold in finished:
        run.fold(fold).mkdir()
        (run.fold(fold) / "done.json").write_text("{}")
    return run


def test_a_run_is_read_and_several_are_averaged(tmp_path):
    crops = gaussian_crops(crops=100)
    one = make_run(tmp_path / "a", crops)
    read = read_crops([one], [1.0])
    np.testing.assert_array_equal(read.present, crops.present)
    np.testing.assert_array_equal(read.absent, crops.absent)
    np.testing.assert_allclose(read.scores, crops.scores, atol=1e-6)
    assert read.members == [{"run": "a", "weight": 1.0, "folds": [0, 1, 2, 3, 4]}]
    assert (read.columns, read.names) == (COLUMNS, ["low", "middle", "high"])
    other = make_run(tmp_path / "b", replace(crops, scores=1 - crops.scores), finished=[1])
    both = read_crops([one, other], [0.75, 0.25])
    np.testing.assert_allclose(both.scores, 0.25 + 0.5 * crops.scores, atol=1e-6)
    np.testing.assert_array_equal(both.present, crops.present)
    np.testing.assert_allclose(both.recordings[COLUMNS], crops.recordings[COLUMNS])
    assert both.members[1] == {"run": "b", "weight": 0.25, "folds": [1]}


def test_runs_that_cannot_be_read_are_refused(tmp_path):
    crops = gaussian_crops(crops=100)
    unfinished = make_run(tmp_path / "a", crops, finished=[])
    assert "at least one finished fold" in refused(read_crops, [unfinished], [1.0])
    run = make_run(tmp_path / "b", crops)
    other = make_run(tmp_path / "c", crops, [*CLASSES[:2], SpeciesClass(6, "owl")])
    assert "same classes" in refused(read_crops, [run, other], [0.5, 0.5])
    assert "Only in a table: 1 (s5); only in the run: 1 (s6)" in refused(read_crops, [other], [1.0])
    (run.path / "oof_crops.csv").unlink()
    assert "cannot be read: No such file" in refused(read_crops, [run], [1.0])


def test_script_writes_calibration_report_and_figure(tmp_path, run_script):
    crops = keep_few(gaussian_crops(crops=300), 2, 5)
    run = make_run(tmp_path / "run", crops)
    result = run_script("calibrate", "--run", run.path, "--wanted", "recall=0.8")
    assert result.returncode == 0, result.stderr
    assert "s5 high: fewer than 10 present" in result.stdout
    out = run.path / "calibration.yaml"
    report, figure = out.with_suffix(".md"), out.with_suffix(".png")
    assert f"Wrote {out}, {report} and {figure}." in result.stdout.splitlines()
    calibration = read_calibration(out, COLUMNS)
    assert calibration.wanted == "recall 0.8"
    assert [row["method"] for row in calibration.rows] == ["platt", "platt", "pooled"]
    expected = fit_crops(read_crops([run], [1.0]), "platt", Wanted("recall", 0.8))
    np.testing.assert_array_equal(calibration.score_logits, expected.score_logits)
    np.testing.assert_array_equal(calibration.thresholds, expected.thresholds)
    assert report.read_text() in result.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_refused_in_one_line_with_status_2(tmp_path, run_script):
    for arguments, rule in (
        (("--run", "a", "b"), "Name a file with --out"),
        (("--run", "a", "--wanted", "accuracy"), "--wanted takes"),
        (("--run", tmp_path), "is not one"),
        (("--run", tmp_path, "--out", tmp_path / "x.png"), "are for report and figure"),
        (("--run", tmp_path, "--truth", tmp_path / "t.csv"), "cannot be read"),
    ):
        result = run_script("calibrate", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and rule in line
    assert not list(tmp_path.iterdir())
