"""Verdicts on a sample of events: the fit against SciPy, figures by hand, coverage by chance."""

import numpy as np
import pandas as pd
import pytest
from refused import refused
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.field_calibration import fit_field_calibration
from rfcx_tf.evaluation.field_model import FieldModel, fit_field_model, most_probable
from rfcx_tf.evaluation.thresholds import Wanted

PRECISION = Wanted("precision", 0.9)
CLASSES = [SpeciesClass(2, "low"), SpeciesClass(15, "=middle"), SpeciesClass(5, "high")]


def made_events(count=600, seed=0, slope=0.8, intercepts=(0.5, -1.0, 0.0)):
    """Events whose log odds to be right are slope * logit(score) + intercept of the species."""
    random = np.random.default_rng(seed)
    species = random.integers(0, 3, count)
    logits = random.normal(0, 2.5, count)
    events = pd.DataFrame(
        {
            "recording_id": [f"r{number}" for number in random.integers(0, 60, count)],
            "species_id": np.array([2, 15, 5])[species],
            "score": expit(logits),
        }
    )
    right = random.random(count) < expit(slope * logits + np.array(intercepts)[species])
    return events, right


def verdicts_on(rows, right, inclusion=1.0):
    return pd.DataFrame({"event": rows, "right": right[rows], "inclusion": inclusion})


# The model


def test_every_draw_is_the_minimum_that_scipy_finds():
    random = np.random.default_rng(3)
    events, right = made_events(80)
    x = np.column_stack([logit(events["score"].to_numpy()), np.ones(80)])
    column, weights = random.integers(0, 4, 80), random.exponential(size=(3, 80))
    line_centre, centre = random.normal(size=(3, 2)), random.normal(size=(3, 5, 2))
    line, deviation = most_probable(x, right, column, weights, line_centre, centre)
    for draw in range(3):

        def loss(p, draw=draw):
            own = p[:2] + p[2:].reshape(5, 2)[column]
            margin = np.where(right, 1, -1) * (x * own).sum(axis=1)
            prior = (((p[:2] - line_centre[draw]) / [1, 5]) ** 2).sum()
            prior += (((p[2:] - centre[draw].ravel()) / ([0.6, 1.5] * 5)) ** 2).sum()
            return weights[draw] @ np.logaddexp(0, -margin) + prior / 2

        oracle = minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-7}).x
        found = np.concatenate([line[draw], deviation[draw].ravel()])
        np.testing.assert_allclose(found, oracle, atol=2e-4)


def fitted(events, right, classes, draws):
    column = events["species_id"].map({2: 0, 15: 1, 5: 2}).to_numpy()
    logits, ones = logit(events["score"].to_numpy()), np.ones(len(events))
    every = np.arange(len(events))
    return fit_field_model(logits, right, column, every, ones, classes, draws=draws)


def test_many_verdicts_give_the_regression_of_each_species():
    events, right = made_events(9000)
    model = fitted(events, right, 3, 60)
    for number, species in enumerate((2, 15, 5)):
        own = (events["species_id"] == species).to_numpy()
        x = logit(events["score"].to_numpy()[own])[:, None] - model.middle
        oracle = LogisticRegression(C=1e6, tol=1e-8).fit(x, right[own])
        expected = [oracle.coef_[0, 0], oracle.intercept_[0]]
        np.testing.assert_allclose(model.lines[:, number].mean(axis=0), expected, atol=0.03)
        # The spread of independent verdicts is that of the inverse information.
        p, features = oracle.predict_proba(x)[:, 1], np.column_stack([x, np.ones(len(x))])
        information = features.T @ (features * (p * (1 - p))[:, None])
        spread = np.sqrt(np.diag(np.linalg.inv(information)))
        np.testing.assert_allclose(model.lines[:, number].std(axis=0), spread, rtol=0.4)


def test_a_species_without_verdicts_is_as_uncertain_as_species_differ():
    model = fitted(*made_events(600), 4, 400)
    spread = model.lines.std(axis=0)
    assert spread[3, 0] > 0.4 > 2 * spread[0, 0] and spread[3, 1] > 1.2 > 3 * spread[0, 1]


# The calibration


def test_what_is_judged_is_counted_not_guessed():
    events, right = made_events(120)
    rows = np.arange(len(events))
    found = fit_field_calibration(events, verdicts_on(rows, right), CLASSES, PRECISION, draws=40)
    columns = {2: 0, 15: 1, 5: 2}
    column = events["species_id"].map(columns).to_numpy()
    table = np.tile(events["score"].to_numpy()[:, None], (1, 3))
    probability = found.calibration.probabilities(table)[rows, column]
    detected = probability >= found.calibration.thresholds[column]
    for row in found.species[:-1].itertuples():
        own = column == ["s2", "s15", "s5"].index(row._1)
        assert (row.events, row.right) == (own.sum(), (own & right).sum())
        assert row.detections == (own & detected).sum()
        expected = (own & detected & right).sum() / (own & detected).sum()
        for figure in (row.precision, row.precision_low, row.precision_high):
            assert figure == pytest.approx(expected)
        assert row.right_events_low == row.right_events_high == (own & right).sum()
    last = found.species.iloc[-1]
    assert last["precision"] == pytest.approx((detected & right).sum() / detected.sum())
    assert last["recall"] == pytest.approx((detected & right).sum() / right.sum())
    curve = found.curve[found.curve["class"] == "s15"]
    order = np.argsort(-events["score"].to_numpy()[column == 1])
    in_order = right[column == 1][order]
    np.testing.assert_allclose(
        curve["precision"], np.cumsum(in_order) / np.arange(1, len(order) + 1)
    )
    assert "'=middle" in found.curve_csv()


@pytest.mark.parametrize(("right", "of"), [(0, 0), (0, 45), (3, 45), (30, 40)])
def test_offsets_of_a_part_follow_its_verdicts(right, of):
    """Against the integral: a normal prior of one logit times the likelihood, on a line of 0.02."""
    model = FieldModel(np.tile([1.0, logit(0.02)], (4000, 1, 1)), middle=0.0)
    verdicts = np.arange(of) < right
    found = model.part_offsets(np.zeros(of), verdicts, np.zeros(of, int), np.random.default_rng(1))

    def weight(offset, power=0):
        chance = expit(logit(0.02) + offset)
        likely = chance**right * (1 - chance) ** (of - right)
        return offset**power * likely * np.exp(-(offset**2) / 2)

    whole, first, second = (quad(weight, -8, 8, (power,))[0] for power in (0, 1, 2))
    mean = first / whole
    assert found.mean() == pytest.approx(mean, abs=0.06)
    assert found.std() == pytest.approx(np.sqrt(second / whole - mean**2), abs=0.06)


def test_intervals_hold_what_they_promise():
    """Of 72 that hold with a chance of 0.95, fewer than 62 do once in 1,000 times."""
    held = []
    for seed in range(24):
        events, right = made_events(
            400, seed, intercepts=np.random.default_rng(seed).normal(size=3)
        )
        rows = np.random.default_rng(seed).choice(400, 90, replace=False)
        found = fit_field_calibration(
            events, verdicts_on(rows, right), CLASSES, PRECISION, draws=100, seed=seed
        )
        for row in found.species[:-1].itertuples():
            own = right[events["species_id"] == int(row._1[1:])].sum()
            held.append(row.right_events_low <= own <= row.right_events_high)
    assert sum(held) >= 62


def test_a_class_without_events_or_verdicts_has_the_common_map():
    events, right = made_events(300)
    rows = np.flatnonzero(events["species_id"] != 5)
    classes = [*CLASSES, SpeciesClass(7, "silent")]
    found = fit_field_calibration(events, verdicts_on(rows, right), classes, PRECISION, draws=200)
    methods = [row["method"] for row in found.calibration.rows]
    assert methods == ["field", "field", "pooled", "pooled"]
    assert found.calibration.thresholds[3] == np.float32(0.9)
    assert found.species["class"].to_list() == ["s2", "s15", "s5", "all"]
    wide = found.species.set_index("class")
    width = wide["right_events_high"] - wide["right_events_low"]
    assert width["s5"] > 10 and width["s2"] == 0


def test_a_precision_that_no_event_reaches_is_said():
    events, right = made_events(200)
    wrong = right & (events["species_id"] != 15).to_numpy()
    rows = np.arange(200)
    found = fit_field_calibration(events, verdicts_on(rows, wrong), CLASSES, PRECISION, draws=50)
    assert [bool(row["note"]) for row in found.calibration.rows] == [False, True, False]
    assert "- =middle: no event is probable enough for precision 0.9" in found.text
    none = found.species.set_index("class").loc["s15"]
    assert none["detections"] == 0 and np.isnan(none["precision"])


def test_what_is_refused():
    events, right = made_events(100)
    few = verdicts_on(np.arange(19), right)
    assert "Found 19" in refused(fit_field_calibration, events, few, CLASSES, PRECISION)
    more = verdicts_on(np.arange(30), right)
    assert "species_id 5" in refused(fit_field_calibration, events, more, CLASSES[:2], PRECISION)
