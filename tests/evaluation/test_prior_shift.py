"""Prior shift against closed forms, SciPy, scikit-learn, Bayes' rule and simulated shifts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation import prior_shift as module
from rfcx_tf.evaluation.prior_shift import (
    KnownRecordings,
    apply_offsets,
    estimate_prevalence,
    estimate_prior_shift,
    fit_calibration,
    read_known_recordings,
    read_offsets,
    write_prior,
)
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [SpeciesClass(2, "low"), SpeciesClass(15, "middle"), SpeciesClass(5, "high")]
COLUMNS = ["s2", "s15", "s5"]


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table_of(scores, first=0) -> pd.DataFrame:
    table = pd.DataFrame(scores, columns=COLUMNS)
    table.insert(0, "recording_id", [f"{first + number:05d}" for number in range(len(table))])
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


# Calibration


def known_gaussians(random, recordings=400, known=0.8, priors=(0.5, 0.3, 0.1)) -> KnownRecordings:
    signal, present = gaussians(random, np.array(priors), recordings)
    is_known = random.random(present.shape) < known
    return KnownRecordings(expit(1.5 * signal - 3), present & is_known, ~present & is_known)


@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 30.0])
def test_calibration_is_scikit_learns_penalised_regression(shrinkage):
    known = known_gaussians(np.random.default_rng(3))
    row, column = np.nonzero(known.present | known.absent)
    features = np.column_stack([logit(known.scores[row, column]), np.eye(3)[column]])
    oracle = LogisticRegression(C=1 / shrinkage, tol=1e-10, max_iter=10_000)
    oracle.fit(features, known.present[row, column])
    calibration = fit_calibration(known, shrinkage)
    assert calibration.slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    expected = oracle.intercept_[0] + oracle.coef_[0, 1:]
    np.testing.assert_allclose(calibration.intercepts, expected, atol=1e-4)
    probability = expit(calibration.logits(known.scores))[row, column]
    np.testing.assert_allclose(probability, oracle.predict_proba(features)[:, 1], atol=1e-4)


def test_unknown_recordings_do_not_count():
    known = known_gaussians(np.random.default_rng(4))
    unknown = ~(known.present | known.absent)
    other = KnownRecordings(np.where(unknown, 0.9, known.scores), known.present, known.absent)
    one, two = fit_calibration(known), fit_calibration(other)
    assert one.slope == two.slope
    np.testing.assert_array_equal(one.intercepts, two.intercepts)


def test_scores_of_0_and_1_and_apart_stay_finite():
    present = np.arange(20)[:, None] < [10, 5, 1]
    known = KnownRecordings(present.astype(float), present, ~present)
    calibration = fit_calibration(known)
    assert 0 < calibration.slope < 10
    assert np.isfinite(calibration.logits(known.scores)).all()


def test_scores_that_cannot_be_calibrated_are_refused():
    known = known_gaussians(np.random.default_rng(5))
    nothing = np.zeros_like(known.present)
    one_sided = KnownRecordings(known.scores, known.present, nothing)
    assert "FP row only" in refused(fit_calibration, one_sided)
    assert "0 are present" in refused(
        fit_calibration, KnownRecordings(known.scores, *[nothing] * 2)
    )
    backwards = KnownRecordings(known.scores, known.absent, known.present)
    assert "Scores must be higher where a species is present" in refused(fit_calibration, backwards)


# Both together


def make_run(path, scores: pd.DataFrame, rows, classes=CLASSES) -> RunFolder:
    """A run of one finished fold with such scores, and (recording, kind, species) as crops."""
    manifest = Manifest(classes, {}, {}, "", 64, 32, 2, 0, "", {}, {}, {}, "", {})
    run = RunFolder.create(path, Config.model_validate({"training": {"folds": 2}}), manifest, path)
    crops = pd.DataFrame(rows, columns=["recording_id", "kind", "species_id"])
    crops.insert(1, "fold", 0)
    crops.assign(present="", absent="").to_csv(path / "oof_crops.csv", index=False)
    scores.to_csv(path / "oof_scores.csv", index=False)
    run.fold(0).mkdir()
    (run.fold(0) / "done.json").write_text("{}")
    return run


def rows_of(known: KnownRecordings, scores: pd.DataFrame) -> list[tuple]:
    return [
        (scores["recording_id"][row], kind, CLASSES[column].species_id)
        for kind, marked in (("tp", known.present), ("fp", known.absent))
        for row, column in zip(*np.nonzero(marked), strict=True)
    ]


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A run on Gaussian scores, its known recordings, and targets with and without a shift."""
    random = np.random.default_rng(6)
    known = known_gaussians(random, 1500, known=1.0)
    scores = table_of(known.scores)
    run = make_run(tmp_path_factory.mktemp("prior") / "run", scores, rows_of(known, scores))
    same = table_of(known_gaussians(random, 1500).scores)
    prevalence = (0.1, 0.3, 0.6)
    other = table_of(known_gaussians(random, 1500, priors=prevalence).scores)
    return run, known, same, other, np.array(prevalence)


def test_without_a_shift_there_is_hardly_an_offset(shifted):
    run, known, same, _, _ = shifted
    found = estimate_prior_shift(known, same, [run])
    assert found.species["offset"].abs().max() < 0.2
    # On the calibration's own recordings without shrinkage the mean posterior is the prior.
    itself = estimate_prior_shift(known, table_of(known.scores), [run], 1e-6)
    assert itself.species["offset"].abs().max() < 1e-4
    np.testing.assert_allclose(found.species["training_prior"], known.present.mean(axis=0))


def test_a_shift_is_found_from_uncalibrated_scores(shifted):
    run, known, _, other, prevalence = shifted
    found = estimate_prior_shift(known, other, [run])
    species = found.species
    np.testing.assert_allclose(species["prevalence"], prevalence, atol=0.05)
    # Scores were expit(1.5 x - 3), the true log odds 2 x + ...: a slope of 4/3.
    assert found.calibration.slope == pytest.approx(4 / 3, abs=0.15)
    np.testing.assert_array_equal(
        species["offset"], logit(species["prevalence"]) - logit(species["training_prior"])
    )


def test_a_class_of_which_one_side_is_unknown_is_left_alone(shifted):
    run, known, _, other, _ = shifted
    absent = known.absent.copy()
    absent[:, 1] = False
    found = estimate_prior_shift(KnownRecordings(known.scores, known.present, absent), other, [run])
    species = found.species.set_index("species_id")
    assert species["offset"][15] == 0
    assert np.isnan(species.loc[15, ["training_prior", "prevalence"]].to_numpy(float)).all()
    assert (species["offset"][[2, 5]] != 0).all()


def test_target_scores_must_fit_the_runs(shifted):
    run, known, same, _, _ = shifted
    text = refused(estimate_prior_shift, known, same.rename(columns={"s5": "s6"}), [run])
    assert "Only in the scores: 1 (s6); only in the runs: 1 (s5)" in text
    assert "Found 1.5" in refused(
        estimate_prior_shift, known, same.replace(same["s5"][3], 1.5), [run]
    )


# What is known


def test_known_recordings_of_several_runs_are_averaged(tmp_path):
    """TP wins over FP; recordings that one did not score, and unlabelled crops, say nothing."""
    rows = [
        *[("00000", "tp", 2), ("00000", "fp", 2), ("00001", "fp", 2), ("00002", "unlabelled", 2)],
        *[("00001", "tp", 15), ("00003", "tp", 2), ("00002", "fp", 5)],
    ]
    one, other = np.full((4, 3), 0.25), np.full((4, 3), 0.75)
    runs = [
        make_run(tmp_path / "a", table_of(one), rows),
        make_run(tmp_path / "b", table_of(other)[2::-1], rows),
    ]
    known = read_known_recordings(runs, [0.9, 0.1])
    np.testing.assert_allclose(known.scores, np.full((3, 3), 0.3))
    np.testing.assert_array_equal(known.present, [[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(known.absent, [[0, 0, 0], [1, 0, 0], [0, 0, 1]])
    strange = make_run(tmp_path / "c", table_of(one, first=50), rows)
    assert "There is none" in refused(read_known_recordings, [runs[0], strange], [0.5, 0.5])
    renamed = make_run(tmp_path / "d", table_of(one), rows, [*CLASSES[:2], SpeciesClass(5, "owl")])
    assert "same classes" in refused(read_known_recordings, [runs[0], renamed], [0.5, 0.5])


# The file and its use


def test_offsets_are_bayes_rule():
    """A posterior of 0.6 under a prior of 1/2 is 0.06 / (0.06 + 0.36) = 1/7 under one of 1/10."""
    offsets = {"s2": logit(0.1) - logit(0.5), "s15": 0.0, "s5": logit(0.5) - logit(0.1)}
    scores = table_of([[0.6, 0.37, 1 / 7], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    expected = [[1 / 7, 0.37, 0.6], [0, 0, 0], [1, 1, 1]]
    result = apply_offsets(scores, offsets)
    np.testing.assert_allclose(result[COLUMNS], expected, rtol=1e-12)
    assert result["recording_id"].equals(scores["recording_id"])
    assert scores["s2"][0] == 0.6
    assert "only in the prior: 1 (s15)" in refused(
        apply_offsets, scores.drop(columns="s15"), offsets
    )
    assert "Found -0.5" in refused(apply_offsets, scores.replace(0.37, -0.5), offsets)


@given(
    st.lists(st.floats(2**-20, 1 - 2**-20, width=32), min_size=2, max_size=20, unique=True),
    st.floats(-8, 8),
)
def test_the_order_within_a_class_stays(scores, offset):
    table = pd.DataFrame({"recording_id": [str(k) for k in range(len(scores))], "s2": scores})
    result = apply_offsets(table.astype({"s2": np.float32}), {"s2": offset})
    assert (result["s2"].rank() == table["s2"].rank()).all()


def test_the_file_says_what_was_found(shifted, tmp_path):
    run, known, _, other, _ = shifted
    absent = known.absent.copy()
    absent[:, 1] = False
    known = KnownRecordings(known.scores, known.present, absent)
    found = estimate_prior_shift(known, other, [run], 2.0, 3.0)
    path = tmp_path / "new" / "prior.yaml"
    write_prior(path, found, [run], [1.0], "target.csv")
    content = yaml.safe_load(path.read_text())
    assert content["members"] == [{"run": "run", "weight": 1.0}]
    assert content["settings"] == {"shrinkage": 2.0, "pseudo_count": 3.0}
    assert (content["scores"], content["recordings"]) == ("target.csv", 1500)
    low, middle, _ = content["species"]
    assert (low["species_id"], low["name"]) == (2, "low")
    assert low["known_present"] == known.present[:, 0].sum()
    assert low["prevalence"] == pytest.approx(found.species["prevalence"][0], abs=1e-6)
    assert (middle["training_prior"], middle["prevalence"], middle["offset"]) == (None, None, 0)
    offsets = read_offsets(path)
    assert list(offsets) == COLUMNS
    np.testing.assert_allclose(list(offsets.values()), found.species["offset"], atol=1e-6)


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
    assert "p.yaml is not one" in refused(read_offsets, tmp_path / "p.yaml")
    assert "cannot be read" in refused(read_offsets, tmp_path / "nowhere.yaml")


def test_script_writes_the_prior_and_applies_it(shifted, tmp_path, run_script):
    run, _, _, other, _ = shifted
    other.to_csv(tmp_path / "scores.csv", index=False)
    result = run_script(
        *("prior_shift", "--run", run.path, "--scores", tmp_path / "scores.csv"),
        *("--out", tmp_path / "prior.yaml", "--apply", tmp_path / "shifted.csv"),
    )
    assert result.returncode == 0, result.stderr
    assert f"Wrote {tmp_path / 'shifted.csv'}." in result.stdout.splitlines()
    offsets = read_offsets(tmp_path / "prior.yaml")
    assert offsets["s2"] < -1 < 1 < offsets["s5"]
    result = pd.read_csv(tmp_path / "shifted.csv", dtype={"recording_id": str})
    np.testing.assert_allclose(
        logit(result[COLUMNS]), logit(other[COLUMNS]) + list(offsets.values()), atol=1e-9
    )


def test_bad_input_is_refused_in_one_line_with_status_2(tmp_path, run_script):
    paths = ("--run", tmp_path, "--out", tmp_path / "x")
    scores = ("--scores", tmp_path / "scores.csv")
    for arguments, rule in (
        (("prior_shift", *paths, *scores, "--pseudo-count", "0"), "must be above 0"),
        (("prior_shift", *paths, *scores), "cannot be read"),
        (
            ("predict", *paths, "--audio", tmp_path, "--prior", "p", "--combine", "window"),
            "--prior is of scores that are combined by their mean",
        ),
    ):
        result = run_script(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and rule in line
