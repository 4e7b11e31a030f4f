"""Sections -> one HTML page that holds all it shows and may load nothing.

The page forbids itself every request (Content-Security-Policy): pictures and sound are data in
it, and only its own script and style, told by their hashes, are run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from rfcx_tf.report.markup import Html, element, escape, join

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of a page: `name` is its place in links, `title` its heading."""

    name: str
    title: str
    content: Html


def page_html(title: str, subtitle: str, sections: Sequence[Section], command: str) -> str:
    """The page.

    Args:
        title: its heading.
        subtitle: a line below it, or "".
        sections: in their order, linked from the top.
        command: that made it.
    """
    style, script = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    template = Template((_FOLDER / "page.html").read_text(encoding="utf-8"))
    links = [element("li", element("a", s.title, href=f"#{s.name}")) for s in sections]
    parts = [element("section", element("h2", s.title), s.content, id=s.name) for s in sections]
    return template.substitute(
        policy=policy,
        title=escape(title),
        subtitle=element("p", subtitle) if subtitle else "",
        style=style,
        script=script,
        links=join(links),
        sections=join(parts),
        command=escape(command),
    )


def _source(text: str) -> str:
    """Names a script or style to the policy, by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def tiles(figures: Sequence[tuple[str, str, str]]) -> Html:
    """A few figures in large: what, how much, and a remark or ""."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", what),
                element("dd", how_much, element("small", remark) if remark else ""),
            )
            for what, how_much, remark in figures
        ),
        class_="tiles",
    )
