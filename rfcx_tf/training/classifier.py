"""The detector as it is trained: crops in, one logit a class out, masked loss.

On `keras.ops` alone, but for accumulation, which is TensorFlow's.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from scipy.stats import beta

from rfcx_tf.core.config import AugmentConfig, Config, TrainingConfig
from rfcx_tf.model.extents import BoxLoss, window_boxes
from rfcx_tf.model.head import largest
from rfcx_tf.model.losses import MaskedBinaryCrossEntropy

_MIX_WEIGHTS = 4096


class CropClassifier(keras.Model):
    """Wraps a detector for `fit`.

    Input is a spectrogram [batch, frames, bands]; labels are a dict, see
    `rfcx_tf.shards.dataset`. The logit of a crop is the largest of its windows'. The loss is that
    of the labels, and what the detector's boxes are wrong by.

    With `augment.feature_mixup`, training mixes what enters the layer `dropout`, the features
    of windows or cells, with those of the crop before in the batch (manifold mixup, Verma et
    al. 2019), and the two crops' losses in the same proportion. Each loss goes by its own
    crop's known labels.

    With `training.accumulation_steps`, a step takes the batch, or every replica's share of it,
    in so many equal parts.

    Attributes:
        detector: what is trained.
        seed_generator: of the random numbers of the mixes; None if there are none.
    """

    def __init__(self, detector: keras.Model, config: Config):
        # The detector casts by itself, after it has normalised its input in float32.
        super().__init__(name="crop_classifier", autocast=False)
        self.detector = detector
        self._config = config
        self._loss_function = MaskedBinaryCrossEntropy(config.loss, config.pseudo.weight)
        self._accumulation_steps = config.training.accumulation_steps
        self._part_gradients = self._gradients
        if config.training.xla and self._accumulation_steps > 1:
            import tensorflow as tf

            # XLA heeds no control dependencies, and would run the parts of a step that it
            # compiles as a whole side by side.
            self._part_gradients = tf.function(self._gradients, jit_compile=True)
        self._feature_mixup = config.augment.feature_mixup
        self._box_loss = BoxLoss(config.model.backbone.stride[0])
        self.seed_generator = None
        if self._feature_mixup > 0:
            self.seed_generator = keras.random.SeedGenerator()
            self._partner_weights = partner_weights(config.augment)
            features = detector.get_layer("dropout").input
            outputs = {name: values for name, values in detector.output.items() if name != "logits"}
            self._features = keras.Model(
                detector.input, outputs | {"features": features}, name="features"
            )
            self._head = keras.Model(features, detector.output["logits"], name="head")

    def call(self, spectrogram, training=None):
        """Logits of crops.

        Args:
            spectrogram: [batch, frames, bands].
            training: whether batch statistics, dropout and mixes are on.

        Returns:
            A dict of float32 `logits` [batch, classes] and more. In training: `boxes` [batch,
            cells, classes, 5], if the detector has them; and with mixes `partner_weight` [batch],
            the other crop's share in each. Else, if the detector has boxes: `box` [batch, classes,
            4], that of every class's surest window, begin and end in seconds from the beginning
            of the crop, low and high in Hz.
        """
        if not (training and self._feature_mixup > 0):
            outputs = self.detector(spectrogram, training=training)
            logits = outputs.pop("logits")
            if not training and "boxes" in outputs:
                outputs = {"box": self._box_of_surest(logits, outputs["boxes"])}
            return outputs | {"logits": largest(logits, axis=1)}
        outputs = self._features(spectrogram, training=True)
        features = outputs.pop("features")
        weight = self._draw_partner_weights(ops.shape(features)[0])
        share = ops.reshape(weight, (-1, *[1] * (len(features.shape) - 1)))
        # In float32: a 16-bit share would not be the one that the loss goes by.
        own = ops.cast(features, "float32")
        mixed = (1.0 - share) * own + share * _partner(own)
        windows = self._head(ops.cast(mixed, features.dtype), training=True)
        return outputs | {"logits": largest(windows, axis=1), "partner_weight": weight}

    def _box_of_surest(self, logits, boxes):
        """Boxes [batch, classes, 4] of the windows whose logits are the largest."""
        config = self._config
        of_windows = window_boxes(boxes, config.window_cells, config.cell_s, config.frontend)
        surest = ops.argmax(logits, axis=1)[:, None, :, None]
        box = ops.take_along_axis(of_windows, surest, axis=1)[:, 0]
        begins_s = ops.cast(surest[:, 0], "float32") * config.cell_s
        return box + begins_s * np.float32([1, 1, 0, 0])

    def _draw_partner_weights(self, batch_size):
        # One draw a call, as in dropout: `RunState` counts on it.
        draws = keras.random.uniform((2, batch_size), seed=self.seed_generator)
        place = ops.cast(draws[1] * len(self._partner_weights), "int32")
        weight = ops.take(self._partner_weights, place)
        return ops.where(draws[0] < self._feature_mixup, weight, 0.0)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        logits, loss = y_pred["logits"], 0.0
        if "boxes" in y_pred:
            loss = self._box_loss(y, y_pred["boxes"])
        if "partner_weight" not in y_pred:
            return loss + self._loss_function(y, logits)
        weight = y_pred["partner_weight"]
        partner = {name: _partner(values) for name, values in y.items()}
        own_loss = self._loss_function(y, logits, sample_weight=1.0 - weight)
        return loss + own_loss + self._loss_function(partner, logits, sample_weight=weight)

    def train_step(self, *arguments):
        """(data) -> figures with TensorFlow; with JAX, (state, data) -> (figures, state)."""
        if self._accumulation_steps == 1:
            return super().train_step(*arguments)
        import tensorflow as tf

        # Unrolled, since the all-reduce of synchronised batch normalisation cannot stand in a
        # tf.while_loop. The optimisers' own `gradient_accumulation_steps` fails under
        # MirroredStrategy.
        (data,) = arguments
        spectrogram, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        steps = self._accumulation_steps
        labels = {name: tf.split(values, steps) for name, values in labels.items()}
        sums = []
        for number, part in enumerate(tf.split(spectrogram, steps)):
            # A part waits for the one before: else TensorFlow would run them side by side,
            # with all their features in memory.
            with tf.control_dependencies(sums):
                own = self._part_gradients(
                    part, {name: parts[number] for name, parts in labels.items()}
                )
                sums = [a + b for a, b in zip(sums, own, strict=True)] if sums else own
        means = [total / steps for total in sums]
        self.optimizer.apply_gradients(zip(means, self.trainable_variables, strict=True))
        return self.get_metrics_result()

    def _gradients(self, spectrogram, labels) -> list:
        """Forward and backward as in Keras's own `train_step`."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            predicted = self(spectrogram, training=True)
            loss = self.compute_loss(spectrogram, labels, predicted, training=True)
            # Keras has divided the loss by the number of replicas, whose gradients it adds.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(spectrogram)[0])
            loss = self.optimizer.scale_loss(loss)
        return tape.gradient(loss, self.trainable_variables)


def partner_weights(config: AugmentConfig) -> np.ndarray:
    """Equally likely weights of the other crop in a mix of features.

    A table, because XLA has no operation for gamma or beta variates.

    Returns:
        float32 [4096], ascending quantiles of the smaller of x and 1 - x, where x is drawn from
        Beta(alpha, alpha).
    """
    quantiles = (np.arange(_MIX_WEIGHTS) + 0.5) / _MIX_WEIGHTS
    alpha = config.mixup_alpha
    return beta.ppf(quantiles / 2, alpha, alpha).astype(np.float32)


def _partner(values):
    """For every example of a batch the one before it; for the first the last."""
    return ops.roll(values, 1, axis=0)


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
    # With accumulation the classifier compiles the parts of a step, one by one.
    whole_step = config.xla and config.accumulation_steps == 1
    classifier.compile(optimizer=optimizer, jit_compile=whole_step)
