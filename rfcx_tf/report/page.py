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

import jinja2
import pandas as pd
from markupsafe import Markup

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of a page: `name` is its place in links, `title` its heading."""

    name: str
    title: str
    content: Markup


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the DataFrame.
        title: at its head.
        about: what it says, below the table; "" where the title says all.
        digits: after the point, of numbers; None for text and whole numbers.
        sort_key: of the DataFrame, what it is sorted by; "" for itself.
    """

    key: str
    title: str
    about: str = ""
    digits: int | None = None
    sort_key: str = ""


def render(template: str, **values: object) -> Markup:
    """A template of this room filled in; text in `values` stays text, whatever is in it."""
    text = _templates.get_template(template).render(values)
    # File names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    return Markup(text.encode("utf-8", "replace").decode())


def report_page(title: str, subtitle: str, sections: Sequence[Section], command: str) -> str:
    """The page.

    Args:
        title: its heading.
        subtitle: a line below it, or "".
        sections: in their order, linked from the top.
        command: that made it.
    """
    style, script = (
        Markup((_FOLDER / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")
    )
    return render(
        "page.html",
        title=title,
        subtitle=subtitle,
        sections=sections,
        command=command,
        style=style,
        script=script,
    )


def data_table(
    name: str,
    caption: str,
    rows: pd.DataFrame,
    columns: Sequence[Column],
    *,
    filter_label: str = "",
    filter_keys: Sequence[str] = (),
) -> Markup:
    """A table with a button at the head of every column, which sorts by it.

    Args:
        name: id of the table, which no other element has.
        caption: what it lists.
        rows: the data; the first column heads each row. NaN and None are shown as a dash, and
            sorted behind everything else.
        columns: in their order; those that `rows` has are shown.
        filter_label: of a field that takes words and leaves rows in which they are; "": none.
        filter_keys: columns of `rows` that it looks in.
    """
    return render(
        "table.html",
        name=name,
        caption=caption,
        rows=rows.to_dict("records"),
        columns=[column for column in columns if column.key in rows],
        numbers=set(rows.select_dtypes("number")),
        filter_label=filter_label,
        filter_keys=filter_keys,
    )


def _source(text: str) -> str:
    """Names a script or style to the policy, by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["source"] = _source
_templates.tests["missing"] = pd.isna
