"""What shards hold and what is drawn from them: the sections `crops` and `dataset`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rfcx_tf.core.config.section import (
    ConfigSection,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)


class CropConfig(ConfigSection):
    """What is cut out of a recording's spectrogram for training.

    Attributes:
        crop_s: length of sound that the network sees as one training example.
        margin_s: what the shards keep on either side of it, as room for random shifts.
        unlabelled_per_recording: crops per recording from where no row lies (0: none).
        absent_per_minute: crops from where no row lies in a completely annotated recording, which
            are drawn as those of FP rows are; at least one a recording (0: none).
        recordings_per_shard: recordings whose crops share one shard file.
    """

    crop_s: PositiveFloat = 5.0
    margin_s: NonNegativeFloat = 2.0
    unlabelled_per_recording: Annotated[int, Field(ge=0)] = 0
    absent_per_minute: NonNegativeFloat = 2.0
    recordings_per_shard: PositiveInt = 64


class DatasetConfig(ConfigSection):
    """How training examples are drawn from the shards.

    Attributes:
        tp_fraction: share of the examples drawn from TP rows; the rest come from FP rows, and from
            absent crops, which count as one class more.
        balance_classes: draw every class equally often; otherwise every row equally often.
    """

    tp_fraction: Probability = 0.5
    balance_classes: bool = True
