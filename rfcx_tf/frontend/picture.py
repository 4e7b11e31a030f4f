"""Spectrograms with a box on matplotlib axes, and figures as PNG."""

from __future__ import annotations

import io

import numpy as np


def draw_spectrogram(
    axis,
    levels: np.ndarray,
    extent: tuple[float, float, float, float],
    box: tuple[float, float, float, float],
    box_colour: str,
    darkest: float | None = None,
) -> None:
    """Draws a spectrogram from black to bright yellow, and the outline of a box.

    Args:
        axis: matplotlib axes.
        levels: [bands, frames], the lowest band first.
        extent: left, right, lower and upper end of the spectrogram, in units of the axes.
        box: the same of the box.
        box_colour: of the outline.
        darkest: the level that is black; None: the lowest.
    """
    from matplotlib.patches import Rectangle

    axis.imshow(levels, "magma", aspect="auto", vmin=darkest, origin="lower", extent=extent)
    left, right, low, high = box
    axis.add_patch(
        Rectangle(
            (left, low), right - left, high - low, fill=False, edgecolor=box_colour, linewidth=1.6
        )
    )


def figure_png(figure, dpi: int = 80) -> bytes:
    """A matplotlib figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
