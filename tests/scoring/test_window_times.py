"""Windows of one grid at the times of another, by hand."""

import numpy as np

from rfcx_tf.scoring.window_times import at_centres


def test_probabilities_are_taken_at_the_centres_of_windows():
    # Teacher's windows of 2 s with centres 1, 2, 3 s.
    probability = np.array([[0.0, 1.0], [0.4, 0.5], [0.8, 0.0]])
    taken = at_centres(np.array([0.0, 1.0, 2.0]), 2.0, probability, np.array([0.5, 1.5, 3.0, 9.0]))
    np.testing.assert_allclose(taken, [[0.0, 1.0], [0.2, 0.75], [0.8, 0.0], [0.8, 0.0]], rtol=1e-6)
    assert taken.dtype == np.float32
