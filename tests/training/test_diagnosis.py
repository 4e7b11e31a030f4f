"""Diagnosis by class against counts made by hand."""

import numpy as np

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.training.diagnosis import draw_diagnosis, outranked_by


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
