"""Masked binary cross-entropy: known labels count, unknown ones do not."""

from __future__ import annotations

import keras
from keras import ops

from rfcx_tf.core.config import LossConfig


def label_weights(labels: dict, config: LossConfig, pseudo_weight: float = 1.0):
    """Weight of every label in the loss.

    Args:
        labels: `target`, probability that the class is present [batch, classes], 0 where
            unknown but in mixes with what models labelled (`shards.augment.mixup`); `known`, 1
            where the label is known, 0 where it is not [batch, classes]; `partly`, 1 where less
            than half of a call is heard [batch, classes]; `pseudo`, 1 for examples that models
            labelled, 0 for others [batch].
        config: the weights.
        pseudo_weight: factor on the weights of what models labelled.

    Returns:
        float32 [batch, classes]: a mix of `present_weight` and `absent_weight` where known;
        where unknown, `unknown_negative_weight`, by default only in examples with a
        class that is known, and rather present than not: a crop around a call says a little
        about the other species, one around a template's false alarm does not. What is partly
        heard weighs nothing, and what models left unknown they were unsure of, so neither does
        that.
    """
    target, known = labels["target"], labels["known"]
    is_pseudo = _is_pseudo(labels)
    weights = known * (target * config.present_weight + (1.0 - target) * config.absent_weight)
    if config.unknown_negative_weight > 0:
        unknown = (1.0 - known) * (1.0 - labels["partly"])
        if config.unknown_negative_in == "tp":
            holds_call = ops.max(known * target, axis=-1, keepdims=True) >= 0.5
            unknown = unknown * ops.cast(holds_call, "float32")
        unknown_weight = ops.where(is_pseudo, 0.0, config.unknown_negative_weight)
        weights = weights + unknown * unknown_weight
    return weights * ops.where(is_pseudo, pseudo_weight, 1.0)


def _is_pseudo(labels: dict):
    """Bool [batch, 1]."""
    return ops.expand_dims(labels["pseudo"], -1) > 0


@keras.saving.register_keras_serializable("rfcx_tf")
class MaskedBinaryCrossEntropy(keras.losses.Loss):
    """Weighted binary cross-entropy, summed over classes and averaged over the batch.

    The labels are a dict of `target`, `known` and `partly`, float32 [batch, classes], and `pseudo`
    [batch], as `label_weights` takes it; predictions are logits [batch, classes]. A label of
    weight zero has an exactly zero gradient, and so has one whose predicted probability is its
    soft target. The sum is divided by the fixed batch size, not by the number of known labels,
    so the mean over replicas is the loss of the whole batch.

    Args:
        config: weights and label smoothing.
        pseudo_weight: factor on the weights of what models labelled, which is not smoothed.
    """

    def __init__(self, config: LossConfig, pseudo_weight: float = 1.0, name: str = "masked_bce"):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype="float32")
        self.config = config
        self.pseudo_weight = pseudo_weight

    def call(self, labels, logits):
        weights = label_weights(labels, self.config, self.pseudo_weight)
        smoothed = ops.where(_is_pseudo(labels), 1.0, 1.0 - self.config.label_smoothing)
        target = labels["target"] * smoothed
        # max(z, 0) - z t + log(1 + exp(-|z|)): stable for logits of either sign. Not by relu and
        # abs, whose gradients at 0 do not add up to 1/2 - t.
        positive = logits >= 0
        above_0, minus_abs = ops.where(positive, logits, 0.0), ops.where(positive, -logits, logits)
        cross_entropy = above_0 - logits * target + ops.log1p(ops.exp(minus_abs))
        return ops.sum(weights * cross_entropy, axis=-1)

    def get_config(self):
        return {
            "config": self.config.model_dump(mode="json"),
            "pseudo_weight": self.pseudo_weight,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        settings = LossConfig.model_validate(config["config"])
        return cls(settings, config["pseudo_weight"], config["name"])
