"""Combination rules and fitted weights, by hand and on out-of-fold tables of made-up runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.ensemble_report import join_members, report_ensemble
from rfcx_tf.evaluation.metrics import masked_log_loss
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.ensemble import (
    choose_weights,
    combine_scores,
    fit_weights,
    write_weights,
)
from rfcx_tf.shards.records import Manifest

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [SpeciesClass(2, "low"), SpeciesClass(15, "middle"), SpeciesClass(5, "high")]
COLUMNS = ["s2", "s15", "s5"]


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The mean


def test_the_mean_by_hand():
    one, other = np.array([[0.8, 0.4, 0.2]], np.float32), np.array([[0.1, 0.2, 0.0]], np.float32)
    for as_given in (np.asarray, tf.constant):
        mean = combine_scores([as_given(one), as_given(other)], np.array([0.75, 0.25]))
        assert mean.dtype == one.dtype
        np.testing.assert_allclose(mean, [[0.625, 0.35, 0.15]], rtol=1e-6)
        # A member alone is given back to the bit.
        np.testing.assert_array_equal(combine_scores([as_given(one)], [1.0]), one)


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


# Weights given by the user


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
    assert "w.yaml is not one" in refused(choose_weights, [str(tmp_path / "w.yaml")], ["a", "b"])


def test_weights_of_other_runs_are_refused(tmp_path):
    path = str(tmp_path / "weights.yaml")
    write_weights(path, ["a", "b"], [0.5, 0.5])
    for runs in (["a", "c"], ["a"], ["a", "b", "b"]):
        text = refused(choose_weights, [path], runs)
        assert "has those of a, b" in text
        assert f"names {', '.join(runs)}." in text


# Out-of-fold tables


def make_run(path, crops: pd.DataFrame, scores: pd.DataFrame, classes=CLASSES) -> RunFolder:
    manifest = Manifest(classes, {}, {}, "", 64, 32, 2, 0, "", {}, {}, {}, "", {})
    run = RunFolder.create(path, Config.model_validate({"training": {"folds": 2}}), manifest, path)
    crops.to_csv(run.path / "oof_crops.csv", index=False)
    scores.to_csv(run.path / "oof_scores.csv", index=False)
    for fold in crops["fold"].unique():
        run.fold(fold).mkdir()
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": int(fold)}))
    return run


def tables(good_folds=(0, 1), recordings=8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two crops a recording, s2 present and s15 absent in one, the reverse in the other.

    A member gives 0.9 and 0.1 in folds that it is good at, and 0.5 elsewhere; of s5, of which
    nothing is known, always 0.7.
    """
    crops, scores = [], []
    for number in range(recordings):
        fold = number % 2
        sure = 0.9 if fold in good_folds else 0.5
        name = f"{number:03d}"
        for begin_s, present, absent in ((0.5, 2, 15), (3.25, 15, 2)):
            row = [name, fold, "tp", present, begin_s, begin_s + 1, str(present), str(absent)]
            of_s2 = sure if present == 2 else 1 - sure
            crops.append([*row, of_s2, 1 - of_s2, 0.7])
        scores.append([name, sure, 1 - sure, 0.7])
    columns = ["recording_id", "fold", "kind", "species_id", "t_min", "t_max", "present", "absent"]
    return (
        pd.DataFrame(crops, columns=[*columns, *COLUMNS]),
        pd.DataFrame(scores, columns=["recording_id", *COLUMNS]),
    )


def figures_of(report) -> pd.DataFrame:
    return report.figures.set_index("predictions")


def test_fitted_weights_are_tried_on_the_fold_that_they_did_not_see(tmp_path):
    """Each is good at one fold: what is learnt from one fold is wrong in the other."""
    runs = [make_run(tmp_path / name, *tables([k])) for k, name in enumerate("ab")]
    report = report_ensemble(join_members(runs), shrinkage=0.0)
    np.testing.assert_allclose(report.weights["weight"], [0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(report.weights["lowest"], [0, 0], atol=1e-4)
    np.testing.assert_allclose(report.weights["highest"], [1, 1], atol=1e-4)
    losses = figures_of(report)["log_loss"]
    assert losses["a alone"] == pytest.approx(-np.log(0.9 * 0.5) / 2)
    assert losses["all, equal weights"] == pytest.approx(-np.log(0.7))
    assert losses["all, fitted weights"] == pytest.approx(-np.log(0.5), abs=1e-3)
    flattered = losses["all, weights fitted on the same crops (flattered)"]
    assert flattered == pytest.approx(-np.log(0.7), abs=1e-3)
    assert "worse than equal ones" in report.text
    assert "leave out one fold" in report.text
    assert "lwlrap" not in report.text


def test_truth_scores_and_does_not_fit(tmp_path):
    names = {"sure": (0, 1), "half": (0,), "unsure": ()}
    runs = [make_run(tmp_path / name, *tables(folds)) for name, folds in names.items()]
    held_out = join_members(runs)
    truth = pd.DataFrame({"recording_id": ["002", "001", "none"], "s2": 1, "s15": 0, "s5": 0})
    report = report_ensemble(held_out, truth)
    pd.testing.assert_frame_equal(report.weights, report_ensemble(held_out).weights)
    assert report.weights["weight"].is_monotonic_decreasing
    figures = figures_of(report)
    # Unsure: s5 is before s2 (0.7, 0.5), which shares the third rank with s15.
    assert figures["lwlrap"]["sure alone"] == 1
    assert figures["lwlrap"]["half alone"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["lwlrap"]["unsure alone"] == pytest.approx(1 / 3)
    assert figures["lrap"]["sure alone"] == 1
    assert figures["lrap"]["unsure alone"] == pytest.approx(1 / 3)
    assert report.chance == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    # What a member adds: the ensemble without it.
    losses = figures["log_loss"]
    assert losses["without sure, equal weights"] == pytest.approx(-np.log(0.7 * 0.5) / 2)
    assert losses["without unsure, equal weights"] == pytest.approx(-np.log(0.9 * 0.7) / 2)
    assert losses["all, fitted weights"] < losses["all, equal weights"]
    assert "chance 0.6111" in report.text
    wrong = truth.assign(recording_id=["x", "y", "z"])
    assert "none of the 8" in refused(report_ensemble, held_out, wrong)


def test_crops_that_all_held_out_are_joined_in_any_order(tmp_path):
    """One has finished fold 0 only, the other lists its crops and recordings backwards."""
    crops, scores = tables()
    of_fold_0 = crops["fold"] == 0
    some = make_run(tmp_path / "some", crops[of_fold_0], scores[::2])
    every = make_run(tmp_path / "every", crops[::-1], scores[::-1])
    held_out = join_members([some, every])
    assert held_out.left_out_crops == [0, 8]
    assert held_out.recordings == ["000", "002", "004", "006"]
    np.testing.assert_allclose(held_out.probability[0], crops.loc[of_fold_0, COLUMNS])
    np.testing.assert_array_equal(held_out.probability[1], held_out.probability[0])
    np.testing.assert_array_equal(held_out.scores[1], held_out.scores[0])
    # No fold to leave out: recordings are.
    assert "one part of the recordings (of 4)" in report_ensemble(held_out).text


def test_labels_on_which_members_do_not_agree_are_left_out(tmp_path):
    """A longer crop knows more; another part of it may even be absent where this is present."""
    crops, scores = tables()
    other = crops.copy()
    other.loc[0, ["present", "absent"]] = ["2", "15;5"]
    other.loc[1, ["present", "absent"]] = ["", "15"]
    other.loc[2, "absent"] = ""
    runs = [make_run(tmp_path / "a", crops, scores), make_run(tmp_path / "b", other, scores)]
    held_out = join_members(runs)
    assert held_out.left_out_labels == 4
    np.testing.assert_array_equal(held_out.known[:4], [[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(held_out.target[:4], [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_rows_that_agree_in_everything_are_told_apart(tmp_path):
    crops, scores = tables()
    twice = pd.concat([crops, crops[:1].assign(s2=0.25)])
    runs = [make_run(tmp_path / name, twice, scores) for name in "ab"]
    held_out = join_members(runs)
    assert len(held_out.crops) == 17
    np.testing.assert_array_equal(held_out.probability[0], held_out.probability[1])


def test_members_that_do_not_go_together_are_refused(tmp_path):
    crops, scores = tables()
    run = make_run(tmp_path / "run", crops, scores)
    moved = make_run(tmp_path / "moved", crops.assign(fold=1 - crops["fold"]), scores)
    text = refused(join_members, [run, moved])
    assert f"000 is in fold 0 of {run.path} and in fold 1 of {moved.path}" in text
    renamed = [*CLASSES[:2], SpeciesClass(5, "owl")]
    other = make_run(tmp_path / "other", crops, scores, renamed)
    text = refused(join_members, [run, other])
    assert f"only in {run.path}: 1 (s5 high); only in {other.path}: 1 (s5 owl)" in text
    turned = make_run(tmp_path / "turned", crops, scores, CLASSES[::-1])
    assert "in another order" in refused(join_members, [run, turned])
    strange = crops.assign(recording_id="x" + crops["recording_id"])
    strange = make_run(tmp_path / "strange", strange, scores)
    assert "There is none" in refused(join_members, [run, strange])
    assert "at least two runs" in refused(join_members, [run])
    assert "different names" in refused(join_members, [run, run])
    (run.path / "oof_crops.csv").unlink()
    assert f"{run.path} has no oof_crops.csv" in refused(join_members, [moved, run])


def test_nothing_to_fit_on_is_refused(tmp_path):
    crops, scores = tables()
    of_one = crops["recording_id"] == "000"
    runs = [make_run(tmp_path / name, crops[of_one], scores[:1]) for name in "ab"]
    assert "Only one was held out, 000" in refused(report_ensemble, join_members(runs))
    unknown = crops.assign(present="", absent="")
    runs = [make_run(tmp_path / name, unknown, scores) for name in "cd"]
    assert "known labels" in refused(report_ensemble, join_members(runs))


def test_script_writes_weights_and_a_report(tmp_path, run_script):
    runs = [make_run(tmp_path / name, *tables(folds)) for name, folds in (("a", [0, 1]), ("b", []))]
    tables()[1].assign(s2=1, s15=0, s5=0).to_csv(tmp_path / "truth.csv", index=False)
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


def test_bad_input_is_refused_in_one_line_with_status_2(tmp_path, run_script):
    run = make_run(tmp_path / "a", *tables())
    result = run_script("ensemble", "--run", run.path, "--out", tmp_path / "weights.yaml")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: An ensemble needs at least two runs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
