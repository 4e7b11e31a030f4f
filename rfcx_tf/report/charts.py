"""Numbers -> charts in SVG, which take their colours from the page and name what they show.

Widths and heights are in the units of an SVG's viewBox. Charts are about as wide as a phone's
page, so that their letters stay as large as the text's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rfcx_tf.report.markup import Html, element, join

# Colours and dashes of lines that page.css has: .line0, .line1, ...
LINE_STYLES = 6


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: in the legend; "" for none.
        x, y: float [points]; points that are not finite are left out.
        style: number of its colour and dashes; beyond `LINE_STYLES` they begin again.
        dots: float [points], counts; the area of a dot at each point grows with their root, so
            that small ones can be told too. None: no dots.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    style: int = 0
    dots: ArrayLike | None = None


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its ends, what it shows, and at most so many steps between ticks."""

    low: float
    high: float
    label: str = ""
    steps: int = 4

    def up_to_tick(self) -> Axis:
        """The same with its upper end raised to the next round number."""
        return replace(self, high=max(self.high, float(self._values()[-1])))

    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        values = self._values()
        slack = 1e-9 * (self.high - self.low)
        return [float(v) for v in values if self.low - slack <= v <= self.high + slack]

    def _values(self) -> np.ndarray:
        """Round numbers, from the lower end or below to the upper end or (nearly) above."""
        locator = MaxNLocator(self.steps, steps=[1, 2, 2.5, 5, 10])
        return locator.tick_values(self.low, self.high)


@dataclass(frozen=True)
class Frame:
    """The part of a drawing that axes enclose.

    Attributes:
        left, top, width, height: of that part.
        x, y: the axes; y grows upwards.
    """

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def at_x(self, value: ArrayLike) -> np.ndarray:
        """Where values of the x axis lie."""
        share = (np.asarray(value, float) - self.x.low) / (self.x.high - self.x.low)
        return self.left + self.width * share

    def at_y(self, value: ArrayLike) -> np.ndarray:
        """Where values of the y axis lie."""
        share = (np.asarray(value, float) - self.y.low) / (self.y.high - self.y.low)
        return self.top + self.height * (1 - share)

    def x_axis(self, text: Callable[[float], str] = "{:g}".format) -> Html:
        """Ticks, their numbers and the label below."""
        bottom = self.top + self.height
        parts = []
        for value in self.x.ticks():
            x = number(self.at_x(value))
            parts.append(_rule(x, bottom, x, bottom + 4))
            parts.append(label(text(value), x, bottom + 15, "middle"))
        if self.x.label:
            parts.append(label(self.x.label, self.left + self.width / 2, bottom + 29, "middle"))
        return join(parts)

    def y_axis(self, text: Callable[[float], str] = "{:g}".format) -> Html:
        """Ticks with lines across, their numbers, and the label above the axis."""
        parts = []
        for value in self.y.ticks():
            y = number(self.at_y(value))
            parts.append(_rule(self.left, y, self.left + self.width, y, "grid"))
            parts.append(label(text(value), self.left - 5, float(y) + 4, "end"))
        if self.y.label:
            parts.append(label(self.y.label, 2, self.top - 7, "start"))
        return join(parts)

    def polyline(self, line: Line) -> Html:
        """A line, and its dots."""
        x, y = self.at_x(line.x), self.at_y(line.y)
        drawn = np.isfinite(x) & np.isfinite(y)
        points = [f"{number(a)},{number(b)}" for a, b in zip(x[drawn], y[drawn], strict=True)]
        # Points that fall onto the same tenth of a unit are one.
        points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        style = f"line{line.style % LINE_STYLES}"
        parts = [element("polyline", points=" ".join(points), class_=f"line {style}")]
        if line.dots is not None:
            areas = np.asarray(line.dots, float)[drawn] ** 0.5
            for a, b, area in zip(x[drawn], y[drawn], areas / areas.max(), strict=True):
                radius = number(max(1.5, 8 * area**0.5))
                parts.append(
                    element("circle", cx=number(a), cy=number(b), r=radius, class_=f"dot {style}")
                )
        return join(parts)


def number(value: float) -> str:
    """A coordinate to a tenth of a unit."""
    return f"{float(value):.1f}".removesuffix(".0")


def label(text: str, x: float | str, y: float, anchor: str) -> Html:
    """Text at a place: `anchor` is the end of it that is there, start, middle or end."""
    return element("text", text, x=number(float(x)), y=number(y), text_anchor=anchor)


def drawing(name: str, width: float, height: float, *content: Html, class_: str = "chart") -> Html:
    """An SVG that is one picture to those who do not see it, with a name."""
    return element(
        "svg",
        element("title", name),
        *content,
        role="img",
        class_=class_,
        viewBox=f"0 0 {number(width)} {number(height)}",
    )


def line_chart(
    lines: Sequence[Line],
    name: str,
    x: Axis,
    y: Axis,
    *,
    size: tuple[int, int] = (340, 230),
    diagonal: bool = False,
) -> Html:
    """Lines in a frame, with a legend of those that have a label.

    Args:
        lines: drawn in their order.
        name: what the chart shows, for those who do not see it.
        x, y: the axes.
        size: width and height.
        diagonal: whether a dashed line shows where y is x.
    """
    width, height = size
    top, below = (22, 36) if y.label else (8, 36 if x.label else 20)
    frame = Frame(38, top, width - 48, height - top - below, x, y)
    parts = [frame.y_axis(), frame.x_axis()]
    if diagonal:
        (x0, x1), (y0, y1) = frame.at_x([0, 1]), frame.at_y([0, 1])
        parts.append(_rule(x0, y0, x1, y1, "diagonal"))
    parts += [frame.polyline(line) for line in lines]
    chart = drawing(name, width, height, *parts)
    return join([chart, legend([(line.label, line.style) for line in lines if line.label])])


def bar_chart(
    values: ArrayLike,
    bars: Sequence[str],
    name: str,
    *,
    unit: str,
    ticks: Sequence[int],
    missing: ArrayLike | None = None,
    size: tuple[int, int] = (340, 96),
) -> Html:
    """Bars side by side, each with its own words.

    Args:
        values: float [bars], from 0 on.
        bars: what each bar stands for.
        name: what the chart shows, for those who do not see it.
        unit: of the values.
        ticks: bars whose left edge has its number below.
        missing: bool [bars], those about which nothing is known; they are hatched.
        size: width and height.
    """
    values = np.asarray(values, float)
    missing = np.full(len(values), False) if missing is None else np.asarray(missing, bool)
    highest = max(float(np.where(missing, 0, values).max(initial=0)), 1e-9)
    width, height = size
    y = Axis(0, highest, steps=2).up_to_tick()
    frame = Frame(38, 8, width - 50, height - 26, Axis(0, len(values)), y)
    bottom = frame.top + frame.height
    parts = [frame.y_axis()]
    step = frame.width / len(values)
    for i, (value, bar, unknown) in enumerate(zip(values, bars, missing, strict=True)):
        begin = frame.at_x(i)
        above = frame.top if unknown else frame.at_y(value)
        said = "no recording" if unknown else f"{value:.4g} {unit}"
        parts.append(
            element(
                "rect",
                element("title", f"{bar}: {said}"),
                x=number(begin + 0.1 * step),
                y=number(above),
                width=number(0.8 * step),
                height=number(bottom - above),
                class_="unknown" if unknown else "bar",
            )
        )
    parts += [label(str(tick), frame.at_x(tick), bottom + 14, "middle") for tick in ticks]
    return drawing(name, width, height, *parts)


def legend(entries: Sequence[tuple[str, int]]) -> Html:
    """Labels beside a piece of their line, given as (label, style)."""
    if not entries:
        return Html()
    items = []
    for text, style in entries:
        key = element("line", x1=1, y1=6, x2=27, y2=6, class_=f"line line{style % LINE_STYLES}")
        picture = element("svg", key, viewBox="0 0 28 12", class_="key", aria_hidden="true")
        items.append(element("li", picture, text))
    return element("ul", *items, class_="legend")


def _rule(x1, y1, x2, y2, class_: str = "axis") -> Html:
    x1, y1, x2, y2 = map(number, (x1, y1, x2, y2))
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)
