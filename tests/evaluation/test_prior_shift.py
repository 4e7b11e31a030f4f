"""Prior shift against closed forms, SciPy, Bayes' rule and simulated shifts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from made_runs import CLASSES, COLUMNS, held_out_of, make_run
from refused import refused
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from rfcx_tf.evaluation import prior_shift as module
from rfcx_tf.evaluation.held_out import HeldOut, read_held_out
from rfcx_tf.evaluation.prior_shift import (
    apply_offsets,
    estimate_prevalence,
    estimate_prior_shift,
    known_recordings,
    read_offsets,
    write_prior,
)


def table_of(scores) -> pd.DataFrame:
    table = pd.DataFrame(scores, columns=COLUMNS)
    table.insert(0, "recording_id", [f"{number:05d}" for number in range(len(table))])
    return table


# Prevalence


def test_prevalence_of_a_yes_or_no_signal_in_closed_form():
    """A detector that says yes to 80 % of the present and 20 % of the absent.

    Among all, it says yes to 0.2 + 0.6 pi. The prior of 30 % gives posteriors 12/19 and 3/31.
    """
    yes, no = logit(12 / 19), logit(3 / 31)
    said_yes = np.arange(1000)[:, None] < [500, 260, 680]
    logits = np.where(said_yes, yes, no)
    found = estimate_prevalence(logits, [0.3] * 3, pseudo_count=1e-6)
    np.testing.assert_allclose(found, [0.5, 0.1, 0.8], atol=1e-5)


def test_prevalence_of_certain_recordings_is_their_share_and_the_pseudo_count():
    logits = np.where(np.arange(10)[:, None] < [0, 3, 10], 60.0, -60.0)
    found = estimate_prevalence(logits, [0.2, 0.5, 0.9], pseudo_count=2)
    np.testing.assert_allclose(found, [0.4 / 12, 4 / 12, 11.8 / 12], atol=1e-8)


def test_scores_that_say_nothing_leave_the_prior():
    prior = np.array([0.05, 0.4])
    np.testing.assert_allclose(estimate_prevalence(np.tile(logit(prior), (50, 1)), prior), prior)


def test_the_first_step_is_the_mean_of_bayes_rule(monkeypatch):
    """Two steps by hand, from posteriors 0.6 and 0.1 under a prior of 0.5.

    pi = 0.35. Then 0.6 * 0.35 / (0.6 * 0.35 + 0.4 * 0.65) = 21/47, and 0.035 / 0.62 = 7/124.
    """
    monkeypatch.setattr(module, "_MAX_STEPS", 2)
    monkeypatch.setattr(module, "_TOLERANCE", 1.0)
    logits = logit([[0.6], [0.1]])
    np.testing.assert_allclose(estimate_prevalence(logits, [0.5], 1e-12), [0.35])
    # The tolerance lies between the first change (0.15) and the second (about 0.1).
    monkeypatch.setattr(module, "_TOLERANCE", 0.12)
    by_hand = (21 / 47 + 7 / 124) / 2
    np.testing.assert_allclose(estimate_prevalence(logits, [0.5], 1e-12), [by_hand])
    monkeypatch.setattr(module, "_TOLERANCE", 1e-9)
    assert "found in 2 steps" in refused(estimate_prevalence, logits, [0.5], 1e-12)


@pytest.mark.parametrize("pseudo_count", [1e-3, 1.0, 20.0])
def test_prevalence_is_the_highest_point_of_the_likelihood(pseudo_count):
    random = np.random.default_rng(1)
    prior = np.array([0.2, 0.5, 0.7])
    logits = random.normal(-1, 2, (60, 3))
    ratio = np.exp(logits - logit(prior))

    def highest(c: int) -> float:
        def loss(pi: float) -> float:
            likelihood = np.log(pi * ratio[:, c] + 1 - pi).sum()
            beta = prior[c] * np.log(pi) + (1 - prior[c]) * np.log(1 - pi)
            return -likelihood - pseudo_count * beta

        return minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x

    found = estimate_prevalence(logits, prior, pseudo_count)
    np.testing.assert_allclose(found, [highest(c) for c in range(3)], atol=1e-5)


def gaussians(random, prevalence, recordings, distance=2.0):
    """Signals of unit variance around 0 (absent) and `distance` (present), and presence.

    Their log likelihood ratio is distance * x - distance^2 / 2.
    """
    present = random.random((recordings, len(prevalence))) < prevalence
    return random.normal(distance * present), present


def test_known_shift_of_two_gaussians_is_found_within_sampling_error():
    random = np.random.default_rng(2)
    prior, true, recordings = np.array([0.5, 0.3, 0.1]), np.array([0.1, 0.3, 0.6]), 5000
    signal, _ = gaussians(random, true, recordings)
    logits = 2 * signal - 2 + logit(prior)
    found = estimate_prevalence(logits, prior)
    # Standard error from the curvature of the log likelihood at the truth.
    ratio = np.exp(2 * signal - 2)
    curvature = (((ratio - 1) / (true * ratio + 1 - true)) ** 2).sum(axis=0)
    assert (np.abs(found - true) < 3 / np.sqrt(curvature)).all()
    assert (3 / np.sqrt(curvature) < 0.04).all()


# Both together


def gaussian_recordings(random, recordings=1500, priors=(0.5, 0.3, 0.1)) -> HeldOut:
    """Recordings with a TP row for every species that is there, an FP row for the others."""
    signal, present = gaussians(random, np.array(priors), recordings)
    scores = table_of(expit(1.5 * signal - 3))
    row, column = np.indices(present.shape).reshape(2, -1)
    crops = pd.DataFrame(
        {
            "recording_id": scores["recording_id"].to_numpy()[row],
            "kind": np.where(present.ravel(), "tp", "fp"),
            "species_id": np.array([c.species_id for c in CLASSES])[column],
            "fold": 0,
        }
    )
    own = column[:, np.newaxis] == np.arange(present.shape[1])
    is_present = present[row, column][:, np.newaxis]
    return held_out_of(
        *(scores[COLUMNS].to_numpy(), own & is_present, own & ~is_present), crops, scores
    )


def without_fp_rows(held_out: HeldOut, species_id: int) -> HeldOut:
    crops = held_out.crops
    left_out = (crops["kind"] == "fp") & (crops["species_id"] == species_id)
    return replace(held_out, crops=crops[~left_out], absent=held_out.absent[~left_out])


@pytest.fixture(scope="module")
def shifted():
    """Gaussian scores of recordings that were held out, of others alike, and of shifted ones."""
    random = np.random.default_rng(6)
    held_out, same = gaussian_recordings(random), gaussian_recordings(random).recordings
    prevalence = (0.1, 0.3, 0.6)
    other = gaussian_recordings(random, priors=prevalence).recordings
    return held_out, same, other, np.array(prevalence)


def test_without_a_shift_there_is_hardly_an_offset(shifted, monkeypatch):
    held_out, same, _, _ = shifted
    species, _ = estimate_prior_shift(held_out, same)
    assert species["offset"].abs().max() < 0.25
    prior = held_out.present.sum(axis=0) / len(held_out.recordings)
    np.testing.assert_allclose(species["training_prior"], prior)
    # On the calibration's own recordings without shrinkage the mean posterior is the prior.
    monkeypatch.setattr(module, "SHRINKAGE", 1e-6)
    itself, _ = estimate_prior_shift(held_out, held_out.recordings)
    assert itself["offset"].abs().max() < 1e-4


def test_a_shift_is_found_from_uncalibrated_scores(shifted):
    held_out, _, other, prevalence = shifted
    species, slope = estimate_prior_shift(held_out, other)
    np.testing.assert_allclose(species["prevalence"], prevalence, atol=0.05)
    # Scores were expit(1.5 x - 3), the true log odds 2 x + ...: a slope of 4/3.
    assert slope == pytest.approx(4 / 3, abs=0.15)
    np.testing.assert_array_equal(
        species["offset"], logit(species["prevalence"]) - logit(species["training_prior"])
    )


def test_a_class_of_which_one_side_is_unknown_is_left_alone(shifted):
    held_out, _, other, _ = shifted
    species, _ = estimate_prior_shift(without_fp_rows(held_out, 15), other)
    species = species.set_index("species_id")
    assert species["offset"][15] == 0
    assert np.isnan(species.loc[15, ["training_prior", "prevalence"]].to_numpy(float)).all()
    assert (species["offset"][[2, 5]] != 0).all()


def test_target_scores_must_fit_the_runs(shifted):
    held_out, same, _, _ = shifted
    text = refused(estimate_prior_shift, held_out, same.rename(columns={"s5": "s6"}))
    assert "only in the scores: 1 (s6); only in the runs: 1 (s5)" in text
    outside = same.replace(same["s5"][3], 1.5)
    assert "Found 1.5" in refused(estimate_prior_shift, held_out, outside)


def test_a_tp_row_wins_over_an_fp_row(tmp_path):
    """Recordings that were not scored, and unlabelled crops, say nothing."""
    rows = [
        *[("00000", "tp", 2), ("00000", "fp", 2), ("00001", "fp", 2), ("00002", "unlabelled", 2)],
        *[("00001", "tp", 15), ("00003", "tp", 2), ("00002", "fp", 5)],
    ]
    crops = pd.DataFrame(rows, columns=["recording_id", "kind", "species_id"])
    crops = crops.assign(fold=0, t_min=0.5, t_max=1.0, present="", absent="", s2=0, s15=0, s5=0)
    run = make_run(tmp_path / "a", crops, table_of(np.full((3, 3), 0.25)))
    present, absent = known_recordings(read_held_out([run]))
    np.testing.assert_array_equal(present, [[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(absent, [[0, 0, 0], [1, 0, 0], [0, 0, 1]])


# The file and its use


def test_offsets_are_bayes_rule():
    """A posterior of 0.6 under a prior of 1/2 is 0.06 / (0.06 + 0.36) = 1/7 under one of 1/10."""
    offsets = {"s2": logit(0.1) - logit(0.5), "s15": 0.0, "s5": logit(0.5) - logit(0.1)}
    scores = table_of([[0.6, 0.37, 1 / 7], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    expected = [[1 / 7, 0.37, 0.6], [0, 0, 0], [1, 1, 1]]
    result = apply_offsets(scores, offsets)
    np.testing.assert_allclose(result[COLUMNS], expected, rtol=1e-12)
    assert result["recording_id"].equals(scores["recording_id"])
    # The order within a class stays.
    random = table_of(np.random.default_rng(0).random((50, 3)))
    moved = apply_offsets(random, {"s2": -7.5, "s15": 0.3, "s5": 8})
    assert (moved[COLUMNS].rank() == random[COLUMNS].rank()).all(axis=None)
    assert scores["s2"][0] == 0.6
    assert "only in the prior: 1 (s15)" in refused(
        apply_offsets, scores.drop(columns="s15"), offsets
    )
    assert "Found -0.5" in refused(apply_offsets, scores.replace(0.37, -0.5), offsets)


def test_the_file_says_what_was_found(shifted, tmp_path):
    held_out, _, other, _ = shifted
    species, _ = estimate_prior_shift(without_fp_rows(held_out, 15), other)
    path = tmp_path / "new" / "prior.yaml"
    write_prior(path, species, {"recordings": 1500})
    content = yaml.safe_load(path.read_text())
    assert content["recordings"] == 1500
    low, middle, _ = content["species"]
    assert (low["species_id"], low["name"]) == (2, "low")
    assert low["known_present"] == held_out.present[:, 0].sum()
    assert low["prevalence"] == pytest.approx(species["prevalence"][0], abs=1e-6)
    assert (middle["training_prior"], middle["prevalence"], middle["offset"]) == (None, None, 0)
    offsets = read_offsets(path)
    assert list(offsets) == COLUMNS
    np.testing.assert_allclose(list(offsets.values()), species["offset"], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        *["", "- a", "species: 3", "species: []", "species: [{species_id: 1}]", "a: [", "\x00"],
        "species: [{species_id: 1, offset: .nan}]",
        "species: [{species_id: 1, offset: 0}, {species_id: 1, offset: 1}]",
    ],
)
def test_files_that_are_no_prior_are_refused(text, tmp_path):
    (tmp_path / "p.yaml").write_text(text)
    assert "p.yaml is not " in refused(read_offsets, tmp_path / "p.yaml")
    assert "cannot be read" in refused(read_offsets, tmp_path / "nowhere.yaml")


def test_script_writes_the_prior_and_applies_it(shifted, tmp_path, run_script):
    held_out, _, other, _ = shifted
    crops = held_out.crops.assign(t_min=0.5, t_max=1.0, present="", absent="", s2=0, s15=0, s5=0)
    run = make_run(tmp_path / "run", crops, held_out.recordings)
    other.to_csv(tmp_path / "scores.csv", index=False)
    result = run_script(
        *("prior_shift", "--run", run.path, "--scores", tmp_path / "scores.csv"),
        *("--out", tmp_path / "prior.yaml", "--apply", tmp_path / "shifted.csv"),
    )
    assert result.returncode == 0, result.stderr
    assert f"Wrote {tmp_path / 'shifted.csv'}." in result.stdout.splitlines()
    content = yaml.safe_load((tmp_path / "prior.yaml").read_text())
    assert content["members"] == [{"run": "run", "weight": 1.0}]
    assert content["settings"] == {"shrinkage": 1.0, "pseudo_count": 1.0}
    assert (content["scores"], content["recordings"]) == (str(tmp_path / "scores.csv"), 1500)
    offsets = read_offsets(tmp_path / "prior.yaml")
    assert offsets["s2"] < -1 < 1 < offsets["s5"]
    result = pd.read_csv(tmp_path / "shifted.csv", dtype={"recording_id": str})
    np.testing.assert_allclose(
        logit(result[COLUMNS]), logit(other[COLUMNS]) + list(offsets.values()), atol=1e-9
    )


def test_a_prior_is_not_of_scores_by_the_rule_window(tmp_path, run_script):
    paths = ("--run", tmp_path, "--audio", tmp_path, "--out", tmp_path / "x")
    result = run_script("predict", *paths, "--prior", "p", "--combine", "window")
    assert result.returncode == 2
    assert "--prior is of scores that are combined by their mean" in result.stderr
