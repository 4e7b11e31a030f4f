"""MobileNetV2 and EfficientNet-Lite that slide over a recording, with room for published weights.

Both are inverted residuals without squeezes (Sandler et al. 2018; Tan 2020), so that a recording
is exactly what its crops are. The layers are those of the publications. What differs:

- The last strided layer has stride 1, and the depthwise convolutions behind it look at every
  second cell: stride 16 instead of 32. Every second cell is the published network's own.
- Strided layers pad as published: MobileNetV2's both sides alike, as torchvision does;
  EfficientNet-Lite's as TensorFlow does images of an even size, for which the input is padded to
  whole strides (`WholeStrides`).

References: Sandler et al. (2018), arXiv:1801.04381; EfficientNet-Lite, in
https://github.com/tensorflow/tpu, under models/official/efficientnet/lite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
from keras import layers

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.drop_path import drop_path
from rfcx_tf.model.efficientnet import STAGES, kernel_initializer, scaled_width
from rfcx_tf.model.normalization import BatchNormalization
from rfcx_tf.model.tensor_files import fill_from_tensors, read_tensors
from rfcx_tf.model.whole_strides import LATE_FRAMES, CellsOfFrames, WholeStrides

_STRIDE = 16
_STEM_FILTERS, _TOP_FILTERS = 32, 1280
# Kernel, repeats, filters, expansion, stride. The sixth stage was published with stride 2.
_MOBILENET = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (3, 3, 32, 6, 2),
    (3, 4, 64, 6, 2),
    (3, 3, 96, 6, 1),
    (3, 3, 160, 6, 1),
    (3, 1, 320, 6, 1),
)
# The stage, from 0, that begins with the stride which is left out.
_OPENED_STAGE = 5
_PREFIXES = re.compile(r"^((module|model|backbone|net)\.)+")


class _Kind(NamedTuple):
    """How one of the networks is made.

    Attributes:
        stages: kernel, repeats, filters, expansion and stride of each.
        width, depth: factors on the filters, and on the repeats of all but the first and last.
        epsilon: of batch normalisation.
        is_symmetric: strided layers pad as PyTorch's do, not as TensorFlow's.
    """

    stages: tuple[tuple[int, int, int, int, int], ...]
    width: float
    depth: float
    epsilon: float
    is_symmetric: bool


_KINDS = {
    "mobilenet_v2": _Kind(_MOBILENET, 1.0, 1.0, 1e-5, True),
    "efficientnet_lite0": _Kind(STAGES, 1.0, 1.0, 1e-3, False),
    "efficientnet_lite1": _Kind(STAGES, 1.0, 1.1, 1e-3, False),
    "efficientnet_lite2": _Kind(STAGES, 1.1, 1.2, 1e-3, False),
}


class _Block(NamedTuple):
    """An inverted residual: where it stands, from 0, and its sizes."""

    number: int
    stage: int
    index: int
    kernel: int
    filters: int
    expansion: int
    stride: int
    dilation: int


def _blocks(kind: _Kind) -> list[_Block]:
    blocks: list[_Block] = []
    for stage, (kernel, repeats, filters, expansion, stride) in enumerate(kind.stages):
        if 0 < stage < len(kind.stages) - 1:
            repeats = math.ceil(kind.depth * repeats)
        for index in range(repeats):
            is_behind = (stage, index) > (_OPENED_STAGE, 0)
            blocks.append(
                _Block(
                    len(blocks),
                    stage,
                    index,
                    kernel,
                    scaled_width(filters, kind.width),
                    expansion,
                    stride if index == 0 else 1,
                    2 if is_behind else 1,
                )
            )
    return blocks


def build(config: BackboneConfig, mels: int, channels: int, window_frames, synchronized):
    """A network without its classifier, as `build_backbone` describes it."""
    kind = _KINDS[config.name]

    def convolution(x, name, filters, kernel=1, stride=1, dilation=1, activate=True):
        """Convolution, depthwise where filters is None, and normalisation."""
        padding = "same"
        if stride > 1 and kind.is_symmetric:
            x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
            padding = "valid"
        options = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}_conv"}
        if filters is None:
            x = layers.DepthwiseConv2D(
                kernel,
                dilation_rate=dilation,
                depthwise_initializer=kernel_initializer(),
                **options,
            )(x)
        else:
            x = layers.Conv2D(filters, kernel, kernel_initializer=kernel_initializer(), **options)(
                x
            )
        x = BatchNormalization(
            momentum=0.9, epsilon=kind.epsilon, synchronized=synchronized, name=f"{name}_bn"
        )(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x

    image = keras.Input((None, mels, channels), name="image")
    x = image
    if not kind.is_symmetric:
        x = WholeStrides(_STRIDE, LATE_FRAMES, name="whole_strides")(x)
    x = convolution(x, "stem", _STEM_FILTERS, 3, 2)
    blocks = _blocks(kind)
    for block in blocks:
        entering, name = x, f"block{block.number}"
        if block.expansion > 1:
            x = convolution(x, f"{name}_expand", x.shape[-1] * block.expansion)
        x = convolution(x, f"{name}_depthwise", None, block.kernel, block.stride, block.dilation)
        x = convolution(x, f"{name}_project", block.filters, activate=False)
        # The first block of a stage changes the filters, so nothing leads around it.
        if block.index > 0:
            x = drop_path(x, config.drop_path, block.number + 1, len(blocks), name)
            x = layers.Add(name=f"{name}_add")([x, entering])
    x = convolution(x, "top", _TOP_FILTERS)
    if not kind.is_symmetric:
        x = CellsOfFrames(_STRIDE, name="cells_of_frames")([x, image])
    return keras.Model(image, x, name=config.layer_name)


def load_weights(backbone: keras.Model, source: str, coordinate: bool = False) -> None:
    """Gives a backbone of `build` the weights of a file; the file's classifier is left out.

    Args:
        backbone: the network that takes the weights.
        source: a file of torchvision, timm or efficientnet-lite-pytorch: `.safetensors`, or
            `.pth`, `.pt` or `.bin` where PyTorch is installed.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: see `begin_from_weights`.
    """
    path = Path(source)
    tensors = read_tensors(path, lambda name: _PREFIXES.sub("", name))
    for names in _LAYOUTS:
        published = names(_blocks(_KINDS[backbone.name]))
        if f"{published['stem_conv']}.weight" in tensors:
            fill_from_tensors(backbone, published.__getitem__, tensors, path, coordinate)
            return
    raise UserError(
        f"A weights file must hold {backbone.name} by the names of torchvision, timm or "
        f"efficientnet-lite-pytorch. {path} has others, such as {next(iter(tensors), 'none')}. "
        "Name another file."
    )


def _torchvision(blocks: list[_Block]) -> dict[str, str]:
    """torchvision's name of every layer, by ours."""
    names = _convolution("stem", "features.0.0", "features.0.1")
    for block in blocks:
        inside = f"features.{block.number + 1}.conv"
        parts = ["expand", "depthwise"] if block.expansion > 1 else ["depthwise"]
        for place, part in enumerate(parts):
            names |= _named(block, part, f"{inside}.{place}.0", f"{inside}.{place}.1")
        last = len(parts)
        names |= _named(block, "project", f"{inside}.{last}", f"{inside}.{last + 1}")
    top = f"features.{len(blocks) + 1}"
    return names | _convolution("top", f"{top}.0", f"{top}.1")


def _timm(blocks: list[_Block]) -> dict[str, str]:
    """timm's name of every layer, by ours."""
    names = _convolution("stem", "conv_stem", "bn1")
    for block in blocks:
        inside = f"blocks.{block.stage}.{block.index}"
        parts = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        if block.expansion == 1:
            parts = {"depthwise": "conv_dw", "project": "conv_pw"}
        for number, (part, name) in enumerate(parts.items(), start=1):
            names |= _named(block, part, f"{inside}.{name}", f"{inside}.bn{number}")
    return names | _convolution("top", "conv_head", "bn2")


def _lite_pytorch(blocks: list[_Block]) -> dict[str, str]:
    """efficientnet-lite-pytorch's name of every layer, by ours."""
    names = _convolution("stem", "_conv_stem", "_bn0")
    for block in blocks:
        for number, part in enumerate(("expand", "depthwise", "project")):
            inside = f"_blocks.{block.number}"
            names |= _named(block, part, f"{inside}._{part}_conv", f"{inside}._bn{number}")
    return names | _convolution("top", "_conv_head", "_bn1")


def _convolution(ours: str, convolution: str, normalization: str) -> dict[str, str]:
    return {f"{ours}_conv": convolution, f"{ours}_bn": normalization}


def _named(block: _Block, part: str, convolution: str, normalization: str) -> dict[str, str]:
    return _convolution(f"block{block.number}_{part}", convolution, normalization)


_LAYOUTS: tuple[Callable[[list[_Block]], dict[str, str]], ...] = (
    _torchvision,
    _timm,
    _lite_pytorch,
)
