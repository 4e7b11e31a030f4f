"""Numbers -> charts: matplotlib figures, and the SVG of them that takes its looks from a page.

Lengths are in pixels of the SVG. Charts are about as wide as a phone's page, so that their letters
stay as large as the text's.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

# Name, words, and the SVG of a chart that stands beside others on a page.
Chart = tuple[str, str, Markup]

QUIET, RULE = "#54595e", "#c9cdd1"
LINES = ("#0067a5", "#b34700", "#187a3c", "#8b3fb8", "#b0115f", "#5c5c00")
_DASHES = ("-", (0, (4, 2)), (0, (1, 1)), (0, (5, 2, 1, 2)), (0, (7, 3)), (0, (1, 2)))
# page.css defines these variables, with other values for dark pages.
_VARIABLES = {QUIET: "var(--quiet)", RULE: "var(--rule)"} | {
    colour: f"var(--line{i})" for i, colour in enumerate(LINES)
}
_LETTERS = 11
_WEBP_QUALITY = 40
_HREF = "{http://www.w3.org/1999/xlink}href"


def line_style(number: int) -> dict:
    """Colour and dashes of a line; after the sixth they begin again."""
    return {"color": LINES[number % len(LINES)], "linestyle": _DASHES[number % len(_DASHES)]}


def new_figure(width: float, height: float):
    """An empty figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), frameon=False)


def add_axes(figure, left: float, top: float, width: float, height: float):
    """Axes at a place of a figure: no frame, numbers beside it, lines across at those of y."""
    across, down = figure.get_size_inches() * 72
    axis = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axis.set_frame_on(False)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=_LETTERS, labelcolor=QUIET, pad=5)
    axis.grid(axis="y", color=RULE, linewidth=0.7)
    axis.locator_params(nbins=4)
    return axis


def new_chart(width: float = 340, height: float = 230, *, top: float = 8, below: float = 20):
    """Axes that fill a figure of their own up to the numbers beside them."""
    return add_axes(new_figure(width, height), 38, top, width - 48, height - top - below)


def small_chart():
    """Axes of a small chart from 0 to 1 both ways."""
    axis = new_chart(180, 150)
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    return axis


def name_axes(axis, x: str = "", y: str = "") -> None:
    """Says below the axes what x is, and above them what y is."""
    axis.set_xlabel(x, fontsize=_LETTERS, color=QUIET)
    axis.set_title(y, loc="left", fontsize=_LETTERS, color=QUIET, pad=7)


def add_legend(axis, **place) -> None:
    """The labels of lines, beside a piece of each."""
    axis.legend(frameon=False, fontsize=_LETTERS, labelcolor=QUIET, **place)


def bar_chart(
    values: ArrayLike,
    bars: Sequence[str],
    name: str,
    *,
    unit: str,
    ticks: Sequence[int],
    missing: ArrayLike | None = None,
) -> Markup:
    """Bars side by side, each with its own words.

    Args:
        values: float [bars], from 0 on.
        bars: what each bar stands for.
        name: what the chart shows, for those who do not see it.
        unit: of the values.
        ticks: bars whose left edge has its number below.
        missing: bool [bars], those about which nothing is known; they are grey.
    """
    values = np.asarray(values, float)
    missing = np.full(len(values), False) if missing is None else np.asarray(missing, bool)
    top = 1.05 * max(values[~missing].max(initial=0), 1e-9)
    axis = new_chart(340, 96, below=18)
    drawn = axis.bar(
        np.arange(len(values)) + 0.5,
        np.where(missing, top, values),
        color=[RULE if unknown else LINES[0] for unknown in missing],
    )
    words = {}
    for bar, text, value, unknown in zip(drawn, bars, values, missing, strict=True):
        bar.set_gid(text)
        words[text] = f"{text}: {'no recording' if unknown else f'{value:.4g} {unit}'}"
    axis.set(xlim=(0, len(values)), ylim=(0, top), xticks=ticks)
    axis.locator_params(axis="y", nbins=2)
    return svg(axis.figure, name, words)


def svg(figure, name: str, words: Mapping[str, str] | None = None) -> Markup:
    """A figure as a part of a page: one picture to those who do not see it.

    The page's style gives letters and colours. There are no styles in attributes, which the page's
    policy forbids. Pictures become WebP.

    Args:
        figure: of matplotlib.
        name: what it shows; no other of the page has the same, since ids are made of it.
        words: shown when pointed at, by gid of what was drawn.
    """
    import matplotlib

    pictures = [_take_picture(image) for axis in figure.axes for image in axis.images]
    # File names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    name = name.encode("utf-8", "replace").decode()
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    source = ElementTree.fromstring(content.getvalue())
    drawing = ElementTree.Element("svg", role="img", viewBox=source.get("viewBox"))
    drawing.set("class", "chart")
    ElementTree.SubElement(drawing, "title").text = name
    _copy(source, drawing, words or {})
    for element, address in zip(drawing.iter("image"), pictures, strict=True):
        element.set("href", address)
    return Markup(ElementTree.tostring(drawing, "unicode", "html"))


def _take_picture(image) -> str:
    """Encodes an image of a figure as WebP, and leaves a blank one of its size in its place.

    A PNG of the image would be ten times as long and take a third of a card's time.
    """
    from PIL import Image

    pixels = image.to_rgba(image.get_array(), bytes=True)[..., :3]
    image.set_data(np.zeros_like(pixels))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "webp", quality=_WEBP_QUALITY)
    return data_uri(content.getvalue(), "image/webp")


def _copy(source, target, words: Mapping[str, str], said: str = "") -> None:
    """Copies what is seen or referred to, without styles and the groups that matplotlib makes."""
    for element in source:
        kind = element.tag.rpartition("}")[2]
        if kind == "g":
            _copy(element, target, words, words.get(element.get("id"), ""))
        elif kind != "style":
            copy = ElementTree.SubElement(target, kind, _attributes(kind, element))
            copy.text = (element.text or "").strip()
            if said:
                ElementTree.SubElement(copy, "title").text = said
            _copy(element, copy, words)


def _attributes(kind: str, element) -> dict[str, str]:
    """Attributes of an element; what its style says becomes attributes too."""
    found = dict(element.attrib)
    for entry in found.pop("style", "").split(";"):
        key, _, value = entry.strip().partition(": ")
        if value and not key.startswith(("font", "image")):
            found[key] = _VARIABLES.get(value, value)
    for key in {"d", "x", "y"} & found.keys():
        found[key] = " ".join(re.sub(r"(\.\d)\d+", r"\1", found[key]).split())
    if found.get("transform", "").startswith("rotate(-0 "):
        del found["transform"]
    if kind == "image":
        del found["id"], found[_HREF]
        found |= {"href": "", "preserveAspectRatio": "none"}
    elif _HREF in found:
        found["href"] = found.pop(_HREF)
    return found


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
