"""Diagnosis by class against scikit-learn and counts made by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.training.diagnosis import average_precision, draw_diagnosis, outranked_by


def test_average_precision_uses_known_crops_only():
    generator = np.random.default_rng(0)
    present = generator.random((40, 3)) < 0.4
    known = present | (generator.random((40, 3)) < 0.4)
    probability = generator.random((40, 3))
    result = average_precision(present, known, probability)
    for c in range(3):
        own = known[:, c]
        expected = average_precision_score(present[own, c], probability[own, c])
        assert result[c] == pytest.approx(expected)


def test_a_class_that_is_never_absent_has_no_average_precision():
    present = np.array([[True, False], [True, True]])
    known = np.array([[True, True], [True, True]])
    result = average_precision(present, known, np.full((2, 2), 0.5))
    assert np.isnan(result[0])
    assert result[1] == pytest.approx(0.5)


def test_what_outranks_a_class_by_hand():
    present = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    probability = np.array([[0.9, 0.1, 0.0], [0.2, 0.1, 0.3], [0.6, 0.5, 0.0]])
    share = outranked_by(present, probability)
    np.testing.assert_allclose(share[0], [0.5, 0.0, 0.5])
    np.testing.assert_allclose(share[1], [1.0, 0.0, 0.0])
    assert np.isnan(share[2]).all()


def test_the_figure_is_a_png_also_where_classes_lack_crops():
    present = np.array([[True, False], [False, False]])
    known = np.array([[True, False], [True, False]])
    classes = [SpeciesClass(0, "a"), SpeciesClass(7, "b")]
    png = draw_diagnosis(present, known, np.full((2, 2), 0.5), classes)
    assert png.startswith(b"\x89PNG")
