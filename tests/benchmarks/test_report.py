"""Tables of figures, and the machine that they are of."""

import json

import numpy as np
import pytest

from benchmarks.report import (
    Report,
    busy_warning,
    describe_machine,
    format_number,
    markdown_table,
    read_medians,
    speed_ratio,
)
from benchmarks.timing import Timing
from rfcx_tf.core.errors import UserError


def timings_of(*seconds, busy=1.0):
    return [Timing(s, busy * s) for s in seconds]


def test_a_table_has_rates_ratios_and_the_command(tmp_path):
    timings = {"slow": timings_of(2, 4, 6), "fast": timings_of(1, 2, 3, busy=0.5)}
    report = Report("A title", notes=["A note."])
    report.add_speed(timings, 12, "things / s", "slow")
    report.add_speed(timings, 12, "things / s", "fast", "quick", against="slow")
    report.add_speed(timings, 12, "ms / thing", "slow", "time")
    report.add_speed(timings, 12, "things / s", "never run")
    report.add_figure("size", "size", 12345.6, "bytes")
    markdown, table = report.write("trial", tmp_path, "python x.py trial")
    lines = markdown.read_text().splitlines()
    # 12 things in 1, 2 and 3 s: 12, 6 and 4 a second.
    assert (
        "| quick | 6.00 | 5.00 to 9.00 | things / s | 2.00 | 2.00 to 2.00 | slow | 0.50 | 3 |"
        in lines
    )
    assert "| slow | 3.00 | 2.50 to 4.50 | things / s |  |  |  | 1.00 | 3 |" in lines
    assert "| time | 333 | 250 to 417 | ms / thing |  |  |  | 1.00 | 3 |" in lines
    assert "| size | 12,346 |  | bytes |  |  |  |  | 1 |" in lines
    assert {"python x.py trial", "- A note.", describe_machine()} <= set(lines)
    assert json.loads(table.read_text())["rows"][1]["ratio"] == 2
    assert read_medians("trial", tmp_path)["fast"] == 6


def test_a_ratio_is_that_of_medians_and_its_quartiles_those_of_rounds():
    # By round 3, 3 and 4 times as fast; medians 2 and 6.
    assert speed_ratio(timings_of(1, 2, 10), timings_of(3, 6, 40)) == {
        "ratio": 3.0,
        "ratio_low": 3.0,
        "ratio_high": 3.5,
    }
    slow = np.random.default_rng(0).uniform(1, 10, 9)
    ratio = speed_ratio(timings_of(*slow), timings_of(*2.5 * slow))
    assert ratio == pytest.approx({"ratio": 2.5, "ratio_low": 2.5, "ratio_high": 2.5})


def test_what_is_missing_in_a_table_is_an_empty_cell():
    rows = [{"name": "a", "value": 0.126}, {"name": "b", "value": float("nan")}, {"value": None}]
    columns = {"name": ("called", "s"), "value": ("it is", "+.2f")}
    assert markdown_table(rows, columns).splitlines() == [
        "| called | it is |",
        "| --- | --- |",
        "| a | +0.13 |",
        "| b |  |",
        "|  |  |",
    ]


def test_an_earlier_report_is_missing_or_damaged(tmp_path):
    with pytest.raises(UserError, match=r"trial\.json is not there: run speed\.py trial"):
        read_medians("trial", tmp_path)
    (tmp_path / "trial.json").write_text('{"rows": [{"key": "a"}]}')
    with pytest.raises(UserError, match=r"trial\.json is not a readable report"):
        read_medians("trial", tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (1.5, "1.50"), (99.96, "100.0"), (1234.5, "1,234"), (0, "0")],
)
def test_numbers_have_three_digits(value, text):
    assert format_number(value) == text


def test_a_busy_machine_is_said(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0, 0))
    assert busy_warning() == ""
    monkeypatch.setattr("os.getloadavg", lambda: (3.5, 0, 0))
    assert "load 3.5" in busy_warning()
