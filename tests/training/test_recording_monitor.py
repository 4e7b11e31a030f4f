"""Labels of whole recordings by hand; LWLRAP without the unknown."""

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.evaluation.metrics import lwlrap
from rfcx_tf.training.recording_monitor import masked_lwlrap, recording_labels


def test_labels_of_recordings_by_hand():
    rows = pd.DataFrame(
        {
            "recording_id": ["a", "a", "a", "b"],
            "kind": ["tp", "fp", "fp", "fp"],
            "species_id": [3, 3, 5, 9],
        }
    )
    present, known = recording_labels(rows, {}, ["b", "a"], [3, 5, 9])
    assert present.tolist() == [[False, False, False], [True, False, False]]
    assert known.tolist() == [[False, False, True], [True, True, False]]


def test_what_is_not_marked_in_a_complete_recording_is_absent():
    rows = pd.DataFrame({"recording_id": ["a"], "kind": ["tp"], "species_id": [3]})
    complete = {"a": [3, 9], "c": [3, 5, 9], "elsewhere": [3]}
    present, known = recording_labels(rows, complete, ["a", "b", "c"], [3, 5, 9])
    assert present.tolist() == [[True, False, False], [False] * 3, [False] * 3]
    assert known.tolist() == [[True, False, True], [False] * 3, [True] * 3]


def test_unknown_classes_take_no_part_in_the_ranking():
    present = np.array([[1, 0, 0, 1]], bool)
    scores = np.array([[0.5, 0.9, 0.7, 0.1]])
    # All known: ranks 3 and 4 of the present ones, precision 1/3 and 2/4.
    assert masked_lwlrap(present, np.ones((1, 4), bool), scores) == pytest.approx(5 / 12)
    # Without the best-scored class, which is unknown: ranks 2 and 3, precision 1/2 and 2/3.
    known = np.array([[1, 0, 1, 1]], bool)
    assert masked_lwlrap(present, known, scores) == pytest.approx(7 / 12)


def test_with_everything_known_it_is_lwlrap():
    generator = np.random.default_rng(1)
    present = generator.random((9, 6)) < 0.3
    scores = generator.random((9, 6))
    assert masked_lwlrap(present, np.ones_like(present), scores) == lwlrap(present, scores)
