"""How well boxes found in crops fit their rows, worked by hand."""

import math

import numpy as np
import pytest

from rfcx_tf.evaluation.box_fit import (
    FIGURES,
    FOUND,
    box_figures,
    events_without_row,
    found_boxes,
    interval_iou,
)


def test_overlaps_in_time_and_frequency():
    rows = np.array([[1.0, 3.0, 1000.0, 2000.0]] * 3)
    found = np.array([[2.0, 4.0, 1000.0, 2000.0], [1, 3, 500, 1500], [3, 5, 3000, 4000]], float)
    table = found_boxes(found, rows)
    assert table.columns.to_list() == FOUND
    np.testing.assert_array_equal(table[FOUND[:4]], found)
    np.testing.assert_allclose(table["iou"], [1 / 3, 1, 0])
    np.testing.assert_allclose(table["band_iou"], [1, 1 / 3, 0])
    assert np.isnan(interval_iou(np.array([0.0, np.nan]), np.array([0.0, 1.0])))


#        kind  absent score iou
ROWS = {
    "right": ("tp", False, 0.5, 0.5),
    "does not fit": ("tp", False, 0.9, 0.4),
    "elsewhere": ("tp", False, 0.9, 0.0),
    "not heard": ("tp", False, 0.49, 0.9),
    "wrong": ("fp", True, 0.8, 0.1),
    "beside a call": ("fp", False, 0.8, 0.9),
    "beside the rejected sound": ("fp", True, 0.8, 0.0),
    "rejected": ("fp", True, 0.2, 0.9),
}


def figures_of(*names, **elsewhere):
    kind, absent, score, iou = zip(*(ROWS[name] for name in names), strict=True)
    found = np.zeros((len(names), 4))
    table = found_boxes(found, found).assign(iou=iou, band_iou=np.arange(len(names)) / 10)
    return box_figures(
        np.array(kind) == "tp", np.array(absent), np.array(score), table, **elsewhere
    )


def test_events_of_rows():
    """One right; events that are judged: right, does not fit, wrong; four calls."""
    figures = figures_of(*ROWS)
    assert figures["event_f1"] == pytest.approx(2 * 1 / (3 + 4))
    assert figures["median_iou"] == pytest.approx((0.4 + 0.5) / 2)
    assert figures["median_band_iou"] == pytest.approx((0.1 + 0.2) / 2)


@pytest.mark.parametrize(
    ("names", "f1"),
    [
        (["right"], 1.0),
        (["right", "not heard"], 2 / 3),
        (["right", "elsewhere"], 2 / 3),
        (["right", "does not fit"], 2 / 4),
        (["right", "wrong"], 2 / 3),
        (["right", "beside a call", "beside the rejected sound", "rejected"], 1.0),
    ],
)
def test_what_each_row_costs(names, f1):
    assert figures_of(*names)["event_f1"] == pytest.approx(f1)


def test_events_where_nothing_calls_are_wrong():
    has_row = np.array([True, False, False])
    absent = np.array([[True, True], [True, True], [False, True]])
    scores = np.array([[0.9, 0.9], [0.9, 0.5], [0.9, 0.4]])
    # Not in the crop of a row, not of a species that may call there, not below 0.5.
    assert events_without_row(has_row, absent, scores) == 2
    assert figures_of("right", wrong_elsewhere=2)["event_f1"] == pytest.approx(2 / (3 + 1))


def test_without_a_call_that_has_a_box_there_are_no_figures():
    assert all(map(math.isnan, figures_of("wrong").values()))
    none = found_boxes(np.full((2, 4), np.nan), np.zeros((2, 4)))
    figures = box_figures(np.array([True, True]), np.zeros(2, bool), np.ones(2), none)
    assert list(figures) == FIGURES
    assert all(map(math.isnan, figures.values()))
