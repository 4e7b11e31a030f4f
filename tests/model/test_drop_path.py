"""Stochastic depth: means that stay, chances that grow with depth, and nothing at inference."""

import keras
import numpy as np
import pytest
from small_networks import randomize

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.model.backbones import build_backbone
from rfcx_tf.model.drop_path import drop_path
from rfcx_tf.model.weight_files import copy_weights


def test_whole_examples_are_left_out_and_the_others_make_up_for_it():
    inputs = keras.Input((3, 2, 4))
    # The third of four blocks: 0.8 * 3 / 4.
    model = keras.Model(inputs, drop_path(inputs, 0.8, 3, 4, "block"))
    branch = np.random.default_rng(0).normal(size=(4000, 3, 2, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(branch, training=False), branch)
    dropped = model(branch, training=True).numpy()
    factors = dropped / branch
    kept = factors[:, 0, 0, 0] > 0
    # Four standard deviations of a share of 0.4 in 4000 are 0.031.
    assert kept.mean() == pytest.approx(0.4, abs=0.031)
    np.testing.assert_allclose(factors[kept], 1 / 0.4, rtol=1e-5)
    assert (dropped[~kept] == 0).all()


@pytest.mark.parametrize(("name", "blocks"), [("resnet10", 4), ("mobilenet_v2", 17)])
def test_chances_grow_from_block_to_block(name, blocks):
    layers = build_backbone(BackboneConfig(name=name, drop_path=0.2), 32, 1).layers
    chances = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
    # One a shortcut; the blocks of MobileNetV2 that begin a stage have none.
    assert len(chances) == sum(isinstance(layer, keras.layers.Add) for layer in layers)
    numbers = np.array(chances) / 0.2 * blocks
    np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-6)
    assert (np.diff(numbers) > 0.5).all() and numbers[-1] <= blocks + 1e-6
    if name == "resnet10":
        np.testing.assert_allclose(numbers, [1, 2, 3, 4])
    without = build_backbone(BackboneConfig(name=name), 32, 1).layers
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in without)
    others = {layer.name for layer in layers if not isinstance(layer, keras.layers.Dropout)}
    assert {layer.name for layer in without} == others


def test_a_network_takes_the_weights_of_one_without_in_another_order_of_layers():
    own, other = (
        build_backbone(BackboneConfig(name="resnet10", width=4, drop_path=rate), 32, 1)
        for rate in (0.3, 0.0)
    )
    assert [w.path for w in own.weights] != [w.path for w in other.weights]
    randomize(other)
    image = np.random.default_rng(0).normal(size=(2, 64, 32, 1)).astype(np.float32)
    # Each within another model, as a backbone is in a detector.
    models = [keras.Model(one.input, one(one.input)) for one in (own, other)]
    copy_weights(models[1], models[0])
    np.testing.assert_allclose(models[0](image), models[1](image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["yamnet", "keras_cv:resnet18"])
def test_networks_whose_blocks_are_not_ours_have_none(name):
    with pytest.raises(ValueError, match="drop_path is an option of residual networks"):
        BackboneConfig(name=name, drop_path=0.1)
