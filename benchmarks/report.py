"""Timings -> STAGE.md and STAGE.json, with the machine and the command."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.timing import Timing
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text

# Of the table: heading and format, by key.
_COLUMNS = {
    "what": ("what", "s"),
    "median": ("median", "s"),
    "median_quartiles": ("quartiles", "s"),
    "unit": ("unit", "s"),
    "ratio": ("times as fast", "s"),
    "ratio_quartiles": ("quartiles", "s"),
    "against": ("as", "s"),
    "cores_busy": ("cores busy", ".2f"),
    "n": ("n", "d"),
}
_PACKAGES = ("tensorflow", "keras", "numpy", "soundfile", "soxr", "librosa", "torch")
# Instruction sets that fast matrix products and convolutions use.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")
_IDLE_LOAD = 0.5


@dataclass
class Report:
    """What one stage found.

    Attributes:
        title: of the table.
        rows: one dict a line: key (for other programs), what (for people), unit, median, low and
            high (quartiles), n; of timings also cores_busy (CPU seconds in a second), and ratio,
            ratio_low and ratio_high, how many times as fast it is as the task `against`.
        notes: sentences below the table.
    """

    title: str
    rows: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_speed(
        self,
        timings: dict[str, list[Timing]],
        amount: float,
        unit: str,
        task: str,
        what: str = "",
        against: str = "",
    ) -> None:
        """Adds a line about a task, unless it was not run.

        Args:
            timings: of all tasks, as `alternate` returns them.
            amount: what the task got done, in `unit` without "/ s".
            unit: of the speed; "ms / ..." for the time that one of `amount` took instead.
            task: its name.
            what: the task in words; empty: its name.
            against: the task that it is compared with, which did the same work.
        """
        if task not in timings:
            return
        seconds = np.array([timing.seconds for timing in timings[task]])
        per_ms = unit.startswith("ms")
        values = 1e3 * seconds / amount if per_ms else amount / seconds
        busy = [timing.cpu_seconds / timing.seconds for timing in timings[task]]
        row = {"key": task, "what": what or task, "unit": unit, **_spread(values)}
        row["cores_busy"] = float(np.median(busy))
        if against in timings:
            row |= {"against": against} | speed_ratio(timings[task], timings[against])
        self.rows.append(row)

    def add_figure(self, key: str, what: str, value: float, unit: str) -> None:
        """Adds a line with one number that needs no repetition."""
        self.rows.append({"key": key, "what": what, "unit": unit, **_spread([value])})

    def table(self) -> str:
        """Rows and notes as Markdown."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"{markdown_table(map(_shown, self.rows), _COLUMNS)}\n{notes}"

    def write(self, stage: str, out_dir: Path, command: str) -> list[Path]:
        """Writes STAGE.md and STAGE.json and returns their paths.

        Raises:
            UserError: if nothing can be written there.
        """
        machine = describe_machine()
        text = f"# {self.title}\n\n```\n{command}\n```\n\n{machine}\n\n{self.table()}"
        content = {"command": command, "machine": machine, "rows": self.rows, "notes": self.notes}
        paths = [out_dir / f"{stage}.md", out_dir / f"{stage}.json"]
        atomic_write_text(paths[0], text)
        atomic_write_text(paths[1], json.dumps(content, indent=1))
        return paths


def markdown_table(rows: Iterable[Mapping], columns: Mapping[str, tuple[str, str]]) -> str:
    """Rows as a table in Markdown; what is missing, None or NaN is an empty cell.

    Args:
        rows: values by key.
        columns: heading and format of a value, by key.
    """
    lines = [[heading for heading, _ in columns.values()], ["---"] * len(columns)]
    for row in rows:
        values = [(row.get(key), form) for key, (_, form) in columns.items()]
        lines.append(["" if pd.isna(value) else format(value, form) for value, form in values])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_medians(stage: str, out_dir: Path) -> dict[str, float]:
    """The median of every row of an earlier report, by key.

    Raises:
        UserError: if it is not there or not readable.
    """
    path = out_dir / f"{stage}.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {row["key"]: float(row["median"]) for row in rows}
    except FileNotFoundError:
        raise UserError(
            f"This needs what other stages measured. {path} is not there: run speed.py {stage} "
            "with the same --out first."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable report ({error!r:.100}). Run speed.py {stage} again."
        ) from None


def speed_ratio(own: Sequence[Timing], other: Sequence[Timing]) -> dict[str, float]:
    """How many times as fast one task is as another.

    Returns:
        ratio, of the medians; ratio_low and ratio_high, the quartiles of the ratios by round, in
        which what slowed the machine cancels.
    """
    own_s, other_s = (np.array([timing.seconds for timing in one]) for one in (own, other))
    low, high = np.quantile(other_s / own_s, [0.25, 0.75])
    ratio = np.median(other_s) / np.median(own_s)
    return {"ratio": float(ratio), "ratio_low": float(low), "ratio_high": float(high)}


def describe_machine() -> str:
    """CPU, memory, system, versions and the load so far, in a line."""
    cpu = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    own_flags = set(cpu.get("flags", "").split())
    flags = " ".join(flag for flag in _CPU_FLAGS if flag in own_flags)
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = "".join(
        f", {name} {metadata.version(name)}"
        for name in _PACKAGES
        if any(metadata.distributions(name=name))
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores of {cpu.get('model name', platform.machine())} "
        f"({flags}), {memory_gib:.0f} GiB, {platform.platform()}; "
        f"Python {platform.python_version()}{versions}."
    )


def busy_warning() -> str:
    """A line if other work runs on this machine now; empty if it is idle."""
    load = os.getloadavg()[0]
    if load <= _IDLE_LOAD:
        return ""
    return (
        f"The machine was busy at the start (load {load:.2g} on {os.cpu_count()} cores). "
        "Times are too long; ratios suffer less."
    )


def format_number(value: float) -> str:
    """Three significant digits, thousands as they are: 0.0123, 4.56, 1,234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high), "n": len(values)}


def _shown(row: dict) -> dict:
    """A row with its numbers as they stand in the table."""
    shown = {key: row[key] for key in ("what", "unit", "against", "cores_busy", "n") if key in row}
    for key, low, high in (("median", "low", "high"), ("ratio", "ratio_low", "ratio_high")):
        if key in row:
            shown[key] = format_number(row[key])
            quartiles = f"{format_number(row[low])} to {format_number(row[high])}"
            shown[f"{key}_quartiles"] = quartiles if row["n"] > 1 else None
    return shown
