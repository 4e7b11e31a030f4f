"""The masked loss against scikit-learn, by hand, and for what it must ignore."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss

from rfcx_tf.core.config import LossConfig
from rfcx_tf.model.losses import MaskedBinaryCrossEntropy, label_weights

TARGET = np.array([[1, 0, 0, 0], [0, 0, 1, 0]], np.float32)
KNOWN = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], np.float32)
LOGITS = np.array([[0.3, -1.2, 5.0, -4.0], [2.0, 0.1, -0.7, 30.0]], np.float32)


def labels_of(target, known, pseudo=None):
    """Labels of people, but for the examples where `pseudo` is 1."""
    pseudo = np.zeros(len(target), np.float32) if pseudo is None else np.float32(pseudo)
    partly = np.zeros_like(np.float32(known))
    return {"target": target, "known": known, "partly": partly, "pseudo": pseudo}


def loss_and_gradient(target, known, logits, pseudo=None, pseudo_weight=1.0, **options):
    logits = tf.constant(logits)
    labels = {name: tf.constant(v) for name, v in labels_of(target, known, pseudo).items()}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = MaskedBinaryCrossEntropy(LossConfig(**options), pseudo_weight)(labels, logits)
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
    weights = label_weights(labels_of(target, known), LossConfig(unknown_negative_weight=0.1))
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


def test_labels_of_models_weigh_what_is_said_and_their_unknown_classes_nothing():
    target = np.array([[1, 0, 0], [0.9, 0.25, 0], [0.9, 0.25, 0]], np.float32)
    known = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 0]], np.float32)
    options = {"unknown_negative_weight": 0.1, "present_weight": 2.0, "absent_weight": 0.5}
    for where in ("tp", "all"):
        config = LossConfig(**options, unknown_negative_in=where)
        weights = label_weights(labels_of(target, known, [0, 1, 0]), config, 0.4)
        # A mix of both weights; the last crop has the labels of the second, by people.
        soft = [2 * 0.9 + 0.5 * 0.1, 2 * 0.25 + 0.5 * 0.75]
        expected = [[2, 0.1, 0.5], [0.4 * soft[0], 0.4 * soft[1], 0], [*soft, 0.1]]
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
        _, gradient = loss_and_gradient(
            target, known, LOGITS[[0, 1, 0], :3], [0, 1, 0], 0.4, **options
        )
        assert gradient[1, 2] == 0
        assert gradient[2, 2] > 0


def test_a_mix_of_people_with_models_learns_a_weak_soft_target_where_it_rather_holds_a_call():
    target = np.array([[0.6, 0.25, 0], [0.4, 0.25, 0]], np.float32)
    known = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
    _, gradient = loss_and_gradient(
        target, known, LOGITS[[0, 1], :3], [0, 0], unknown_negative_weight=0.5
    )
    p = sigmoid(LOGITS[:2, :3])
    np.testing.assert_allclose(gradient[:, 0], (p[:, 0] - [0.6, 0.4]) / 2, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 1:], 0.5 * (p[0, 1:] - [0.25, 0]) / 2, rtol=1e-5)
    assert (gradient[1, 1:] == 0).all()


def test_soft_targets_have_the_soft_cross_entropy():
    target = np.array([[0.9, 0.03, 0.6, 0], [0.7, 0.01, 0, 0.5]], np.float32)
    known = (target > 0).astype(np.float32)
    loss, gradient = loss_and_gradient(target, known, LOGITS, [1, 1], 0.5)
    p, t = sigmoid(LOGITS), target.astype(float)
    log_p, log_not_p = (-np.logaddexp(0, sign * LOGITS.astype(float)) for sign in (-1, 1))
    by_hand = -(known * (t * log_p + (1 - t) * log_not_p)).sum() / 2
    assert loss == pytest.approx(0.5 * by_hand, rel=1e-5)
    np.testing.assert_allclose(gradient, 0.5 * known * (p - t) / 2, rtol=1e-4, atol=1e-7)


@settings(max_examples=30)
@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(-8, 8, width=32)), st.floats(0.125, 4))
def test_nothing_is_learned_where_the_probability_is_the_soft_target(logits, weight):
    target = sigmoid(logits).astype(np.float32)
    options = {"label_smoothing": 0.1, "present_weight": 3.0}
    known = np.ones_like(target)
    _, gradient = loss_and_gradient(target, known, logits, [1, 1], weight, **options)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    # Smoothing is for labels of people, who say nothing of how sure they are.
    _, gradient = loss_and_gradient(target, known, np.full_like(logits, 9), [1, 0], **options)
    smoothed = np.array([[1.0], [0.9]]) * target
    share = target * 3.0 + (1 - target)
    np.testing.assert_allclose(gradient, share * (sigmoid(9) - smoothed) / 2, rtol=1e-4, atol=1e-4)


def test_gradient_at_a_logit_of_0_is_one_half_less_the_target():
    target = np.float32([[1, 0, 0.5, 0.25]])
    _, gradient = loss_and_gradient(target, np.ones_like(target), np.zeros_like(target))
    np.testing.assert_allclose(gradient, 0.5 - target)


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


@settings(max_examples=30)
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
    settings = LossConfig(absent_weight=0.25, label_smoothing=0.1)
    loss = MaskedBinaryCrossEntropy(settings, pseudo_weight=0.5)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copy.config == loss.config
    assert copy.pseudo_weight == 0.5


def test_what_is_partly_heard_weighs_nothing_where_the_unknown_is_weakly_absent():
    labels = labels_of(TARGET[:1], KNOWN[:1])
    labels["partly"] = np.float32([[0, 0, 1, 0]])
    weights = np.asarray(label_weights(labels, LossConfig(unknown_negative_weight=0.3)))
    np.testing.assert_allclose(weights, [[1, 1, 0, 0.3]])
