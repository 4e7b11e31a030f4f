"""The imports of the package -> docs/house.svg: rooms along the flow, and who uses whom.

    python benchmarks/house.py

A room may import the rooms above it in the picture, never those below; `tests/test_architecture.py`
holds the package to that.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rfcx_tf"
# Along the flow: every room imports only from rooms that stand before it.
ROOMS = {
    "core": "errors, files, configuration, CSV",
    "audio": "sound files: find, decode, date",
    "labels": "boxes on recordings -> one table",
    "demo": "a synthetic rainforest",
    "frontend": "waveform -> mel, PCEN frames",
    "shards": "boxes + frames -> crops -> batches",
    "model": "backbones, head, losses, regressions",
    "runs": "a run on disk",
    "scoring": "sound -> window scores",
    "evaluation": "LWLRAP, calibration, thresholds",
    "events": "window scores -> boxes -> tables",
    "training": "recipe + shards -> run",
    "serving": "exports and the local server",
    "review": "events -> judged rows",
    "report": "results -> pages",
    "check": "boxes, sound -> facts, a recipe",
    "cli": "one module a verb",
}


def module_name(path: Path) -> str:
    """rfcx_tf.room.module of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module: str) -> str | None:
    """The room that a module stands in; None for the package's own two modules."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def imports() -> list[tuple[str, str]]:
    """Every (module, module that it imports) of the package, those inside functions too."""
    known = {module_name(path) for path in PACKAGE.rglob("*.py")}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rfcx_tf"):
                # `from rfcx_tf.room import module` names a module, others names in one.
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else node.module for name in whole]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name.startswith("rfcx_tf.")]
            found += [(module_name(path), name) for name in dict.fromkeys(names)]
    return found


def lines_of(room: str) -> int:
    """Lines of Python in a room."""
    files = (PACKAGE / room).rglob("*.py")
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def draw(path: Path) -> None:
    """Draws the rooms in their order, with an arc from each to those that it imports."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "house", "svg.fonttype": "none"}
    from matplotlib.figure import Figure
    from matplotlib.patches import Arc, Rectangle

    used = Counter(
        (room_of(one), room_of(other))
        for one, other in imports()
        if room_of(one) and room_of(other) and room_of(one) != room_of(other)
    )
    names = list(ROOMS)
    figure = Figure(figsize=(8, 0.55 * len(names) + 0.4))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 12), ylim=(len(names), -0.5))
    axis.axis("off")
    for number, name in enumerate(names):
        axis.add_patch(
            Rectangle((0.2, number - 0.3), 6.3, 0.66, facecolor="#eef3f0", edgecolor="#3a6b57")
        )
        axis.text(0.4, number + 0.1, name, fontsize=11, weight="bold", color="#1d3b30")
        axis.text(2.3, number + 0.1, ROOMS[name], fontsize=9, color="#333333")
        axis.text(6.4, number + 0.1, lines_of(name), fontsize=8, color="#777777", ha="right")
    for (one, other), count in used.items():
        begin, end = names.index(one), names.index(other)
        height, middle = abs(begin - end), (begin + end) / 2
        colour = "#3a6b57" if end < begin else "#c0392b"
        axis.add_patch(
            Arc(
                (6.5, middle),
                min(10.6, 0.9 + 0.62 * height),
                height,
                theta1=-90,
                theta2=90,
                color=colour,
                linewidth=min(2.5, 0.4 + count / 10),
                alpha=0.55,
            )
        )
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    target = ROOT / "docs" / "house.svg"
    draw(target)
    print(f"Wrote {target}.")
