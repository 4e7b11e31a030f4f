"""The judge of simulated verdicts."""

import numpy as np
import pandas as pd
from made_events import event

from benchmarks.field_precision import figures, is_right


def test_an_event_is_right_if_it_shares_a_tenth_of_a_second_with_a_call():
    events = pd.DataFrame(
        [
            event("a", 2, 0.0, 1.11, 0.5),
            event("a", 2, 0.0, 1.09, 0.5),
            event("a", 5, 0.0, 9.0, 0.5),
            event("b", 2, 0.0, 9.0, 0.5),
        ]
    )
    boxes = {("a", 2): np.array([[1.0, 2.0], [5.0, 6.0]])}
    assert is_right(events, boxes).tolist() == [True, False, False, False]


def test_precision_and_recall():
    right, none = np.array([True, True, False, True]), np.zeros(4, bool)
    found = figures(right, np.array([True, False, True, False]))
    assert found == {"precision": 1 / 2, "recall": 1 / 3}
    assert np.isnan(figures(right, none)["precision"]) and figures(right, none)["recall"] == 0
