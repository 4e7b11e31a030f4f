"""Batch normalisation that costs what it should: one fused operation where there is one."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("rfcx_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed by TensorFlow's fused operation.

    Keras 3 composes batch normalisation from single operations and casts 16-bit inputs to
    float32 in between. TensorFlow's fused operation keeps the statistics in float32 too, but
    reads and writes the features once. Weights, statistics and results are the same, so the
    two can load each other's weights. Synchronised normalisation (several replicas) and
    other backends use Keras's own code.
    """

    def call(self, inputs, training=None, mask=None):
        fused = (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            and not self.renorm
            and mask is None
        )
        if not fused:
            return super().call(inputs, training=training, mask=mask)
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
        variance = variance * (count - 1.0) / count
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
        return outputs
