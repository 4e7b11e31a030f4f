"""Shapes of all networks; sizes and shift equivariance of the residual ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomize

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.model.backbones import build_backbone

# Published by torchvision (models/resnet.py): parameters less those of the classifier `fc`.
TORCHVISION = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
}


def slim(**arguments):
    return BackboneConfig(**{"name": "resnet10", "width": 2, **arguments})


@pytest.mark.parametrize(
    ("options", "stride", "cells"),
    [
        ({}, (16, 16), (59, 8)),
        ({"stem_pooling": True}, (32, 32), (30, 4)),
        ({"stem_stride": 1}, (8, 8), (118, 16)),
        ({"stem_stride": (1, 2), "stage_strides": (1, (2, 4), 3, 1)}, (6, 24), (157, 6)),
        ({"stem_kernel": 3, "stem_stride": 4, "stage_strides": (1, 1, 1, 1)}, (4, 4), (235, 32)),
    ],
)
def test_strides(options, stride, cells):
    config = slim(**options)
    assert config.stride == stride
    features = build_backbone(config, mels=128, channels=1)(np.zeros((1, 938, 128, 1)))
    assert features.shape == (1, *cells, 16)


@pytest.mark.parametrize(
    ("name", "width", "features"),
    [("resnet10", 4, 32), ("efficientnet_b0", 64, 1280)],
)
def test_cells_are_as_many_as_begin_in_an_input_of_any_size(name, width, features):
    config = BackboneConfig(name=name, width=width)
    assert config.stride == (16, 16)
    model = build_backbone(config, mels=41, channels=2, window_frames=64)
    for frames in (16, 17, 64, 79, 938, 5626):
        shape = model.compute_output_spec(keras.KerasTensor((1, frames, 41, 2))).shape
        assert shape == (1, -(-frames // 16), 3, features)
    assert model(np.zeros((1, 79, 41, 2))).shape == (1, 5, 3, features)


@pytest.mark.parametrize("name", TORCHVISION)
def test_trainable_parameters_are_those_published(name):
    model = build_backbone(BackboneConfig(name=name), mels=32, channels=3)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == TORCHVISION[name]


def test_bottleneck_features_are_four_times_as_wide():
    model = build_backbone(slim(name="resnet50"), mels=32, channels=1)
    assert model.output_shape == (None, None, 2, 64)


@pytest.mark.parametrize("length", [320, 321, 335])
@pytest.mark.parametrize("stem_pooling", [False, True])
def test_a_shift_by_whole_strides_shifts_the_cells(length, stem_pooling):
    """A crop that begins `stride` frames later has the same features, one cell earlier."""
    config = slim(stem_pooling=stem_pooling)
    stride = config.stride[0]
    model = build_backbone(config, mels=32, channels=1)
    randomize(model)
    length = length * stride // 16
    sound = np.random.default_rng(1).normal(size=(1, length + stride, 32, 1)).astype(np.float32)
    whole = model(sound).numpy()[0]
    later = model(sound[:, stride:]).numpy()[0]
    earlier = model(sound[:, :length]).numpy()[0]
    # The receptive field is 99 of 16 frames (pooling: 187 of 32): 4 cells lie at a border.
    inner = slice(4, len(later) - 4)
    assert len(later) == -(-length // stride) == len(whole) - 1
    scale = np.abs(whole).max()
    assert np.std(whole[4:-4], axis=0).max() > 0.01 * scale
    np.testing.assert_allclose(later[inner], whole[1:][inner], rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(earlier[inner], whole[:-1][inner], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("batch", [3, 4, 5])
def test_strided_shortcuts_are_the_subsampled_product(batch):
    """A strided 1x1 convolution by hand; odd batches of few channels once ended in a crash."""
    model = build_backbone(slim(), mels=32, channels=1)
    before, after = (
        model.get_layer(name) for name in ("stage1_block1_relu", "stage2_block1_down_conv")
    )
    image = np.random.default_rng(0).normal(size=(batch, 50, 32, 1)).astype(np.float32)
    with tf.GradientTape() as tape:
        outputs = keras.Model(model.input, [before.output, after.output, model.output])(image)
        loss = tf.reduce_sum(outputs[2])
    features, own, _ = (np.asarray(values) for values in outputs)
    kernel = np.asarray(after.kernel)[0, 0]
    np.testing.assert_allclose(own, features[:, ::2, ::2] @ kernel, atol=1e-5)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(np.isfinite(g).all() for g in gradients)
