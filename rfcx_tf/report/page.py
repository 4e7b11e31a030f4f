"""Sections -> one HTML page that holds all it shows and may load nothing.

The page forbids itself every request (Content-Security-Policy): pictures and sound are data in
it, and only its own script and style, told by their hashes, are run. Its words and tables are in
templates/, a file for every section.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PageSection:
    """A part of a page.

    Attributes:
        name: its place in links, and its template.
        title: its heading.
        content: its HTML.
    """

    name: str
    title: str
    content: Markup


def make_section(name: str, title: str, **values: object) -> PageSection:
    """A section of the template `name`, filled in with values."""
    return PageSection(name, title, fill_template(f"{name}.html", **values))


def fill_template(template: str, **values: object) -> Markup:
    """A template of this room filled in; text in `values` stays text, whatever is in it."""
    text = TEMPLATES.get_template(template).render(values)
    # File names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    return Markup(text.encode("utf-8", "replace").decode())


def report_page(
    title: str,
    subtitle: str,
    sections: Sequence[PageSection],
    command: str,
    *,
    served: bool = False,
) -> str:
    """The page.

    Args:
        title: its heading.
        subtitle: a line below it, or "".
        sections: in their order, linked from the top.
        command: that made it.
        served: whether it may ask `rfcx_tf.report.server` for more events; else it loads nothing.
    """
    scripts = ["page.js", "served.js"] if served else ["page.js"]
    style, script = (
        Markup("\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names))
        for names in (["page.css"], scripts)
    )
    return fill_template(
        "page.html",
        title=title,
        subtitle=subtitle,
        sections=sections,
        command=command,
        style=style,
        script=script,
        served=served,
    )


def _source(text: str) -> str:
    """Names a script or style to the policy, by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["source"] = _source
TEMPLATES.tests["missing"] = pd.isna
