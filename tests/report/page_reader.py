"""A page as a browser would see it, and the names of the species that pages are made of."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

# A name as an attacker, or a careless spreadsheet, would have it.
NASTY = "<script>alert('x')</script> & \"co\""
NAMES = {2: "low", 5: NASTY, 9: "high"}
COLUMNS = ["s2", "s5", "s9"]


class Page(HTMLParser):
    """What a browser would make of a page.

    Attributes:
        elements: (name, attributes) in their order.
        text: of everything but scripts and styles.
        code: texts of scripts and styles, by name of the element.
        tables: by id, a list of rows, each a list of texts; the first is the head.
    """

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.text, self.code, self.tables = [], "", {}, {}
        self._open, self._table = [], None
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables[dict(attrs)["id"]] = []
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("script", "style"):
            self.code.setdefault(self._open[-1], []).append(data)
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self._table[-1][-1] += data

    def of(self, tag):
        """Attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, name):
        """A table as a DataFrame of texts."""
        head, *rows = self.tables[name]
        return pd.DataFrame(rows, columns=head)


def points(path):
    """The points of an SVG path of straight lines, [points, 2], from its attributes."""
    numbers = re.findall(r"-?[\d.]+", path["d"])
    return np.array(numbers, float).reshape(-1, 2)
