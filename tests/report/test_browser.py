"""Tables and charts as a browser saves them: every value as it was, pictures that open."""

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from page_reader import NASTY
from PIL import Image

from rfcx_tf.report.charts import bar_chart
from rfcx_tf.report.page import TEMPLATES, PageSection, report_page

TABLE = TEMPLATES.get_template("parts.html").module.data_table
ROWS = pd.DataFrame(
    {
        "name": ["plain", NASTY, '=1+1, "quoted"', None],
        "count": [3, 12, 0, 7],
        "share": [0.123456789012, np.nan, 1e-7, 2.0],
    }
)


@pytest.fixture
def page(browser, tmp_path):
    columns = [{"key": "name", "title": "Name"}, {"key": "count", "title": "Count, all"}]
    columns.append({"key": "share", "title": "Share", "digits": 1})
    table = TABLE("all-rows", "All rows", ROWS, columns)
    chart = bar_chart([1, 2], "ab", "calls <by> hour", unit="calls", ticks=[0])
    html = report_page("Events of x.csv", "", [PageSection("a", "A", table + chart)], "command")
    (tmp_path / "page.html").write_text(html)
    page = browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 800})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    assert not problems
    page.close()


def saved(page, name):
    """The name and the bytes of what a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_a_table_is_saved_with_all_digits_as_it_is_sorted(page):
    page.get_by_role("button", name="Count, all").click()
    name, content = saved(page, "Save All rows as CSV")
    assert name == "Events_of_x_all_rows.csv"
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values={"Share": [""]})
    assert list(table) == ["Name", "Count, all", "Share"]
    assert table["Count, all"].tolist() == [12, 7, 3, 0]
    # A spreadsheet program would run what begins like a formula.
    assert table["Name"].tolist() == [NASTY, "", "plain", '\'=1+1, "quoted"']
    assert table["Share"].tolist() == pytest.approx([np.nan, 2.0, 0.123456789, 1e-7], nan_ok=True)


def test_a_chart_is_saved_in_bright_colours_as_svg_and_png(page):
    name, content = saved(page, "Save calls <by> hour as SVG")
    assert name == "Events_of_x_calls_by_hour.svg"
    drawing = ElementTree.fromstring(content)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(" not in content and b"#0067a5" in content
    size = [float(drawing.get(side)) for side in ("width", "height")]
    name, content = saved(page, "Save calls <by> hour as PNG")
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    assert picture.size == tuple(round(3 * side) for side in size)
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert {(255, 255, 255), (0, 0x67, 0xA5)} <= colours
