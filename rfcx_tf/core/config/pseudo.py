"""Labels by models: the section `pseudo`."""

from __future__ import annotations

from typing import Literal

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
        power: exponent of the probabilities when they are learned from; above 1 makes a soft
            target of 0.5 much smaller than one of 0.9. `present_above` and `absent_below` are
            bounds of the probabilities as they were given.
        draw: `even` draws every window equally often; `label_sum` in proportion to the sum of its
            targets over the classes.
        balance_classes: draw the windows of every most probable class equally often, and
            background like one class more; only with `draw: even`.
        mixup: probability that a window is mixed with another one, as TP crops are.
        mixup_into_rows: probability that a TP, FP or absent crop is mixed with a window, when a
            run is given some, instead of with another crop of its kind.
    """

    fraction: Probability = 0.5
    weight: PositiveFloat = 1.0
    slide_s: PositiveFloat = 0.5
    present_above: Probability = 0.5
    absent_below: Probability = 0.05
    windows_per_recording: PositiveInt = 20
    background: Probability = 0.5
    power: PositiveFloat = 1.0
    draw: Literal["even", "label_sum"] = "even"
    balance_classes: bool = False
    mixup: Probability = 0.5
    mixup_into_rows: Probability = 0.0

    @pydantic.model_validator(mode="after")
    def _rules(self) -> PseudoConfig:
        self.require(
            self.absent_below < self.present_above,
            f"absent_below must lie below pseudo.present_above ({self.present_above:g})",
        )
        self.require(
            not self.balance_classes or self.draw == "even",
            f"balance_classes must be off where pseudo.draw is {self.draw}",
        )
        return self
