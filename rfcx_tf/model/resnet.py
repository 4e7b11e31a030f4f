"""Residual networks with open strides (He et al. 2016, torchvision's variant).

Without the max-pooling after the stem their total stride is 16.
"""

from __future__ import annotations

import keras
from keras import layers

from rfcx_tf.core.config import BackboneConfig, as_pair
from rfcx_tf.model.drop_path import drop_path
from rfcx_tf.model.normalization import BatchNormalization
from rfcx_tf.model.resnet_weights import load_weights

__all__ = ["build", "load_weights"]

_STAGE_BLOCKS = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}
_BOTTLENECK_EXPANSION = 4


def build(config: BackboneConfig, mels: int, channels: int, window_frames, synchronized):
    """A residual network, as `build_backbone` describes it; it has no use for `window_frames`."""

    def convolution(x, filters, kernel, stride, name):
        pair = as_pair(stride)
        padding = "same"
        if pair != (1, 1) and kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
            padding = "valid"
        elif pair != (1, 1):
            # The same as a strided 1x1 convolution, whose gradient in TensorFlow 2.17's oneDNN
            # writes past its memory for odd batches of fewer than 16 channels (AVX-512).
            # Pooling single cells subsamples; a strided slice does so several times slower.
            x = layers.AveragePooling2D(1, pair, name=f"{name}_subsample")(x)
            pair = (1, 1)
        return layers.Conv2D(
            filters,
            kernel,
            pair,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)

    def normalize(x, name, gamma="ones"):
        return BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            gamma_initializer=gamma,
            synchronized=synchronized,
            name=f"{name}_bn",
        )(x)

    def relu(x, name):
        return layers.ReLU(name=f"{name}_relu")(x)

    def shortcut(x, filters, stride, name):
        if as_pair(stride) == (1, 1) and x.shape[-1] == filters:
            return x
        return normalize(convolution(x, filters, 1, stride, f"{name}_down"), f"{name}_down")

    def add(x, y, filters, stride, number, name):
        y = drop_path(y, config.drop_path, number, sum(_STAGE_BLOCKS[config.name]), name)
        return relu(layers.Add(name=f"{name}_add")([shortcut(x, filters, stride, name), y]), name)

    def basic_block(x, filters, stride, number, name):
        y = convolution(x, filters, 3, stride, f"{name}_1")
        y = relu(normalize(y, f"{name}_1"), f"{name}_1")
        y = convolution(y, filters, 3, 1, f"{name}_2")
        # Blocks begin as the identity, which steadies the first epochs (Goyal et al. 2017).
        y = normalize(y, f"{name}_2", gamma="zeros")
        return add(x, y, filters, stride, number, name)

    def bottleneck_block(x, filters, stride, number, name):
        wide = filters * _BOTTLENECK_EXPANSION
        y = relu(normalize(convolution(x, filters, 1, 1, f"{name}_1"), f"{name}_1"), f"{name}_1")
        y = convolution(y, filters, 3, stride, f"{name}_2")
        y = relu(normalize(y, f"{name}_2"), f"{name}_2")
        y = normalize(convolution(y, wide, 1, 1, f"{name}_3"), f"{name}_3", gamma="zeros")
        return add(x, y, wide, stride, number, name)

    block = bottleneck_block if config.name == "resnet50" else basic_block
    inputs = keras.Input((None, mels, channels), name="image")
    x = convolution(inputs, config.width, config.stem_kernel, config.stem_stride, "stem")
    x = relu(normalize(x, "stem"), "stem")
    if config.stem_pooling:
        # Features are not negative here, so padding with zeros is padding with -infinity.
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    stages = zip(_STAGE_BLOCKS[config.name], config.stage_strides, strict=True)
    number = 0
    for stage, (blocks, stage_stride) in enumerate(stages):
        for index in range(blocks):
            stride = stage_stride if index == 0 else 1
            number += 1
            name = f"stage{stage + 1}_block{index + 1}"
            x = block(x, config.width * 2**stage, stride, number, name)
    return keras.Model(inputs, x, name=config.name)
