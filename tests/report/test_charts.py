"""What is drawn lies where the numbers say."""

import numpy as np
import pytest
from page_reader import NASTY, Page
from sklearn.metrics import average_precision_score

from rfcx_tf.report.charts import Axis, Line, bar_chart, line_chart
from rfcx_tf.report.precision_recall import draw_curves, precision_recall


def points(attributes):
    return np.array([p.split(",") for p in attributes["points"].split()], float)


def test_a_line_runs_from_corner_to_corner_without_what_is_not_finite():
    line = Line("up", [0, 1, 2, 3], [10, np.nan, 15, 20], style=7)
    page = Page(line_chart([line], NASTY, Axis(0, 3), Axis(10, 20), size=(140, 100)))
    assert page.of("polyline")[0]["class"] == "line line1"
    # 38 on the left, 10 on the right, 8 above, 20 below.
    assert points(page.of("polyline")[0]) == pytest.approx(
        np.array([[38, 80], [38 + 92 * 2 / 3, 44], [130, 8]]), abs=0.06
    )
    assert NASTY in page.text
    assert page.of("svg")[0]["role"] == "img"


def test_ticks_are_round_numbers_inside_the_axis():
    assert Axis(0, 1).ticks() == [0, 0.25, 0.5, 0.75, 1]
    assert Axis(3.2, 7.9).ticks() == [4, 6]
    assert Axis(0, 4.7).up_to_tick().high == 6
    # A highest value just above a round number keeps its place inside.
    assert Axis(0, 60.00000001, steps=2).up_to_tick().high >= 60.00000001


def test_bars_are_as_high_as_their_values_and_unknown_hours_are_not_zero():
    chart = bar_chart(
        [1, 2, np.nan, 0], list("abcd"), "name", unit="events", ticks=[0], missing=[0, 0, 1, 0]
    )
    page = Page(chart)
    bars = page.of("rect")
    heights = [float(bar["height"]) for bar in bars]
    assert heights == pytest.approx([35, 70, 70, 0])
    assert [bar["class"] for bar in bars] == ["bar", "bar", "unknown", "bar"]
    assert "b: 2 events" in page.text
    assert "c: no recording" in page.text


def test_the_area_under_a_drawn_curve_is_average_precision():
    random = np.random.default_rng(1)
    present = random.uniform(size=(40, 3)) < 0.3
    known = random.uniform(size=(40, 3)) < 0.8
    scores = (present + random.normal(0, 1, present.shape)).round(1)
    known[:, 2] &= present[:, 2]
    curves = precision_recall(present, known, scores, ["a", NASTY, "never absent"])
    assert curves[2] is None
    page = Page(draw_curves(curves))
    drawn = [points(p) for p in page.of("polyline")]
    assert len(drawn) == 4
    for c, (chance, curve) in enumerate([drawn[:2], drawn[2:]]):
        (left, base), (right, _) = chance
        # Precision 0 is at 130, 1 at 8: the chart is 150 high, 20 of it below the frame.
        assert (130 - base) / 122 == pytest.approx(present[known[:, c], c].mean(), abs=0.001)
        area = -np.trapz(130 - curve[:, 1], curve[:, 0]) / 122 / (right - left)
        wanted = average_precision_score(present[known[:, c], c], scores[known[:, c], c])
        assert area == pytest.approx(wanted, abs=0.002)
        assert f"AP {wanted:.3f}" in page.text
