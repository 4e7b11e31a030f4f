"""What this machine computes with."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Cores that this process may use, which is as many threads as tf.data takes at most."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has AMX; with less than that, bfloat16 is emulated and slow."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
