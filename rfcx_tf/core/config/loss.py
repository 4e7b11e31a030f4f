"""What labels weigh: the section `loss`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rfcx_tf.core.config.section import ConfigSection, NonNegativeFloat, PositiveFloat, Probability


class LossConfig(ConfigSection):
    """Weights in the masked binary cross-entropy.

    Attributes:
        present_weight, absent_weight: weight of a known-present, a known-absent label.
        unknown_negative_weight: weight at which an unknown class counts as absent; 0 keeps
            unknown classes out of the loss.
        unknown_negative_in: `tp`: only in crops that hold a known-present class; `all`.
        label_smoothing: known-present targets become 1 - this.
    """

    present_weight: PositiveFloat = 1.0
    absent_weight: NonNegativeFloat = 1.0
    unknown_negative_weight: Probability = 0.0
    unknown_negative_in: Literal["tp", "all"] = "tp"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
