"""Masked binary cross-entropy: known labels count, unknown ones do not."""

from __future__ import annotations

import keras
from keras import ops

from rfcx_tf.config import LossConfig


def label_weights(target, known, config: LossConfig):
    """Weight of every label in the loss.

    Args:
        target: probability that the class is present [batch, classes]; 0 where unknown.
        known: 1 where the label is known, 0 where it is not [batch, classes].
        config: the weights.

    Returns:
        float32 [batch, classes]: a mix of `present_weight` and `absent_weight` where known;
        where unknown, `unknown_negative_weight`, by default only in examples with a
        known-present class: a crop around a call says a little about the other species, one
        around a template's false alarm does not.
    """
    weights = known * (target * config.present_weight + (1.0 - target) * config.absent_weight)
    if config.unknown_negative_weight > 0:
        unknown = 1.0 - known
        if config.unknown_negative_in == "tp":
            holds_call = ops.max(known * target, axis=-1, keepdims=True) > 0
            unknown = unknown * ops.cast(holds_call, "float32")
        weights = weights + unknown * config.unknown_negative_weight
    return weights


@keras.saving.register_keras_serializable("rfcx_tf")
class MaskedBinaryCrossEntropy(keras.losses.Loss):
    """Weighted binary cross-entropy, summed over classes and averaged over the batch.

    The labels are a dict of `target` and `known`, both float32 [batch, classes]; predictions
    are logits [batch, classes]. A label of weight zero has an exactly zero gradient. The sum
    is divided by the fixed batch size, not by the number of known labels, so the mean over
    replicas is the loss of the whole batch.

    Args:
        config: weights and label smoothing.
    """

    def __init__(self, config: LossConfig, name: str = "masked_bce"):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype="float32")
        self.config = config

    def call(self, labels, logits):
        weights = label_weights(labels["target"], labels["known"], self.config)
        target = labels["target"] * (1.0 - self.config.label_smoothing)
        # max(z, 0) - z t + log(1 + exp(-|z|)): stable for logits of either sign.
        cross_entropy = ops.relu(logits) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
        return ops.sum(weights * cross_entropy, axis=-1)

    def get_config(self):
        return {"config": self.config.model_dump(mode="json"), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(LossConfig.model_validate(config["config"]), config["name"])
