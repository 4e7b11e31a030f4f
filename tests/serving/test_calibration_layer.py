"""The calibration in a graph against `Calibration.probabilities`, which interpolates with NumPy."""

import numpy as np
import tensorflow as tf

from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.serving.calibration_layer import calibrated


def test_a_graph_gives_the_probabilities_of_the_calibration():
    random = np.random.default_rng(0)
    classes, knots = 5, 12
    x = np.sort(random.normal(0, 6, [classes, knots]).astype(np.float32).clip(-19, 19))
    y = np.sort(random.normal(0, 4, [classes, knots]).astype(np.float32))
    y[1, 3:7] = y[1, 3]
    # Two knots that are the next numbers to one another make a step.
    x[2, 5] = np.nextafter(x[2, 4], np.float32(20))
    assert (np.diff(x) > 0).all()
    calibration = Calibration(
        columns=[f"s{i}" for i in range(classes)],
        score_logits=x,
        probability_logits=y,
        thresholds=np.full(classes, np.float32(0.5)),
        rows=[{}] * classes,
        wanted="a test",
    )
    logits = np.linspace(-25, 25, 3000)[:, np.newaxis] + random.uniform(0, 0.01, [3000, classes])
    scores = np.float32(1 / (1 + np.exp(-logits)))
    scores[:3] = [[0.0], [1.0], [np.float32(1.0000001)]]
    graph = tf.function(lambda s: calibrated(s, calibration), [tf.TensorSpec([None, None, 5])])
    result = graph(scores.reshape(3, -1, classes)).numpy().reshape(-1, classes)
    expected = calibration.probabilities(scores)
    near_step = np.abs(logits[:, 2] - x[2, 4]) < 1e-4
    expected[near_step, 2] = result[near_step, 2]
    assert near_step.mean() < 0.01
    np.testing.assert_allclose(result, expected, atol=2e-5)
    assert np.isfinite(result).all()
    assert np.ptp(result, axis=0).min() > 0.5


def test_one_knot_is_a_constant():
    calibration = Calibration(
        columns=["s1", "s2"],
        score_logits=np.zeros([2, 1], np.float32),
        probability_logits=np.float32([[0], [1]]),
        thresholds=np.float32([0.5, 0.5]),
        rows=[{}, {}],
        wanted="a test",
    )
    result = calibrated(tf.constant([[0.1, 0.9]]), calibration)
    np.testing.assert_allclose(result, [[0.5, 0.7310586]], rtol=1e-6)
