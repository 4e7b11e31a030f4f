"""Batch normalisation that costs what it should: one pass over the features for its statistics."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("rfcx_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with fewer passes over its features.

    Keras 3 composes batch normalisation from single operations and casts 16-bit inputs to
    float32 in between. Weights, statistics and results are the same here, so the two can load
    each other's weights.

    - TensorFlow has a fused operation, which keeps the statistics in float32 too, but reads and
      writes the features once. Synchronised normalisation (several replicas) is Keras's own.
    - JAX compiles the whole step (XLA), so single operations cost no passes; but Keras's variance
      needs the mean first, so it reads the features a second time. Here both are sums over one
      pass, as in flax. Where arrays are laid out over several devices (`keras.distribution`),
      these are the sums over the whole batch: statistics are synchronised without being told.
    """

    def __init__(self, *, synchronized: bool = False, **kwargs):
        # Keras refuses it for others, where it need not be said.
        on_tensorflow = keras.backend.backend() == "tensorflow"
        super().__init__(synchronized=synchronized and on_tensorflow, **kwargs)

    def call(self, inputs, training=None, mask=None):
        own = len(inputs.shape) == 4 and self.axis in (-1, 3) and not self.renorm and mask is None
        backend = keras.backend.backend()
        if own and backend == "jax":
            return self._in_one_pass(inputs, training)
        if own and backend == "tensorflow" and not self.synchronized:
            return self._fused(inputs, training)
        return super().call(inputs, training=training, mask=mask)

    def _in_one_pass(self, inputs, training):
        features = ops.cast(inputs, "float32")
        if training and self.trainable:
            # Around the moving mean, so that the difference of the two squares loses nothing
            # where the mean is large beside the deviation, as that of log spectrograms is.
            origin = ops.stop_gradient(ops.convert_to_tensor(self.moving_mean))
            moved = features - origin
            distance = ops.mean(moved, axis=(0, 1, 2))
            mean_square = ops.mean(ops.square(moved), axis=(0, 1, 2))
            variance = mean_square - ops.square(distance)
            # Not the maximum with 0, whose gradient XLA can lose (`head.largest`).
            variance = ops.where(variance > 0, variance, 0.0)
            mean = origin + distance
            self._keep(mean, variance)
        else:
            mean = ops.convert_to_tensor(self.moving_mean)
            variance = ops.convert_to_tensor(self.moving_variance)
        factor = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            factor = factor * self.gamma
        outputs = (features - mean) * factor
        if self.beta is not None:
            outputs = outputs + self.beta
        return ops.cast(outputs, self.compute_dtype)

    def _fused(self, inputs, training):
        import tensorflow as tf

        channels = [inputs.shape[-1]]
        gamma = tf.ones(channels) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        beta = tf.zeros(channels) if self.beta is None else tf.convert_to_tensor(self.beta)
        if not (training and self.trainable):
            return tf.compat.v1.nn.fused_batch_norm(
                inputs,
                gamma,
                beta,
                tf.convert_to_tensor(self.moving_mean),
                tf.convert_to_tensor(self.moving_variance),
                epsilon=self.epsilon,
                is_training=False,
            )[0]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation returns the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
        self._keep(mean, variance * (count - 1.0) / count)
        return outputs

    def _keep(self, mean, variance):
        """Moves the statistics that prediction uses towards those of a batch."""
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
