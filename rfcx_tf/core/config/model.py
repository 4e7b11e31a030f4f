"""Spectrogram to window logits: the section `model`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rfcx_tf.core.config.backbone import BackboneConfig
from rfcx_tf.core.config.section import ConfigSection, PositiveFloat


class HeadConfig(ConfigSection):
    """Sliding-window classifier on the backbone's cells.

    Attributes:
        kind: `shared`: one window length for all classes. `per_class`: inside that window
            every class pools over its own mean box length, centred.
        window_s: length of the window; None: as long as a training crop.
        frequency_pooling, time_pooling: how cells are pooled over mel bands, over the window.
        hidden: units of the hidden layer; 0: none.
        dropout: rate before each dense layer.
    """

    kind: Literal["shared", "per_class"] = "shared"
    window_s: PositiveFloat | None = None
    frequency_pooling: Literal["mean", "max", "mean_max"] = "mean"
    time_pooling: Literal["mean", "max", "mean_max"] = "mean"
    hidden: Annotated[int, Field(ge=0)] = 0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


class ModelConfig(ConfigSection):
    """Spectrogram to window logits."""

    backbone: BackboneConfig = BackboneConfig()
    frequency_coordinate: bool = False
    head: HeadConfig = HeadConfig()
