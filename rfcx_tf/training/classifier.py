"""The detector as it is trained: crops in, one logit a class out, masked loss."""

from __future__ import annotations

import keras
from keras import ops

from rfcx_tf.config import Config, TrainingConfig
from rfcx_tf.model.losses import MaskedBinaryCrossEntropy


class CropClassifier(keras.Model):
    """Wraps a detector for `fit`.

    Input is a spectrogram [batch, frames, mels]; labels are a dict of `target` and `known`
    [batch, classes]. The logit of a crop is the largest of its windows'.
    """

    def __init__(self, detector: keras.Model, config: Config):
        # The detector casts by itself, after it has normalised its input in float32.
        super().__init__(name="crop_classifier", autocast=False)
        self.detector = detector
        self._loss_function = MaskedBinaryCrossEntropy(config.loss)

    def call(self, spectrogram, training=None):
        return ops.max(self.detector(spectrogram, training=training), axis=1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self._loss_function(y, y_pred)


def compile_classifier(
    classifier: CropClassifier, config: TrainingConfig, replicas: int = 1
) -> None:
    """Gives the classifier its optimiser: AdamW, with the schedule that the recipe names.

    Args:
        classifier: to be compiled.
        config: the recipe's section.
        replicas: devices that share a batch. Each clips its own part of the gradient before
            the parts are summed, so each gets its share of the limit.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        warmup_steps = round(config.warmup_epochs * config.steps_per_epoch)
        steps = config.epochs * config.steps_per_epoch
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=rate / 100 if warmup_steps else rate,
            decay_steps=max(1, steps - warmup_steps),
            warmup_target=rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm / replicas or None,
        use_ema=config.ema > 0,
        ema_momentum=config.ema or None,
    )
    # Shrinking what only scales or shifts a normalised feature regularises nothing.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    classifier.compile(optimizer=optimizer, jit_compile=config.xla)
