"""Scores [..., classes] in, probabilities out: a calibration in stock TensorFlow operations.

It gives a served model what `Calibration.probabilities` gives in NumPy. For each class

    logit p = y[0] + sum_k (y[k+1] - y[k]) * clip((x - x[k]) / (x[k+1] - x[k]), 0, 1)

with x = logit of the score: the piecewise linear map, constant beyond the first and the last knot.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rfcx_tf.scoring.calibration import LARGEST_LOGIT, Calibration


def calibrated(scores: tf.Tensor, calibration: Calibration) -> tf.Tensor:
    """Probabilities of scores.

    Args:
        scores: float32 [..., classes] in [0, 1], classes in the order of the calibration.
        calibration: a map for every class.

    Returns:
        float32 of the same shape.
    """
    # A weighted mean of scores can exceed 1 by rounding.
    scores = tf.clip_by_value(scores, 0.0, 1.0)
    logits = tf.math.log(scores) - tf.math.log1p(-scores)
    logits = tf.clip_by_value(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    x = calibration.score_logits.astype(np.float64)
    y = calibration.probability_logits.astype(np.float64)
    share = (logits[..., tf.newaxis] - np.float32(x[:, :-1])) / np.float32(np.diff(x))
    share = tf.clip_by_value(share, 0.0, 1.0)
    result = np.float32(y[:, 0]) + tf.reduce_sum(share * np.float32(np.diff(y)), axis=-1)
    return tf.sigmoid(result)
