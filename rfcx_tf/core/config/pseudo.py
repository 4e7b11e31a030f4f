"""Labels by models: the section `pseudo`."""

from __future__ import annotations

import pydantic

from rfcx_tf.core.config.section import ConfigSection, PositiveFloat, PositiveInt, Probability


class PseudoConfig(ConfigSection):
    """How windows are labelled by models, and how a training draws from them.

    Attributes:
        fraction: share of the training examples drawn from pseudo-labelled crops, when a run is
            given some. The others are TP and FP rows in `dataset.tp_fraction`, so that every
            batch stays anchored in labels of experts.
        weight: weight of their labels in the loss. Neither `loss.unknown_negative_weight` nor
            `loss.label_smoothing` applies to them.
        slide_s: distance of the labelled windows, rounded to whole backbone cells.
        present_above, absent_below: a class whose probability lies between is unknown in that
            window; the others have their probability as a soft target.
        windows_per_recording: at most so many windows of a recording are kept.
        background: at most this share of them holds nothing that is known to be present.
        balance_classes: draw the windows of every most probable class equally often, and
            background like one class more; otherwise every window equally often.
        mixup: probability that a window is mixed with another one, as TP crops are.
    """

    fraction: Probability = 0.5
    weight: PositiveFloat = 1.0
    slide_s: PositiveFloat = 0.5
    present_above: Probability = 0.5
    absent_below: Probability = 0.05
    windows_per_recording: PositiveInt = 20
    background: Probability = 0.5
    balance_classes: bool = False
    mixup: Probability = 0.5

    @pydantic.model_validator(mode="after")
    def _rules(self) -> PseudoConfig:
        self.require(
            self.absent_below < self.present_above,
            f"absent_below must lie below pseudo.present_above ({self.present_above:g})",
        )
        return self
