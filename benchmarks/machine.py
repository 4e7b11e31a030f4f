"""The machine in words and numbers: what decides how fast anything runs on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("tensorflow", "keras", "numpy", "soundfile", "soxr", "librosa", "torch")
# What fast matrix products and convolutions are made of.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")


def describe_machine() -> dict:
    """CPU, cores, instruction sets, memory, versions, and the load that is there already.

    Returns:
        cpu, cores (usable by this process), flags, memory_gib, system, versions by package,
        load (runnable processes in the last minute; at most about 0.5 before a measurement),
        governor (of the CPU's frequency; empty if not said).
    """
    cpu = _cpu_info()
    flags = set(cpu.get("flags", "").split())
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | _versions(),
        "load": round(os.getloadavg()[0], 2),
        "governor": governor.read_text().strip() if governor.exists() else "",
    }


def busy_warning(machine: dict) -> str:
    """A line where other work ran at the start; empty where the machine was idle."""
    if machine["load"] <= 0.5:
        return ""
    return (
        f"The machine was busy at the start: a load of {machine['load']:g} on "
        f"{machine['cores']} cores. Times are too long; ratios suffer less."
    )


def machine_line(machine: dict) -> str:
    """The description as one sentence, for the head of a table."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = " ".join(machine["flags"]) or "none of note"
    return (
        f"{machine['cores']} cores of {machine['cpu']} ({flags}), {machine['memory_gib']:g} GiB, "
        f"{machine['system']}; {versions}; load at the start {machine['load']:g}."
    )


def _cpu_info() -> dict[str, str]:
    """The first processor's entry in /proc/cpuinfo; empty if there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
