"""Calibration against scikit-learn: the fit, its figures and its report."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import CLASSES, COLUMNS, gaussian_crops, held_out_of, make_run
from refused import refused
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from rfcx_tf.evaluation.calibration_fit import SHRINKAGE, fit_calibration, fit_platt
from rfcx_tf.evaluation.calibration_report import calibration_error, reliability, report_calibration
from rfcx_tf.evaluation.crop_table import crop_table
from rfcx_tf.evaluation.held_out import HeldOut, read_held_out
from rfcx_tf.evaluation.thresholds import Wanted
from rfcx_tf.scoring.calibration import read_calibration

PRECISION = Wanted("precision", 0.9)


# The fit


@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 30.0])
def test_platt_is_scikit_learns_penalised_regression_with_one_slope(shrinkage):
    crops = gaussian_crops()
    row, column = np.nonzero(crops.present | crops.absent)
    features = np.column_stack([logit(crops.scores[row, column]), np.eye(3)[column]])
    oracle = LogisticRegression(C=1 / shrinkage, tol=1e-10, max_iter=10_000)
    oracle.fit(features, crops.present[row, column])
    slope, intercepts = fit_platt(crops.scores, crops.present, crops.absent, shrinkage)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    expected = oracle.intercept_[0] + oracle.coef_[0, 1:]
    np.testing.assert_allclose(intercepts, expected, atol=2e-4)


def test_a_calibration_is_the_fit_of_its_known_labels():
    crops = gaussian_crops()
    calibration = fit_calibration(crops, PRECISION)
    slope, intercepts = fit_platt(crops.scores, crops.present, crops.absent, SHRINKAGE)
    expected = expit(slope * logit(crops.scores) + intercepts)
    np.testing.assert_allclose(calibration.probabilities(crops.scores), expected, atol=1e-6)
    assert [row["method"] for row in calibration.rows] == ["platt"] * 3
    assert [row["present"] for row in calibration.rows] == crops.present.sum(axis=0).tolist()
    unknown = ~(crops.present | crops.absent)
    other = replace(crops, scores=np.where(unknown, 0.9, crops.scores))
    same = fit_calibration(other, PRECISION)
    np.testing.assert_array_equal(same.probability_logits, calibration.probability_logits)


def test_true_log_odds_are_found_again():
    """Scores were expit(2 l + 1): the probability is expit((logit - 1) / 2)."""
    crops = gaussian_crops(crops=8000, known=1.0)
    true = expit((logit(crops.scores) - 1) / 2)
    found = fit_calibration(crops, PRECISION).probabilities(crops.scores)
    assert np.abs(found - true).max() < 0.02


def keep_few(crops: HeldOut, c: int, few: int) -> HeldOut:
    """The crops with so many present labels of a class."""
    present = crops.present.copy()
    present[np.flatnonzero(present[:, c])[few:], c] = False
    return replace(crops, present=present)


def test_a_class_with_too_few_rows_gets_the_map_of_all():
    enough = fit_calibration(keep_few(gaussian_crops(), 2, 10), PRECISION)
    assert enough.rows[2]["method"] == "platt"
    assert "all classes together" not in enough.rows[2]["note"]
    few = keep_few(gaussian_crops(), 2, 9)
    calibration = fit_calibration(few, PRECISION)
    row = calibration.rows[2]
    assert (row["method"], row["present"]) == ("pooled", 9)
    assert "all classes together" in row["note"]
    known = few.present | few.absent
    x, y = logit(few.scores[known])[:, None], few.present[known]
    oracle = LogisticRegression(C=1 / SHRINKAGE, tol=1e-10, max_iter=10_000)
    expected = oracle.fit(x, y).predict_proba(x)[:, 1]
    found = calibration.probabilities(np.repeat(few.scores[known][:, None], 3, axis=1))[:, 2]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # And their threshold: the mean of all that is above it.
    above = found >= calibration.thresholds[2]
    assert 0.9 <= found[above].mean() < 0.91


def test_a_class_of_which_nothing_is_known_is_pooled():
    crops = gaussian_crops()
    nothing = np.array([True, True, False])
    crops = replace(crops, present=crops.present & nothing, absent=crops.absent & nothing)
    report = report_calibration(crops, PRECISION)
    row = report.calibration.rows[2]
    assert (row["method"], row["present"], row["absent"]) == ("pooled", 0, 0)
    assert np.isnan(report.species["precision"][2]) and np.isnan(report.species["ece"][2])


def test_a_precision_out_of_reach_is_said():
    crops = gaussian_crops(crops=200)
    calibration = fit_calibration(crops, Wanted("precision", 0.9999))
    for row, threshold in zip(calibration.rows, calibration.thresholds, strict=True):
        assert "no threshold has the wanted precision 0.9999: it is 0.9999 itself" in row["note"]
        assert 0.9999 <= threshold < 0.9999 + 1e-6
    assert (calibration.score_thresholds() > crops.scores.max()).all()
    assert all("reaches" not in row["note"] for row in fit_calibration(crops, Wanted("F1")).rows)


def test_labels_of_one_kind_and_backward_scores_are_refused():
    crops = gaussian_crops()
    nothing = np.zeros_like(crops.present)
    assert "0 absent" in refused(fit_calibration, replace(crops, absent=nothing), PRECISION)
    backward = replace(crops, present=crops.absent, absent=crops.present)
    assert "Scores must be higher" in refused(fit_calibration, backward, PRECISION)


def test_scores_of_exactly_0_and_1_and_apart_stay_finite():
    present = np.arange(40)[:, None] < [20, 15, 12]
    calibration = fit_calibration(held_out_of(present.astype(float), present, ~present), PRECISION)
    assert np.isfinite(calibration.probability_logits).all()
    assert (np.diff(calibration.probability_logits) > 0).all()


# Figures


@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
@settings(max_examples=12)
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
    return crops, truth, report_calibration(crops, PRECISION, truth[10:])


def test_figures_are_of_fits_that_left_the_fold_out(report):
    crops, _, made = report
    folds = crops.crops["fold"].to_numpy()
    expected = np.empty(crops.scores.shape)
    detected = np.empty(crops.scores.shape, bool)
    for fold in range(5):
        fit = fit_calibration(crops, PRECISION, folds != fold)
        # What a fold's labels are has no say in its own probabilities.
        other = replace(crops, present=crops.present & (folds != fold)[:, None])
        same = fit_calibration(other, PRECISION, folds != fold)
        np.testing.assert_array_equal(fit.probability_logits, same.probability_logits)
        inside = folds == fold
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
    without = report_calibration(crops, PRECISION)
    assert without.recordings is None and "Whole recordings" not in without.text
    np.testing.assert_array_equal(without.calibration.score_logits, made.calibration.score_logits)


def test_a_truth_that_does_not_fit_is_refused(report):
    crops, truth, _ = report
    strange = truth.assign(recording_id=[f"x{k}" for k in range(len(truth))])
    assert "names none of the 400" in refused(report_calibration, crops, PRECISION, strange)
    renamed = truth.rename(columns={"s5": "s6"})
    text = refused(report_calibration, crops, PRECISION, renamed)
    assert "only in the truth: 1 (s6); only in the runs: 1 (s5)" in text


def test_what_is_not_as_wanted_is_said():
    """Scores that are right by themselves are better than any fit."""
    random = np.random.default_rng(1)
    scores = random.random((300, 3))
    present = random.random((300, 3)) < scores
    notes = report_calibration(held_out_of(scores, present, ~present), PRECISION).notes
    assert any("scores as they are is better than platt" in note for note in notes)
    notes = report_calibration(gaussian_crops(seed=3, crops=300), Wanted("precision", 0.95)).notes
    assert any(note.startswith("Wanted: precision 0.95. On crops") for note in notes)


def test_a_single_fold_is_dealt_into_parts_of_recordings():
    crops = gaussian_crops(crops=300)
    one_fold = replace(crops, crops=crops.crops.assign(fold=0))
    assert "part of the recordings (of 5)" in report_calibration(one_fold, PRECISION).text
    one = replace(crops, crops=crops.crops.assign(fold=0, recording_id="r1"))
    assert "Only one was held out, r1" in refused(report_calibration, one, PRECISION)


# The script


def test_script_writes_calibration_report_and_figure(tmp_path, run_script):
    crops = keep_few(gaussian_crops(crops=300), 2, 5)
    known = crops.present | crops.absent
    rows = crops.crops.assign(t_min=np.arange(300) % 2 + 1.0, t_max=2.5)
    table = crop_table(rows, CLASSES, crops.present, known, crops.scores)
    run = make_run(tmp_path / "run", table, crops.recordings)
    result = run_script("calibrate", "--run", run.path, "--wanted", "recall=0.8")
    assert result.returncode == 0, result.stderr
    assert "s5 high: fewer than 10 present" in result.stdout
    out = run.path / "calibration.yaml"
    report, figure = out.with_suffix(".md"), out.with_suffix(".png")
    assert f"Wrote {out}, {report} and {figure}." in result.stdout.splitlines()
    calibration = read_calibration(out, COLUMNS)
    assert calibration.wanted == "recall 0.8"
    assert [row["method"] for row in calibration.rows] == ["platt", "platt", "pooled"]
    read = read_held_out([run])
    np.testing.assert_array_equal(read.present, crops.present)
    np.testing.assert_array_equal(read.absent, crops.absent)
    expected = fit_calibration(read, Wanted("recall", 0.8))
    np.testing.assert_array_equal(calibration.probability_logits, expected.probability_logits)
    np.testing.assert_array_equal(calibration.thresholds, expected.thresholds)
    assert report.read_text() in result.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_arguments_that_do_not_go_together_are_refused(tmp_path, run_script):
    for arguments, rule in (
        (("--run", "a", "b"), "Name a file with --out"),
        (("--run", "a", "--wanted", "accuracy"), "--wanted takes"),
        (("--run", tmp_path, "--out", tmp_path / "x.png"), "are for report and figure"),
    ):
        result = run_script("calibrate", *arguments)
        assert result.returncode == 2 and rule in result.stderr
    assert not list(tmp_path.iterdir())
