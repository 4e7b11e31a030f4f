"""Measured rows -> NAME.json and NAME.md, with the machine and the command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.machine import busy_warning, machine_line
from benchmarks.measure import Spread, Timing, speed_ratio
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text

_HEADER = (
    "| what | median | quartiles | unit | times as fast | quartiles | as | cores busy | n |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        key: names it for other programs, such as `shards_hours_per_s`.
        what: names it for people.
        value, unit: the figure.
        faster, against: how many times as fast as which other row; None, "" for no comparison.
        busy: cores that the process kept busy, of those that it had: its seconds of CPU in one
            second of the clock; None where nothing was timed.
    """

    key: str
    what: str
    value: Spread
    unit: str
    faster: Spread | None = None
    against: str = ""
    busy: float | None = None


@dataclass
class Report:
    """What one benchmark found.

    Attributes:
        title: of the table.
        rows: in order.
        settings: what was chosen, by name.
        notes: sentences for below the table.
        summary: Markdown for above the table; may be empty.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    summary: str = ""

    def add(
        self,
        key: str,
        what: str,
        timings: Sequence[Timing],
        unit: str,
        value: Callable[[float], float],
        *,
        against: Sequence[Timing] | None = None,
        name: str = "",
    ) -> None:
        """Adds a row of timings.

        Args:
            key, what, unit: as in `Row`.
            timings: of the task.
            value: the figure that a number of seconds stands for.
            against: timings of the alternative in the same rounds, for the same work.
            name: of the alternative.
        """
        seconds = [timing.seconds for timing in timings]
        faster = None
        if against is not None:
            faster = speed_ratio(seconds, [timing.seconds for timing in against])
        busy = Spread.of([timing.cpu_seconds / timing.seconds for timing in timings]).median
        spread = Spread.of([value(s) for s in seconds])
        self.rows.append(Row(key, what, spread, unit, faster, name if faster else "", busy))

    def add_figure(self, key: str, what: str, value: float, unit: str) -> None:
        """Adds a row with one number that needs no repetition."""
        self.rows.append(Row(key, what, Spread(value, value, value, 1), unit))


def write_report(
    report: Report, name: str, out_dir: Path, machine: dict, command: str
) -> tuple[Path, Path]:
    """Writes NAME.md and NAME.json and returns their paths.

    Raises:
        UserError: if nothing can be written there.
    """
    warning = busy_warning(machine)
    text = f"# {report.title}\n\n```\n{command}\n```\n\n{machine_line(machine)}\n"
    text += f"{warning}\n" if warning else ""
    text += f"\n{format_report(report)}"
    content = {
        "benchmark": name,
        "command": command,
        "machine": machine,
        "settings": report.settings,
        "rows": [asdict(row) for row in report.rows],
        "notes": report.notes,
    }
    markdown, table = out_dir / f"{name}.md", out_dir / f"{name}.json"
    atomic_write_text(table, json.dumps(content, indent=1))
    atomic_write_text(markdown, text)
    return markdown, table


def read_figures(name: str, out_dir: Path) -> dict[str, float] | None:
    """The median of every row of an earlier report by key; None if there is none.

    Raises:
        UserError: if the file is none of `write_report`.
    """
    path = out_dir / f"{name}.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {row["key"]: float(row["value"]["median"]) for row in content["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no readable report ({error!r:.100}). Run benchmark.py {name} again."
        ) from None


def format_report(report: Report) -> str:
    """Summary, rows and notes as Markdown."""
    summary = f"{report.summary}\n" if report.summary else ""
    notes = "".join(f"- {note}\n" for note in report.notes)
    return summary + _HEADER + "".join(_line(row) for row in report.rows) + f"\n{notes}"


def _line(row: Row) -> str:
    faster = (format_number(row.faster.median), _quartiles(row.faster)) if row.faster else ("", "")
    busy = "" if row.busy is None else f"{row.busy:.2f}"
    cells = (
        row.what,
        format_number(row.value.median),
        _quartiles(row.value),
        row.unit,
        *faster,
        row.against,
        busy,
        str(row.value.n),
    )
    return f"| {' | '.join(cells)} |\n"


def _quartiles(spread: Spread) -> str:
    return f"{format_number(spread.low)} to {format_number(spread.high)}" if spread.n > 1 else ""


def format_number(value: float) -> str:
    """Three significant digits, thousands as they are: 0.0123, 4.56, 1234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
