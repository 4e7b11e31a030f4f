"""The masked loss against scikit-learn, by hand, and for what it must ignore."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss

from rfcx_tf.config import LossConfig
from rfcx_tf.model.losses import MaskedBinaryCrossEntropy, label_weights

TARGET = np.array([[1, 0, 0, 0], [0, 0, 1, 0]], np.float32)
KNOWN = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], np.float32)
LOGITS = np.array([[0.3, -1.2, 5.0, -4.0], [2.0, 0.1, -0.7, 30.0]], np.float32)


def loss_and_gradient(target, known, logits, **options):
    logits = tf.constant(logits)
    labels = {"target": tf.constant(target), "known": tf.constant(known)}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = MaskedBinaryCrossEntropy(LossConfig(**options))(labels, logits)
    return float(loss), tape.gradient(loss, logits).numpy()


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-np.asarray(logits, float)))


def test_loss_of_known_labels_is_the_log_loss_of_scikit_learn():
    known = KNOWN.astype(bool)
    expected = log_loss(TARGET[known], sigmoid(LOGITS)[known], normalize=False) / len(TARGET)
    loss, _ = loss_and_gradient(TARGET, KNOWN, LOGITS)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_gradient_is_probability_less_target_where_known_and_exactly_0_elsewhere():
    _, gradient = loss_and_gradient(TARGET, KNOWN, LOGITS)
    known = KNOWN.astype(bool)
    expected = (sigmoid(LOGITS) - TARGET)[known] / len(TARGET)
    np.testing.assert_allclose(gradient[known], expected, rtol=1e-5)
    assert (gradient[~known] == 0).all()


def test_weights_of_present_and_absent_labels():
    loss, _ = loss_and_gradient(TARGET, KNOWN, LOGITS, present_weight=3.0, absent_weight=0.5)
    p = sigmoid(LOGITS)
    by_hand = -3 * np.log(p[0, 0]) - 0.5 * np.log(1 - p[0, 1]) - 3 * np.log(p[1, 2])
    assert loss == pytest.approx(by_hand / 2, rel=1e-6)


def test_unknown_classes_count_as_weakly_absent_only_beside_a_present_one():
    target = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    known = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    weights = label_weights(target, known, LossConfig(unknown_negative_weight=0.1))
    # A call beside two unknown classes; a false alarm; a crop of which nothing is known.
    expected = [[1, 0.1, 0.1], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    _, gradient = loss_and_gradient(target, known, LOGITS[[0, 1, 0], :3], unknown_negative_weight=1)
    assert (gradient[0, 1:] > 0).all()
    assert (gradient[1, [0, 2]] == 0).all()
    assert (gradient[2] == 0).all()


def test_label_smoothing_lowers_present_targets_only():
    loss, gradient = loss_and_gradient(TARGET, KNOWN, LOGITS, label_smoothing=0.1)
    p = sigmoid(LOGITS)
    present = [-0.9 * np.log(p[i]) - 0.1 * np.log(1 - p[i]) for i in ((0, 0), (1, 2))]
    assert loss == pytest.approx((sum(present) - np.log(1 - p[0, 1])) / 2, rel=1e-6)
    assert gradient[0, 0] == pytest.approx((p[0, 0] - 0.9) / 2, rel=1e-5)
    assert gradient[0, 1] == pytest.approx(p[0, 1] / 2, rel=1e-5)


def test_large_logits_stay_finite():
    logits = np.array([[-1e4, 1e4, 300.0, -300.0], [1e4, -1e4, 90.0, -90.0]], np.float32)
    loss, gradient = loss_and_gradient(TARGET, np.ones_like(KNOWN), logits)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    # Right at -log(sigmoid(-1e4)) = 1e4 for each of the first two, and so on.
    assert loss == pytest.approx((1e4 + 1e4 + 300 + 1e4) / 2, rel=1e-5)


ROWS, CLASSES = 3, 4
matrices = {
    "labels": hnp.arrays(np.int64, (ROWS, CLASSES), elements=st.integers(-1, 1)),
    "logits": hnp.arrays(np.float32, (ROWS, CLASSES), elements=st.floats(-50, 50, width=32)),
    "others": hnp.arrays(np.float32, (ROWS, CLASSES), elements=st.floats(-50, 50, width=32)),
}


@settings(max_examples=60, deadline=None)
@given(**matrices)
def test_unknown_logits_change_nothing(labels, logits, others):
    """Labels are 1 present, 0 absent, -1 unknown."""
    known = (labels >= 0).astype(np.float32)
    target = (labels == 1).astype(np.float32)
    loss, gradient = loss_and_gradient(target, known, logits)
    other_loss, other_gradient = loss_and_gradient(
        target, known, np.where(known > 0, logits, others)
    )
    assert loss == other_loss >= 0
    assert (gradient[known == 0] == 0).all()
    np.testing.assert_array_equal(gradient, other_gradient)
    # Towards the label, never away from it.
    assert (gradient[(known > 0) & (target > 0)] <= 0).all()
    assert (gradient[(known > 0) & (target == 0)] >= 0).all()


def test_loss_is_float32_under_mixed_precision():
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        loss, _ = loss_and_gradient(TARGET, KNOWN, LOGITS)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    assert loss == loss_and_gradient(TARGET, KNOWN, LOGITS)[0]


def test_loss_comes_back_from_its_config():
    loss = MaskedBinaryCrossEntropy(LossConfig(absent_weight=0.25, label_smoothing=0.1))
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copy.config == loss.config
