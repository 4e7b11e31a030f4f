"""Text stays text, whatever is in it; tables show and sort what they were given."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from page_reader import NASTY, Page

from rfcx_tf.report.page import TEMPLATES, fill_template

data_table = TEMPLATES.get_template("parts.html").module.data_table


@given(st.text(), st.text())
def test_text_and_attributes_come_back_as_they_were(text, attribute):
    table = data_table(
        "t", text, pd.DataFrame({"name": [attribute]}), [{"key": "name", "title": "Name"}]
    )
    page = Page(table)
    sources = [a["data-sort"] for a in page.of("th") if "data-sort" in a]
    assert sources == [attribute]
    assert page.tables["t"] == [["Name"], [attribute]]
    assert text in page.text


def test_bytes_that_are_no_utf8_can_be_written():
    page = fill_template("training.html", figures=[("a\udcffb", "", "")])
    assert b">a?b<" in page.encode("utf-8")


def test_a_table_has_text_to_read_and_values_to_sort_by():
    rows = pd.DataFrame(
        {
            "name": ["b", NASTY],
            "count": [3, 12],
            "share": [0.12345678, np.nan],
            "hour": ["5 h", None],
            "hour_number": [5.0, np.nan],
        }
    )
    columns = [
        {"key": "name", "title": "Name"},
        {"key": "count", "title": "Count"},
        {"key": "share", "title": "Share", "about": "of all", "digits": 2},
        {"key": "hour", "title": "Hour", "sort_key": "hour_number"},
        {"key": "absent", "title": "Not there"},
    ]
    page = Page(
        data_table("t", "caption", rows, columns, filter_label="Find", filter_keys=("name",))
    )
    assert page.tables["t"] == [
        ["Name", "Count", "Share", "Hour"],
        ["b", "3", "0.12", "5 h"],
        [NASTY, "12", "–", "–"],
    ]
    cells = [a for name, a in page.elements if "data-sort" in a]
    assert [a["data-sort"] for a in cells] == ["b", "3", "0.12345678", "5.0", NASTY, "12", "", ""]
    assert [a["data-text"].strip() for a in page.of("tr") if a] == ["b", NASTY.casefold()]
    heads = [a for a in page.of("th") if a["scope"] == "col"]
    assert [a["aria-sort"] for a in heads] == ["none"] * 4
    assert [a.get("class") for a in heads] == [None, "number", "number", "number"]
    assert page.of("label")[0]["for"] == page.of("input")[0]["id"]
    assert page.of("input")[0]["data-filters"] == page.of("tbody")[0]["id"]
