"""Thresholds against scikit-learn's weighted counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from refused import refused
from sklearn.metrics import precision_recall_curve

from rfcx_tf.evaluation.thresholds import Wanted, choose_threshold, parse_wanted


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
@settings(max_examples=40)
def test_thresholds_keep_what_is_wanted_and_no_more(probability, value):
    precision, recall, values = expected_curve(probability)
    threshold, reached = choose_threshold(probability, Wanted("precision", value))
    assert reached == (float(probability.max()) >= value)
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
    assert choose_threshold(probability, Wanted("precision", 0.9))[0] == pytest.approx(0.65)
    assert choose_threshold(probability, Wanted("precision", 0.1))[0] == np.float32(0.2)


def test_wanted_is_read_and_written():
    assert str(parse_wanted("precision=0.9")) == "precision 0.9"
    assert str(parse_wanted("recall=0.75")) == "recall 0.75"
    assert str(parse_wanted("F1")) == str(parse_wanted("f1")) == "F1"
    for text in ("precision", "precision=1", "precision=nan", "accuracy=0.9", "f1=0.5", "0.9"):
        assert f"Received: '{text}'" in refused(parse_wanted, text)
