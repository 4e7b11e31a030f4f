"""The network below the head: the section `model.backbone`, and the table of networks.

A network that is not in the table takes a module in `rfcx_tf.model` and a line here. Those of
keras-cv and keras-hub stand in `rfcx_tf.core.config.library_networks`, and here as
`library:NETWORK`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import pydantic
from pydantic import Field

from rfcx_tf.core.config.library_networks import LIBRARY_NETWORKS
from rfcx_tf.core.config.section import ConfigSection, PositiveInt

StridePair = tuple[PositiveInt, PositiveInt]
# Before the name of weights that a library of networks publishes.
PRESET = "preset:"


class Source(NamedTuple):
    """Where networks come from.

    Attributes:
        module: a module of `rfcx_tf.model`, with `build` and `load_weights` as
            `rfcx_tf.model.backbones` describes them.
        stride: total stride of a network, in frames and in mel bands.
        check: refuses settings that its networks cannot have.
    """

    module: str
    stride: Callable[[BackboneConfig], tuple[int, int]]
    check: Callable[[BackboneConfig], None]


def as_pair(stride: int | tuple[int, int]) -> tuple[int, int]:
    """A stride as (frames, mel bands)."""
    return (stride, stride) if isinstance(stride, int) else tuple(stride)


def _resnet_stride(config: BackboneConfig) -> tuple[int, int]:
    pairs = [as_pair(s) for s in (config.stem_stride, *config.stage_strides)]
    pool = 2 if config.stem_pooling else 1
    return tuple(pool * math.prod(axis) for axis in zip(*pairs, strict=True))


def _check_resnet(config: BackboneConfig) -> None:
    strides = config.stage_strides
    config.require(len(strides) == 4, "stage_strides must have four entries, one a stage")
    config.require(config.stem_kernel % 2 == 1, "stem_kernel must be odd")
    if config.weights == "none":
        return
    published = "as published, with model.backbone.weights"
    config.require(
        config.name != "resnet10",
        "weights must be none for resnet10, of which none are published",
    )
    config.require(config.width == 64, f"width must be 64, {published}")
    config.require(config.stem_kernel == 7, f"stem_kernel must be 7, {published}")
    # Strided, the first stage has a shortcut with weights that no published file holds.
    config.require(
        config.name == "resnet50" or as_pair(strides[0]) == (1, 1),
        f"stage_strides must begin with 1, {published}",
    )


def _check_fixed(config: BackboneConfig, *options: str) -> None:
    for key, field in type(config).model_fields.items():
        config.require(
            key in ("name", "weights", *options) or getattr(config, key) == field.default,
            f"{key} is an option of residual networks: leave it out for {config.name}",
        )


def _check_efficientnet(config: BackboneConfig) -> None:
    _check_fixed(config, "drop_path")


def _check_mobilenet(config: BackboneConfig) -> None:
    _check_fixed(config, "drop_path")
    config.require(
        config.weights != "imagenet",
        f"weights must be none or a file for {config.name}",
    )


def _check_yamnet(config: BackboneConfig) -> None:
    _check_fixed(config)
    config.require(
        config.weights != "imagenet",
        "weights must be none, yamnet.h5 or a SavedModel for yamnet, which learned from sound",
    )


def _check_library(config: BackboneConfig) -> None:
    _check_fixed(config)
    config.require(
        config.weights != "imagenet",
        f"weights must be none, preset:NAME or a file for {config.name}",
    )


_RESNET = Source("resnet", _resnet_stride, _check_resnet)
_EFFICIENTNET = Source("efficientnet", lambda _: (16, 16), _check_efficientnet)
_MOBILENET = Source("mobilenet", lambda _: (16, 16), _check_mobilenet)
_YAMNET = Source("yamnet", lambda _: (16, 16), _check_yamnet)
_LIBRARY = Source("library", lambda _: (16, 16), _check_library)
BACKBONES = {
    "resnet10": _RESNET,
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "efficientnet_b0": _EFFICIENTNET,
    "efficientnet_b2": _EFFICIENTNET,
    "mobilenet_v2": _MOBILENET,
    "efficientnet_lite0": _MOBILENET,
    "efficientnet_lite1": _MOBILENET,
    "efficientnet_lite2": _MOBILENET,
    "yamnet": _YAMNET,
}
_OWN = tuple(BACKBONES)
BACKBONES |= {
    f"{library}:{network}": _LIBRARY
    for library, networks in LIBRARY_NETWORKS.items()
    for network in networks
}


class BackboneConfig(ConfigSection):
    """Residual network (He et al. 2016), EfficientNet (Tan and Le 2019), YAMNet and others.

    The total stride of a residual network is that of stem, pooling and stages. That of all others
    is 16, and `name`, `weights` and, but for YAMNet and libraries' networks, `drop_path` are all
    that they take.

    Attributes:
        name: kind of network, depth and kind of block; `keras_cv:NAME` or `keras_hub:NAME`.
        width: channels of the first stage, 64 in the publication; later stages double it.
        stem_stride, stage_strides: each one number or a [time, frequency] pair.
        stem_pooling: the 3x3 max-pooling of stride 2 after the stem; off gives stride 16.
        weights: where training begins: `none` (random), `imagenet`, for the network of a library
            `preset:NAME`, or the path of a weights file (`begin_from_weights`).
        drop_path: chance that the last residual block is left out of an example in training,
            earlier blocks in proportion (stochastic depth, Huang et al. 2016); 0: off.
    """

    name: str = "resnet34"
    width: PositiveInt = 64
    stem_kernel: Annotated[int, Field(gt=0, lt=32)] = 7
    stem_stride: PositiveInt | StridePair = 2
    stem_pooling: bool = False
    stage_strides: tuple[PositiveInt | StridePair, ...] = (1, 2, 2, 2)
    weights: str = "none"
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @property
    def source(self) -> Source:
        """Where the network comes from."""
        return BACKBONES[self.name]

    @property
    def weights_file(self) -> str | None:
        """The path that `weights` gives; None if it gives none."""
        named = self.weights in ("none", "imagenet") or self.weights.startswith(PRESET)
        return None if named else self.weights

    @property
    def layer_name(self) -> str:
        """The network's name in the detector; Keras allows no colon."""
        return self.name.replace(":", "_")

    @property
    def stride(self) -> tuple[int, int]:
        """Total stride in frames and in mel bands."""
        return self.source.stride(self)

    @pydantic.model_validator(mode="after")
    def _rules(self) -> BackboneConfig:
        library = self.name.partition(":")[0]
        networks = LIBRARY_NETWORKS.get(library)
        if networks:
            choices = f"{library}:NAME, with NAME one of {', '.join(networks)}"
        else:
            choices = f"one of {', '.join(_OWN)}, {':NAME, '.join(LIBRARY_NETWORKS)}:NAME"
        self.require(self.name in BACKBONES, f"name must be {choices}")
        self.require(
            networks or not self.weights.startswith(PRESET),
            f"weights can be {PRESET}NAME for networks of {' and '.join(LIBRARY_NETWORKS)} alone",
        )
        self.source.check(self)
        return self
