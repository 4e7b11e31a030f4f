"""YAMNet's network that slides over a recording at stride 16, with room for its published weights.

YAMNet (Plakal and Ellis 2020) is MobileNet v1 (Howard et al. 2017) on log-mel patches of 0.96 s,
trained on AudioSet's two million clips. Its front end is `configs/yamnet.yaml`'s. What differs:

- The last strided layer has stride 1 and the layer behind it looks at every second cell, so that
  the total stride is 16 instead of 32. Every second cell is YAMNet's own, the others are what it
  would say of the sound 16 frames later.
- The input is padded to whole strides, and by so much before its first frame that cell i stands
  for the frames around i * 16 (`WholeStrides`). Along frequency it is padded as published.

References: Howard et al. (2017), arXiv:1704.04861; https://github.com/tensorflow/models, under
research/audioset/yamnet.
"""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
from keras import layers

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.efficientnet import kernel_initializer
from rfcx_tf.model.image_weights import adapt_stem, reason
from rfcx_tf.model.normalization import BatchNormalization
from rfcx_tf.model.whole_strides import LATE_FRAMES, CellsOfFrames, WholeStrides

_STRIDE = 16
_STEM_FILTERS = 32
# Filters, stride, dilation of each depthwise and 1x1 convolution. The twelfth had stride 2.
_LAYERS = (
    (64, 1, 1),
    (128, 2, 1),
    (128, 1, 1),
    (256, 2, 1),
    (256, 1, 1),
    (512, 2, 1),
    *((512, 1, 1),) * 5,
    (1024, 1, 1),
    (1024, 1, 2),
)
_CHECKPOINT_KEY = re.compile(
    r"(?P<network>.*)layer_with_weights-(?P<layer>\d+)/(?P<value>\w+)/\.ATTRIBUTES/VARIABLE_VALUE"
)
# In the order in which Keras keeps them.
_VALUES = ("kernel", "depthwise_kernel", "beta", "moving_mean", "moving_variance")


def build(config: BackboneConfig, mels: int, channels: int, window_frames, synchronized):
    """YAMNet without its classifier, as `build_backbone` describes it."""

    def convolution(x, layer, name):
        x = layer(x)
        # Centred, not scaled: the next layer can scale by itself.
        x = BatchNormalization(
            momentum=0.9, epsilon=1e-4, scale=False, synchronized=synchronized, name=f"{name}_bn"
        )(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def plain(filters, kernel, stride, name):
        return layers.Conv2D(
            filters,
            kernel,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=kernel_initializer(),
            name=f"{name}_conv",
        )

    image = keras.Input((None, mels, channels), name="image")
    x = WholeStrides(_STRIDE, LATE_FRAMES, name="whole_strides")(image)
    x = convolution(x, plain(_STEM_FILTERS, 3, 2, "layer1"), "layer1")
    for number, (filters, stride, dilation) in enumerate(_LAYERS, start=2):
        depthwise = layers.DepthwiseConv2D(
            3,
            stride,
            padding="same",
            dilation_rate=dilation,
            use_bias=False,
            depthwise_initializer=kernel_initializer(),
            name=f"layer{number}_depthwise_conv",
        )
        x = convolution(x, depthwise, f"layer{number}_depthwise")
        x = convolution(x, plain(filters, 1, 1, f"layer{number}_pointwise"), f"layer{number}")
    cells = CellsOfFrames(_STRIDE, name="cells_of_frames")([x, image])
    return keras.Model(image, cells, name=config.layer_name)


def load_weights(backbone: keras.Model, source: str, coordinate: bool = False) -> None:
    """Gives a backbone of `build` the weights of YAMNet.

    Args:
        backbone: the network that takes the weights.
        source: `yamnet.h5` as its authors publish it, or the folder of a SavedModel that holds
            YAMNet, with any head.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: see `begin_from_weights`.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"model.backbone.weights must name a file that is there. Not found: {path}."
        )
    # YAMNet's image is [frames, bands] as ours is: nothing is turned.
    values = _read_saved_model(path) if path.is_dir() else _read_h5(path)
    expected = [tuple(weight.shape) for weight in backbone.weights]
    values = values[: len(expected)]
    if values and values[0].ndim == 4:
        values[0] = adapt_stem(values[0], backbone.input_shape[-1], coordinate)
    if [value.shape for value in values] != expected:
        raise UserError(
            f"A weights file must hold the layers of YAMNet. {path} holds others. Name yamnet.h5 "
            "or a SavedModel of YAMNet."
        )
    if not all(np.isfinite(value).all() for value in values):
        raise UserError(f"Weights must be finite. {path} has NaN or infinity. Name another file.")
    backbone.set_weights(values)


def _read_saved_model(folder: Path) -> list[np.ndarray]:
    """The weights of the first network in a SavedModel that has layers, from input to output."""
    import tensorflow as tf

    try:
        checkpoint = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        networks: dict[str, dict[tuple[int, int], str]] = {}
        for key in checkpoint.get_variable_to_shape_map():
            match = _CHECKPOINT_KEY.fullmatch(key)
            if match and match["value"] in _VALUES:
                place = (int(match["layer"]), _VALUES.index(match["value"]))
                networks.setdefault(match["network"], {})[place] = key
        # A head of its own has fewer layers.
        keys = max(networks.values(), key=len, default={})
        return [np.asarray(checkpoint.get_tensor(keys[place])) for place in sorted(keys)]
    except Exception as error:  # Of TensorFlow's readers, as the bytes have it.
        raise _unreadable(folder, error) from None


def _read_h5(path: Path) -> list[np.ndarray]:
    """The weights of a file of Keras 2, from input to output."""
    import h5py

    try:
        with h5py.File(path) as file:
            groups = [file[_text(name)] for name in file.attrs["layer_names"]]
            return [
                np.asarray(group[_text(name)])
                for group in groups
                for name in group.attrs["weight_names"]
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"YAMNet's weights are yamnet.h5 or a SavedModel. {path} cannot be read: {reason(error)}. "
        "Download or copy it again."
    )
