"""Metrics against scikit-learn, hand-worked cases, simulation, and what must hold for any input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import label_ranking_average_precision_score, log_loss

from rfcx_tf.evaluation.metrics import (
    chance_lwlrap,
    fp_log_loss,
    lwlrap,
    lwlrap_per_class,
    masked_log_loss,
    single_label_lrap,
    tp_log_loss,
)


@st.composite
def labelled_scores(draw):
    """Truth with at least one positive, and scores with many ties."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    truth = draw(arrays(bool, shape))
    truth[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    scores = draw(arrays(np.int64, shape, elements=st.integers(-4, 4)))
    return truth, scores.astype(float)


# LWLRAP: the published definition


def test_lwlrap_of_a_case_worked_by_hand():
    truth = [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    scores = [[0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]]
    # Row 0: class 1 has rank 2 and 1 true class at or above it: 1/2.
    #        class 3 has rank 4 and 2 true classes at or above it: 2/4.
    # Row 1: class 0 has rank 1: 1/1.
    # Three pairs: (1/2 + 2/4 + 1) / 3 = 2/3. (The mean over rows would be 3/4.)
    assert lwlrap(truth, scores) == pytest.approx(2 / 3)
    precision, weight = lwlrap_per_class(truth, scores)
    np.testing.assert_allclose(precision, [1, 1 / 2, np.nan, 1 / 2, np.nan])
    np.testing.assert_allclose(weight, [1 / 3, 1 / 3, 0, 1 / 3, 0])


def test_tied_wrong_classes_count_against_the_right_one():
    # Two scores are at or above class 0's, its own and class 1's: rank 2, 1/2.
    assert lwlrap([[1, 0, 0]], [[0.5, 0.5, 0.1]]) == pytest.approx(1 / 2)
    # Both true: rank 2 with 2 true classes at or above, twice: (2/2 + 2/2) / 2.
    assert lwlrap([[1, 1, 0]], [[0.5, 0.5, 0.1]]) == pytest.approx(1)
    # A constant row says nothing: rank 4 for each, 2 true classes at or above: 2/4.
    assert lwlrap([[1, 0, 1, 0]], [[0.3, 0.3, 0.3, 0.3]]) == pytest.approx(1 / 2)


def test_rows_without_positives_are_left_out():
    assert lwlrap([[0, 1], [0, 0]], [[0.9, 0.1], [0.9, 0.1]]) == pytest.approx(1 / 2)
    assert math.isnan(lwlrap([[0, 0]], [[0.9, 0.1]]))


@pytest.mark.parametrize("levels", [4, 10**6], ids=["many ties", "hardly any tie"])
def test_lwlrap_agrees_with_scikit_learn(levels):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, levels, size=(300, 24)) / levels

    one_label = np.eye(24, dtype=bool)[rng.integers(0, 24, size=300)]
    expected = label_ranking_average_precision_score(one_label, scores)
    assert lwlrap(one_label, scores) == pytest.approx(expected, rel=1e-12)

    # With several labels scikit-learn averages inside a row first; LWLRAP is its mean over
    # rows weighted by their numbers of labels.
    truth = rng.random((300, 24)) < rng.uniform(0, 0.3, size=(300, 1))
    expected = label_ranking_average_precision_score(truth, scores, sample_weight=truth.sum(axis=1))
    assert lwlrap(truth, scores) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60)
@given(labelled_scores())
def test_what_holds_for_any_ranking(case):
    truth, scores = case
    whole = lwlrap(truth, scores)
    assert 0 < whole <= 1
    assert lwlrap(truth, truth * 100 + scores) == pytest.approx(1)
    # Only the order inside a row matters.
    row = np.arange(len(scores))[:, None]
    assert lwlrap(truth, (row + 1) * scores**3 - 50 * row) == pytest.approx(whole)
    assert lwlrap(truth, np.exp(scores)) == pytest.approx(whole)
    # The classes add up to the whole.
    precision, weight = lwlrap_per_class(truth, scores)
    assert np.isnan(precision).tolist() == (~truth.any(axis=0)).tolist()
    assert weight.sum() == pytest.approx(1)
    assert np.nansum(precision * weight) == pytest.approx(whole)


def test_scores_without_a_rank_are_refused():
    with pytest.raises(ValueError, match="row 0, class 1"):
        lwlrap([[1, 0]], [[0.5, np.nan]])
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        lwlrap([[1, 0]], [[0.5, 0.1, 0.2]])
    with pytest.raises(ValueError, match="row 0, class 0"):
        single_label_lrap([[1, 0]], [[np.nan, 0.5]])


# Chance level


def test_chance_level_of_cases_worked_by_hand():
    # One of two classes: rank 1 or 2, equally likely: (1 + 1/2) / 2.
    assert chance_lwlrap([[1, 0]]) == pytest.approx(3 / 4)
    # Two of three: the wrong class is first (1/2, 2/3), second (1, 2/3) or last (1, 1).
    assert chance_lwlrap([[1, 1, 0]]) == pytest.approx((7 / 6 + 5 / 3 + 2) / 6)
    assert chance_lwlrap([[1, 1, 1], [0, 0, 0]]) == pytest.approx(1)
    assert chance_lwlrap([[1]]) == pytest.approx(1)
    assert math.isnan(chance_lwlrap([[0, 0]]))


def test_chance_level_is_what_random_scores_reach():
    rng = np.random.default_rng(2)
    truth = rng.random((50, 24)) < rng.uniform(0, 0.4, size=(50, 1))
    reached = [lwlrap(truth, rng.random(truth.shape)) for _ in range(400)]
    standard_error = np.std(reached) / math.sqrt(len(reached))
    assert abs(np.mean(reached) - chance_lwlrap(truth)) < 4 * standard_error


# Crops


def test_single_label_lrap_takes_all_other_classes_as_wrong():
    target = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    probability = [[0.5, 0.9, 0.5], [0.1, 0.8, 0.9], [0.9, 0.9, 0.9]]
    # Crop 0: class 0 ties for the last of three places: 1/3. Crop 1: class 2 is first, 1/1;
    # class 1 is second, 1/2, although what beats it is present too. Crop 2 has no label.
    expected = (1 / 3 + 1 + 1 / 2) / 3
    assert single_label_lrap(target, probability) == pytest.approx(expected)
    assert math.isnan(single_label_lrap([[0, 0]], [[0.5, 0.5]]))


def test_single_label_lrap_agrees_with_scikit_learn_on_single_labels():
    rng = np.random.default_rng(3)
    target = np.eye(5)[rng.integers(0, 5, size=80)]
    probability = rng.integers(0, 6, size=(80, 5)) / 6
    expected = label_ranking_average_precision_score(target, probability)
    assert single_label_lrap(target, probability) == pytest.approx(expected)


def test_log_losses_agree_with_scikit_learn_on_the_known_labels():
    rng = np.random.default_rng(4)
    shape = (40, 6)
    known = rng.random(shape) < 0.3
    target = (rng.random(shape) < 0.4) & known
    probability = rng.uniform(0.01, 0.99, size=shape).astype(np.float32)

    def expected(where):
        return log_loss(target[where], probability[where].astype(float), labels=[False, True])

    arguments = (target.astype(np.float32), known.astype(np.float32), probability)
    assert masked_log_loss(*arguments) == pytest.approx(expected(known), rel=1e-6)
    assert tp_log_loss(*arguments) == pytest.approx(expected(known & target), rel=1e-6)
    assert fp_log_loss(*arguments) == pytest.approx(expected(known & ~target), rel=1e-6)


def test_unknown_labels_do_not_reach_the_log_loss():
    target, known = [[1, 0, 0]], [[1, 1, 0]]
    # (ln 2 + ln 4) / 2 whatever the third class says.
    for unknown in (0.0, 0.3, 1.0):
        loss = masked_log_loss(target, known, [[0.5, 0.75, unknown]])
        assert loss == pytest.approx(1.5 * math.log(2))


def test_log_loss_of_certain_and_wrong_is_finite():
    assert tp_log_loss([[1]], [[1]], [[0.0]]) == pytest.approx(7 * math.log(10))
    assert fp_log_loss([[0]], [[1]], [[1.0]]) == pytest.approx(7 * math.log(10))


def test_log_loss_of_nothing_is_nan():
    assert math.isnan(masked_log_loss([[0, 0]], [[0, 0]], [[0.5, 0.5]]))
    assert math.isnan(tp_log_loss([[0, 0]], [[1, 1]], [[0.5, 0.5]]))
    assert math.isnan(fp_log_loss([[1, 1]], [[1, 1]], [[0.5, 0.5]]))
