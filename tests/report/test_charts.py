"""What is drawn lies where the numbers say, in the page's colours."""

import numpy as np
import pytest
from page_reader import NASTY, Page, points
from sklearn.metrics import auc, average_precision_score

from rfcx_tf.evaluation.precision_recall import precision_recall
from rfcx_tf.report.charts import bar_chart, line_style, name_axes, new_chart, svg
from rfcx_tf.report.held_out_charts import precision_recall_charts


def test_a_line_runs_from_corner_to_corner_in_a_colour_of_the_page():
    axis = new_chart(140, 100)
    axis.plot([0, 1, 2, 3], [10, 12, 15, 20], **line_style(7))
    axis.set(xlim=(0, 3), ylim=(10, 20))
    name_axes(axis, "x", "y")
    page = Page(svg(axis.figure, NASTY))
    # 38 on the left, 10 on the right, 8 above, 20 below.
    wanted = [[38, 80], [38 + 92 / 3, 65.6], [38 + 92 * 2 / 3, 44], [130, 8]]
    (line,) = (p for p in page.of("path") if p["stroke"] == "var(--line1)")
    assert points(line) == pytest.approx(np.array(wanted), abs=0.11)
    assert page.of("svg") == [{"role": "img", "viewbox": "0 0 140 100", "class": "chart"}]
    assert page.text.startswith(NASTY)
    assert not page.of("style") and not [a for _, a in page.elements if "style" in a]
    texts = page.of("text")
    assert {a["fill"] for a in texts} == {"var(--quiet)"}


def test_ids_are_of_one_chart_alone_and_every_chart_is_the_same_again():
    def drawn(name):
        axis = new_chart()
        axis.plot([0, 1], [0, 1], "o")
        return svg(axis.figure, name)

    assert drawn("a") == drawn("a")
    ids = [{e["id"] for _, e in Page(drawn(name)).elements if "id" in e} for name in "ab"]
    assert len(ids[0]) == len(ids[1]) == 2
    assert not ids[0] & ids[1]


def test_bytes_that_are_no_utf8_can_be_written():
    assert b"<title>a?b</title>" in svg(new_chart().figure, "a\udcffb").encode("utf-8")


def test_bars_are_as_high_as_their_values_and_unknown_hours_are_not_zero():
    chart = bar_chart(
        [1, 2, np.nan, 0], list("abcd"), "name", unit="events", ticks=[0], missing=[0, 0, 1, 0]
    )
    page = Page(chart)
    bars = [p for p in page.of("path") if p["fill"] != "none"]
    heights = [np.ptp(points(bar)[:, 1]) for bar in bars]
    # The highest value is at a twentieth below the top.
    assert heights == pytest.approx(np.array([35, 70, 73.5, 0]) / 1.05, abs=0.11)
    colours = [bar["fill"] for bar in bars]
    assert colours == ["var(--line0)", "var(--line0)", "var(--rule)", "var(--line0)"]
    assert "b: 2 events" in page.text
    assert "c: no recording" in page.text


def test_the_area_under_a_drawn_curve_is_average_precision():
    random = np.random.default_rng(1)
    present = random.uniform(size=(40, 3)) < 0.3
    known = random.uniform(size=(40, 3)) < 0.8
    scores = (present + random.normal(0, 1, present.shape)).round(1)
    known[:, 2] &= present[:, 2]
    curves = precision_recall(present, known, scores)
    assert curves[2] is None
    figures = precision_recall_charts(curves, ["a", NASTY, "never absent"])
    assert [name for name, _, _ in figures] == ["a", NASTY]
    for c, (_, words, chart) in enumerate(figures):
        page = Page(chart)
        base, curve = (
            points(next(p for p in page.of("path") if p.get("stroke") == f"var(--line{i})"))
            for i in (1, 0)
        )
        # Precision and recall are 0 at the lower left, 38 and 130; the frame is 132 by 122.
        assert (130 - base[0, 1]) / 122 == pytest.approx(present[known[:, c], c].mean(), abs=0.001)
        area = auc(curve[:, 0], 130 - curve[:, 1]) / 122 / 132
        wanted = average_precision_score(present[known[:, c], c], scores[known[:, c], c])
        assert area == pytest.approx(wanted, abs=0.002)
        assert curves[c].average_precision == pytest.approx(wanted)
        assert f"AP {wanted:.3f}" in words
