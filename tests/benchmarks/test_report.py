"""Tables of figures, and the machine that they are of."""

import json

import pytest

from benchmarks.machine import busy_warning, describe_machine, machine_line
from benchmarks.measure import Timing
from benchmarks.report import Report, format_number, read_figures, write_report
from rfcx_tf.core.errors import UserError

MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "flags": ["avx2"],
    "memory_gib": 8.0,
    "system": "Linux",
    "versions": {"python": "3.11"},
    "load": 0.1,
    "governor": "",
}


def small_report():
    report = Report("A title", notes=["A note."])
    slow = [Timing(2.0, 2.0), Timing(4.0, 4.0), Timing(6.0, 6.0)]
    fast = [Timing(1.0, 0.5), Timing(2.0, 1.0), Timing(3.0, 1.5)]
    report.add("slow_per_s", "slow", slow, "things / s", lambda s: 12 / s)
    report.add(
        "fast_per_s", "fast", fast, "things / s", lambda s: 12 / s, against=slow, name="slow"
    )
    report.add_figure("size", "size", 12345.6, "bytes")
    return report


def test_a_table_has_rates_ratios_and_the_command(tmp_path):
    markdown, table = write_report(small_report(), "trial", tmp_path, MACHINE, "python x.py trial")
    lines = markdown.read_text().splitlines()
    # 12 things in 1, 2 and 3 s: 12, 6 and 4 a second.
    assert (
        "| fast | 6.00 | 5.00 to 9.00 | things / s | 2.00 | 2.00 to 2.00 | slow | 0.50 | 3 |"
        in lines
    )
    assert "| slow | 3.00 | 2.50 to 4.50 | things / s |  |  |  | 1.00 | 3 |" in lines
    assert "| size | 12,346 |  | bytes |  |  |  |  | 1 |" in lines
    assert "python x.py trial" in lines
    assert "- A note." in lines
    assert any(line.startswith("2 cores of Some CPU (avx2), 8 GiB") for line in lines)
    content = json.loads(table.read_text())
    assert content["machine"] == MACHINE
    assert content["rows"][1]["faster"] == {"median": 2.0, "low": 2.0, "high": 2.0, "n": 3}
    assert read_figures("trial", tmp_path) == {
        "slow_per_s": 3.0,
        "fast_per_s": 6.0,
        "size": 12345.6,
    }


def test_a_busy_machine_is_said_beside_the_figures(tmp_path):
    assert busy_warning(MACHINE) == ""
    busy = MACHINE | {"load": 3.5}
    assert "3.5" in busy_warning(busy)
    markdown, _ = write_report(small_report(), "trial", tmp_path, busy, "")
    assert busy_warning(busy) in markdown.read_text()


def test_an_earlier_table_is_missing_or_damaged(tmp_path):
    assert read_figures("trial", tmp_path) is None
    (tmp_path / "trial.json").write_text('{"rows": [{"key": "a"}]}')
    with pytest.raises(UserError, match=r"trial\.json is no readable report"):
        read_figures("trial", tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (1.5, "1.50"), (99.96, "100.0"), (1234.5, "1,234"), (0, "0")],
)
def test_numbers_have_three_digits(value, text):
    assert format_number(value) == text


def test_this_machine_is_described():
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0.1
    assert {"python", "tensorflow", "librosa"} <= set(machine["versions"])
    assert machine["cpu"] in machine_line(machine)
