"""The fused batch normalisation against Keras's own, step by step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rfcx_tf.model.normalization import BatchNormalization

# Largest difference allowed, relative to the largest value: float32 rounding, and one unit in
# the last place of bfloat16's eight bits where results pass through it.
TOLERANCE = {"float32": 1e-5, "mixed_bfloat16": 1e-2}


def pair(policy, **arguments):
    """Ours and Keras's, built on the same random weights and statistics."""
    random = np.random.default_rng(0)
    layers = []
    for layer_class in (BatchNormalization, keras.layers.BatchNormalization):
        layer = layer_class(momentum=0.9, epsilon=1e-5, dtype=policy, **arguments)
        layer.build((None, 9, 5, 3))
        layers.append(layer)
    weights = [random.uniform(0.5, 2.0, w.shape) for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def images(dtype):
    random = np.random.default_rng(1)
    return tf.constant(random.normal([2.0, -1.0, 0.0], [3.0, 0.5, 1.0], (4, 9, 5, 3)), dtype)


def assert_close(ours, theirs, tolerance):
    ours, theirs = (np.asarray(tf.cast(x, tf.float64)) for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_training_gives_the_outputs_statistics_and_gradients_of_keras(policy):
    ours, theirs = pair(policy)
    tolerance = TOLERANCE[policy]
    inputs = images(ours.compute_dtype)
    upstream = tf.constant(np.random.default_rng(2).normal(size=inputs.shape), tf.float32)
    results = []
    for layer in (ours, theirs):
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
            gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        results.append((outputs, gradients, layer.moving_mean, layer.moving_variance))
    (outputs, gradients, *statistics), (other_outputs, other_gradients, *other) = results
    assert outputs.dtype == other_outputs.dtype == ours.compute_dtype
    assert_close(outputs, other_outputs, tolerance)
    for own, other_gradient in zip(gradients, other_gradients, strict=True):
        assert_close(own, other_gradient, 5 * tolerance)
    # Statistics are float32 under every policy; three steps of momentum have moved them.
    for own, other_statistic in zip(statistics, other, strict=True):
        assert own.dtype == "float32"
        assert_close(own, other_statistic, 1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_inference_gives_the_outputs_of_keras_and_leaves_statistics_alone(policy):
    ours, theirs = pair(policy)
    before = ours.get_weights()
    inputs = images(ours.compute_dtype)
    assert_close(ours(inputs), theirs(inputs), TOLERANCE[policy])
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_without_scale_and_centre_it_is_that_of_keras_too(policy):
    ours, theirs = pair(policy, center=False, scale=False)
    assert not ours.trainable_weights
    inputs, tolerance = images(ours.compute_dtype), TOLERANCE[policy]
    assert_close(ours(inputs), theirs(inputs), tolerance)
    upstream = tf.constant(np.random.default_rng(2).normal(size=inputs.shape), tf.float32)
    for _ in range(3):
        gradients = []
        for layer in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
            gradients.append((outputs, tape.gradient(loss, inputs)))
        for own, other in zip(*gradients, strict=True):
            assert_close(own, other, 5 * tolerance)
    assert_close(ours.moving_mean, theirs.moving_mean, 1e-5)
    assert_close(ours.moving_variance, theirs.moving_variance, 1e-5)
    assert_close(ours(inputs), theirs(inputs), tolerance)


def test_moving_variance_is_the_biased_one_of_numpy():
    ours, _ = pair("float32")
    ours.set_weights([np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3)])
    inputs = images("float32")
    ours(inputs, training=True)
    expected = 0.1 * np.var(inputs.numpy(), axis=(0, 1, 2))
    np.testing.assert_allclose(ours.moving_variance.numpy(), expected, rtol=1e-5)


def test_a_frozen_layer_uses_its_statistics():
    ours, theirs = pair("float32")
    ours.trainable = theirs.trainable = False
    inputs = images("float32")
    assert_close(ours(inputs, training=True), theirs(inputs, training=True), 1e-5)


def test_other_shapes_and_synchronised_statistics_go_through_keras():
    """Features [batch, D] have no fused operation; two lots of weights must still agree."""
    random = np.random.default_rng(3)
    flat = tf.constant(random.normal(size=(8, 3)), tf.float32)
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    assert_close(ours(flat, training=True), theirs(flat, training=True), 1e-6)
    ours, theirs = pair("float32", synchronized=True)
    inputs = images("float32")
    assert_close(ours(inputs, training=True), theirs(inputs, training=True), 1e-5)


def test_weights_can_be_exchanged_with_keras(tmp_path):
    models = []
    for layer_class in (BatchNormalization, keras.layers.BatchNormalization):
        inputs = keras.Input((9, 5, 3))
        models.append(keras.Model(inputs, layer_class(name="bn")(inputs)))
    theirs = models[1]
    theirs.layers[1].set_weights([np.full(3, value) for value in (2.0, 0.5, 1.0, 4.0)])
    theirs.save_weights(tmp_path / "a.weights.h5")
    models[0].load_weights(tmp_path / "a.weights.h5")
    inputs = images("float32")
    assert_close(models[0](inputs), theirs(inputs), 1e-6)
