"""Windows of one grid at the times of another, by hand."""

import numpy as np

from rfcx_tf.core.windows import at_times


def test_probabilities_are_taken_at_the_centres_of_windows():
    # Teacher's windows of 2 s with centres 1, 2, 3 s.
    probability = np.array([[0.0, 1.0], [0.4, 0.5], [0.8, 0.0]])
    own_s = np.repeat([[1.0], [2.0], [3.0]], 2, axis=1)
    taken = at_times(own_s, probability, np.array([0.5, 1.5, 3.0, 9.0]))
    np.testing.assert_allclose(taken, [[0.0, 1.0], [0.2, 0.75], [0.8, 0.0], [0.8, 0.0]], rtol=1e-6)
    assert taken.dtype == np.float32


def test_every_class_has_centres_of_its_own():
    own_s = np.array([[1.0, 1.5], [2.0, 2.5]])
    taken = at_times(own_s, np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[1.5, 1.75], [2.0, 2.0]]))
    np.testing.assert_allclose(taken, [[0.5, 0.25], [1.0, 0.5]])
