"""Fitted weights by hand and by a grid, and what a report says of made-up runs."""

import numpy as np
import pandas as pd
import pytest
from made_runs import made_tables, make_run
from refused import refused

from rfcx_tf.evaluation.ensemble_report import fit_weights, report_ensemble
from rfcx_tf.evaluation.held_out import read_held_out
from rfcx_tf.evaluation.metrics import masked_log_loss
from rfcx_tf.scoring.ensemble_weights import choose_weights

# Fitted weights


def labels(crops=400, seed=0):
    random = np.random.default_rng(seed)
    return random, random.random((crops, 3)) < 0.3, random.random((crops, 3)) < 0.7


def noisy(random, target, noise):
    return 1 / (1 + np.exp(-(4.0 * target - 2 + noise * random.normal(size=target.shape))))


def test_the_perfect_member_gets_the_weight():
    random, target, known = labels()
    perfect = np.where(target, 0.98, 0.02)
    weights = fit_weights(target, known, [random.random(target.shape), perfect])
    np.testing.assert_allclose(weights, [0, 1], atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.3])
def test_weights_are_the_minimum_of_the_shrunk_loss(shrinkage):
    random, target, known = labels()
    members = np.stack([noisy(random, target, noise) for noise in (2.0, 2.4)])
    grid = np.linspace(0, 1, 1001)
    losses = [
        masked_log_loss(target, known, w * members[0] + (1 - w) * members[1])
        + shrinkage * 2 * ((w - 0.5) ** 2 + (0.5 - w) ** 2)
        for w in grid
    ]
    # Convex: no other dip on the way.
    assert np.diff(losses, 2).min() > 0
    weights = fit_weights(target, known, members, shrinkage)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(grid[np.argmin(losses)], abs=2e-3)
    assert 0.5 < weights[0] < 1


def test_equal_members_share_equally():
    random, target, known = labels()
    one, other = noisy(random, target, 1.0), noisy(random, target, 1.2)
    twice = fit_weights(target, known, [one, one, other])
    assert twice[0] == pytest.approx(twice[1], abs=1e-4)
    np.testing.assert_allclose(fit_weights(target, known, [one] * 3), [1 / 3] * 3, atol=1e-6)
    np.testing.assert_allclose(fit_weights(target, known, [one, other], 1e3), [0.5] * 2, atol=1e-3)


def test_unknown_labels_never_count():
    random, target, known = labels()
    members = np.stack([noisy(random, target, noise) for noise in (1.0, 1.5)])
    others = np.where(known, members, random.random(members.shape))
    other_target = np.where(known, target, ~target)
    np.testing.assert_array_equal(
        fit_weights(target, known, members), fit_weights(other_target, known, others)
    )
    nothing = np.zeros_like(known)
    np.testing.assert_array_equal(fit_weights(target, nothing, members), [0.5, 0.5])


# The report


def test_fitted_weights_are_tried_on_the_fold_that_they_did_not_see(tmp_path):
    """Each is good at one fold: what is learnt from one fold is wrong in the other."""
    runs = [make_run(tmp_path / name, *made_tables([k])) for k, name in enumerate("ab")]
    weights, figures, text = report_ensemble(read_held_out(runs), shrinkage=0.0)
    np.testing.assert_allclose(weights["weight"], [0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(weights["lowest"], [0, 0], atol=1e-4)
    np.testing.assert_allclose(weights["highest"], [1, 1], atol=1e-4)
    losses = figures.set_index("predictions")["log_loss"]
    assert losses["a alone"] == pytest.approx(-np.log(0.9 * 0.5) / 2)
    assert losses["all, equal weights"] == pytest.approx(-np.log(0.7))
    assert losses["all, fitted weights"] == pytest.approx(-np.log(0.5), abs=1e-3)
    flattered = losses["all, weights fitted on the same crops (flattered)"]
    assert flattered == pytest.approx(-np.log(0.7), abs=1e-3)
    assert "worse than equal ones" in text
    assert "leave out one fold" in text
    assert "lwlrap" not in text


def test_truth_scores_and_does_not_fit(tmp_path):
    names = {"sure": (0, 1), "half": (0,), "unsure": ()}
    runs = [make_run(tmp_path / name, *made_tables(folds)) for name, folds in names.items()]
    held_out = read_held_out(runs)
    truth = pd.DataFrame({"recording_id": ["002", "001", "none"], "s2": 1, "s15": 0, "s5": 0})
    weights, figures, text = report_ensemble(held_out, truth)
    pd.testing.assert_frame_equal(weights, report_ensemble(held_out)[0])
    assert weights["weight"].is_monotonic_decreasing
    figures = figures.set_index("predictions")
    # Unsure: s5 is before s2 (0.7, 0.5), which shares the third rank with s15.
    assert figures["lwlrap"]["sure alone"] == 1
    assert figures["lwlrap"]["half alone"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["lwlrap"]["unsure alone"] == pytest.approx(1 / 3)
    assert figures["lrap"]["sure alone"] == 1
    assert figures["lrap"]["unsure alone"] == pytest.approx(1 / 3)
    # What a member adds: the ensemble without it.
    losses = figures["log_loss"]
    assert losses["without sure, equal weights"] == pytest.approx(-np.log(0.7 * 0.5) / 2)
    assert losses["without unsure, equal weights"] == pytest.approx(-np.log(0.9 * 0.7) / 2)
    assert losses["all, fitted weights"] < losses["all, equal weights"]
    # (1 + 1/2 + 1/3) / 3
    assert "chance 0.6111" in text
    wrong = truth.assign(recording_id=["x", "y", "z"])
    assert "none of the 8" in refused(report_ensemble, held_out, wrong)


def test_what_cannot_be_fitted_is_refused(tmp_path):
    crops, scores = made_tables()
    of_one = crops["recording_id"] == "000"
    runs = [make_run(tmp_path / name, crops[of_one], scores[:1]) for name in "ab"]
    assert "Only one was held out, 000" in refused(report_ensemble, read_held_out(runs))
    assert "at least two runs" in refused(report_ensemble, read_held_out(runs[:1]))
    assert "different names" in refused(report_ensemble, read_held_out(runs[:1] * 2))
    unknown = crops.assign(present="", absent="")
    runs = [make_run(tmp_path / name, unknown, scores) for name in "cd"]
    assert "known labels" in refused(report_ensemble, read_held_out(runs))


def test_script_writes_weights_and_a_report(tmp_path, run_script):
    runs = [
        make_run(tmp_path / name, *made_tables(folds)) for name, folds in (("a", [0, 1]), ("b", []))
    ]
    made_tables()[1].assign(s2=1, s15=0, s5=0).to_csv(tmp_path / "truth.csv", index=False)
    out = tmp_path / "out" / "weights.yaml"
    result = run_script(
        *("ensemble", "--run", *(run.path for run in runs)),
        *("--out", out, "--truth", tmp_path / "truth.csv", "--shrinkage", "0"),
    )
    assert result.returncode == 0, result.stderr
    report = out.with_suffix(".md")
    assert report.read_text() in result.stdout
    assert f"Wrote {out} and {report}." in result.stdout.splitlines()
    assert choose_weights([str(out)], [tmp_path / "b", tmp_path / "a"]) == [0, 1]
