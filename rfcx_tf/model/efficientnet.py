"""EfficientNets that slide over a recording, with room for keras.applications' weights.

The layers with weights are those of `keras.applications` (Tan and Le 2019), by name and shape.
What differs:

- Strided convolutions pad symmetrically, whether the length is odd or even.
- Squeeze-and-excitation looks at a window around every frame instead of at the whole input. So
  features do not depend on how long a recording is, and a crop's differ from the recording's by
  no more than what the windows of the blocks see beyond the crop's borders.
- The last strided stage has stride 1: 16 in all instead of 32. It costs half of what a stem of
  stride 1 would, and leaves the stages before it at the resolution they were published with.
- No block is dropped in training unless `model.backbone.drop_path` says so (published: 0.2).

On CPUs a training step takes longer in bfloat16 than in float32: TensorFlow 2.17's gradient of
a 5x5 depthwise kernel then takes four times as long. `training.precision: float32` is better.
"""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.drop_path import drop_path
from rfcx_tf.model.image_weights import adapt_stem, reason
from rfcx_tf.model.normalization import BatchNormalization
from rfcx_tf.model.weight_files import all_or_error

# Factors on the widths and on the repeats of the table below.
_SCALES = {"efficientnet_b0": (1.0, 1.0), "efficientnet_b2": (1.1, 1.2)}
# Kernel, repeats, filters, expansion, stride; stage 6 was published with stride 2. They are
# EfficientNet-Lite's too (`rfcx_tf.model.mobilenet`).
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 1),
    (3, 1, 320, 6, 1),
)
_STEM_FILTERS, _TOP_FILTERS, _STEM_STRIDE = 32, 1280, 2
_SQUEEZE_RATIO = 0.25


@keras.saving.register_keras_serializable("rfcx_tf")
class LocalSqueeze(layers.Layer):
    """Mean over all bands and the frames around.

    [batch, frames, bands, D] -> [batch, frames, 1, D]; without a window [batch, 1, 1, D].
    At the ends of the input it is the mean over those frames of the window that are there.

    Args:
        window: odd number of frames, centred; None: the whole input, as published.
    """

    def __init__(self, window: int | None, **kwargs):
        super().__init__(**kwargs)
        self.window = window

    def call(self, features):
        # In float32, since the sum is one of hundreds of frames.
        frames = ops.cast(ops.mean(features, axis=2), "float32")
        if self.window is None:
            means = ops.mean(frames, axis=1, keepdims=True)
        else:
            # `same` divides by the frames that are there.
            means = ops.average_pool(frames, self.window, strides=1, padding="same")
        return ops.cast(ops.expand_dims(means, 2), features.dtype)

    def get_config(self):
        return {**super().get_config(), "window": self.window}


def kernel_initializer() -> keras.Initializer:
    """Of one convolution: one that has drawn before draws the same numbers again."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def scaled_width(filters: int, scale: float) -> int:
    """Filters times a factor, as a multiple of 8 that is not more than 10 % less."""
    scaled = filters * scale
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def build(config: BackboneConfig, mels: int, channels: int, window_frames, synchronized):
    """An EfficientNet, as `build_backbone` describes it."""
    width_scale, depth_scale = _SCALES[config.name]

    def width(filters):
        return scaled_width(filters, width_scale)

    def convolution(x, filters, name, kernel=1, stride=1, depthwise=False):
        padding = "same"
        if stride > 1:
            x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
            padding = "valid"
        options = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
        if depthwise:
            return layers.DepthwiseConv2D(
                kernel, depthwise_initializer=kernel_initializer(), **options
            )(x)
        return layers.Conv2D(filters, kernel, kernel_initializer=kernel_initializer(), **options)(x)

    def normalize(x, name):
        return BatchNormalization(
            momentum=0.9, epsilon=1e-3, synchronized=synchronized, name=f"{name}bn"
        )(x)

    def swish(x, name):
        return layers.Activation("swish", name=f"{name}activation")(x)

    def excite(x, squeezed_filters, total_stride, name):
        window = None
        if window_frames is not None:
            window = 2 * (window_frames // (2 * total_stride)) + 1
        gate = LocalSqueeze(window, name=f"{name}se_squeeze")(x)
        for step, filters, activation in (
            ("reduce", squeezed_filters, "swish"),
            ("expand", x.shape[-1], "sigmoid"),
        ):
            gate = layers.Conv2D(
                filters,
                1,
                activation=activation,
                kernel_initializer=kernel_initializer(),
                name=f"{name}se_{step}",
            )(gate)
        return layers.Multiply(name=f"{name}se_excite")([x, gate])

    def block(x, kernel, filters, expansion, stride, total_stride, number, name):
        entering = x
        inside = x.shape[-1] * expansion
        if expansion > 1:
            x = convolution(x, inside, f"{name}expand_conv")
            x = swish(normalize(x, f"{name}expand_"), f"{name}expand_")
        x = convolution(x, inside, f"{name}dwconv", kernel, stride, depthwise=True)
        x = swish(normalize(x, name), name)
        squeezed_filters = max(1, int(entering.shape[-1] * _SQUEEZE_RATIO))
        x = excite(x, squeezed_filters, total_stride, name)
        x = normalize(convolution(x, filters, f"{name}project_conv"), f"{name}project_")
        if stride > 1 or entering.shape[-1] != filters:
            return x
        x = drop_path(x, config.drop_path, number, sum(repeats_of_stages), name.rstrip("_"))
        return layers.Add(name=f"{name}add")([x, entering])

    inputs = keras.Input((None, mels, channels), name="image")
    repeats_of_stages = [math.ceil(depth_scale * repeats) for _, repeats, *_ in STAGES]
    total_stride, number = _STEM_STRIDE, 0
    x = convolution(inputs, width(_STEM_FILTERS), "stem_conv", 3, _STEM_STRIDE)
    x = swish(normalize(x, "stem_"), "stem_")
    for stage, (kernel, _, filters, expansion, stage_stride) in enumerate(STAGES):
        total_stride *= stage_stride
        for index in range(repeats_of_stages[stage]):
            stride = stage_stride if index == 0 else 1
            number += 1
            sizes = kernel, width(filters), expansion, stride, total_stride
            x = block(x, *sizes, number, f"block{stage + 1}{'abcdefgh'[index]}_")
    x = convolution(x, width(_TOP_FILTERS), "top_conv")
    x = swish(normalize(x, "top_"), "top_")
    return keras.Model(inputs, x, name=config.name)


def load_weights(backbone: keras.Model, source: str, coordinate: bool = False) -> None:
    """Gives a backbone of `build` the weights of a published EfficientNet.

    Args:
        backbone: the network that takes the weights.
        source: `imagenet`, which Keras downloads once, or a file of weights of
            `keras.applications.EfficientNetB0` (or B2) with `include_top=False`.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: see `begin_from_weights`.
    """
    published = _published(backbone.name, source)
    values = {}
    for layer in backbone.layers:
        arrays = published.get_layer(layer.name).get_weights() if layer.weights else []
        if not all(np.isfinite(array).all() for array in arrays):
            raise UserError(
                f"Weights must be finite. {source} has NaN or infinity in {layer.name}. Name "
                "another file."
            )
        values[layer.name] = [a.swapaxes(0, 1) if a.ndim == 4 else a for a in arrays]
    stem = values["stem_conv"][0]
    values["stem_conv"] = [adapt_stem(stem, backbone.input_shape[-1], coordinate)]
    for layer in backbone.layers:
        layer.set_weights(values[layer.name])


def _published(name: str, source: str) -> keras.Model:
    """keras.applications' model with the weights of `source`."""
    kind = f"EfficientNet{name[-2:].upper()}"
    build = getattr(keras.applications, kind)
    file_name = f"{kind.lower()}_notop.h5"
    if source == "imagenet":
        try:
            return build(include_top=False, weights="imagenet")
        except Exception as error:  # Keras raises no more special one when a download fails.
            raise UserError(
                f"model.backbone.weights=imagenet downloads {file_name}, which failed: "
                f"{reason(error)}. Try again with a connection, or set model.backbone.weights "
                "to the path of that file."
            ) from None
    if not Path(source).is_file():
        raise UserError(
            f"model.backbone.weights must name a file that is there. Not found: {source}."
        )
    model = build(include_top=False, weights=None)
    try:
        with all_or_error():
            model.load_weights(source)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise UserError(
            f"A weights file must be one of keras.applications.{kind} with include_top=False, "
            f"such as {file_name}. {source} cannot be loaded: {reason(error)}. Name another "
            "file, or set model.backbone.name to the file's network."
        ) from None
    return model
