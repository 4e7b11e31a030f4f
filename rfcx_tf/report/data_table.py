"""Rows -> an HTML table that page.js sorts and filters, in a box of its own that scrolls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rfcx_tf.report.markup import Html, element, join


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


def data_table(
    name: str,
    caption: str,
    rows: pd.DataFrame,
    columns: Sequence[Column],
    *,
    filter_label: str = "",
    filter_keys: Sequence[str] = (),
) -> Html:
    """A table with a button at the head of every column, which sorts by it.

    Args:
        name: id of the table, which no other element has.
        caption: what it lists.
        rows: the data; the first column heads each row. NaN and None are shown as a dash, and
            sorted behind everything else.
        columns: those of `rows` that are shown, in their order.
        filter_label: of a field that takes words and leaves rows in which they are; "": none.
        filter_keys: columns of `rows` that it looks in.
    """
    is_number = {c.key: pd.api.types.is_numeric_dtype(rows[c.sort_key or c.key]) for c in columns}
    heads = [
        element(
            "th",
            element("button", c.title, type="button"),
            scope="col",
            aria_sort="none",
            class_="number" if is_number[c.key] else None,
        )
        for c in columns
    ]
    body = []
    for row in rows.to_dict("records"):
        cells = []
        for i, column in enumerate(columns):
            value, sorted_by = row[column.key], row[column.sort_key or column.key]
            cells.append(
                element(
                    "td" if i else "th",
                    _shown(value, column.digits),
                    scope=None if i else "row",
                    data_sort="" if _is_missing(sorted_by) else sorted_by,
                    class_="number" if is_number[column.key] else None,
                )
            )
        words = " ".join(str(row[key]) for key in filter_keys)
        body.append(element("tr", *cells, data_text=words.casefold() if filter_keys else None))
    table = element(
        "table",
        element("caption", caption, id=f"{name}-caption"),
        element("thead", element("tr", *heads)),
        element("tbody", *body, id=f"{name}-rows"),
        id=name,
        class_="sortable",
    )
    scroll = element(
        "div",
        table,
        class_="scroll",
        role="region",
        aria_labelledby=f"{name}-caption",
        tabindex="0",
    )
    field = filter_field(f"{name}-rows", filter_label) if filter_label else ""
    about = [join([element("dt", c.title), element("dd", c.about)]) for c in columns if c.about]
    words = element("details", element("summary", "What the columns say"), element("dl", *about))
    return join([field, scroll, words if about else ""])


def filter_field(target: str, text: str) -> Html:
    """A field that leaves of the children of an element those whose data-text has its words."""
    name = f"{target}-filter"
    return element(
        "p",
        element("label", text, for_=name),
        element("input", type="search", id=name, data_filters=target, autocomplete="off"),
        element("span", role="status", class_="count"),
        class_="filter",
    )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: object, digits: int | None) -> str:
    if _is_missing(value):
        return "–"
    return str(value) if digits is None else f"{value:.{digits}f}"
