"""The page in a browser: a person judges, and the rows of the data folder are what she said."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_events import NAMES, event

from rfcx_tf.events.table import EVENT_COLUMNS
from rfcx_tf.review.selection import PickRules, pick_events
from rfcx_tf.review.sheet import write_review
from rfcx_tf.review.sheet_rows import COLUMNS, event_cells, sheet_text

ROOT = Path(__file__).resolve().parents[2]
BOX = ["t_min", "t_max", "f_min", "f_max"]
VERDICTS = ["TP", "FP", "unsure"]


@pytest.fixture
def picked(field):
    """Events of `field`: 20 of them are rows of review/review.csv, four are not."""
    events = [
        event(
            f"tiny{6 + n % 4:02d}",
            (2, 5, 9)[n % 3],
            0.5 + n // 4 * 0.9,
            0.9 + n // 4 * 0.9,
            0.04 * (n + 1),
            file=field.audio / f"tiny{6 + n % 4:02d}.flac",
            band=(600.0, 1000.0),
        )
        for n in range(24)
    ]
    table = pd.DataFrame(events).astype(EVENT_COLUMNS)
    table.to_csv(field.events, index=False)
    rows = [event_cells(e, e.file, (e.low_hz, e.high_hz)) for e in table[:20].itertuples()]
    (field.folder / "review").mkdir()
    sheet = field.folder / "review" / "review.csv"
    sheet.write_text(sheet_text(COLUMNS, ({**row, "reason": "uncertain"} for row in rows)))
    return field


@contextmanager
def served(*arguments):
    """The address of a served review, and then a list with what it printed to its end."""
    command = [sys.executable, "-m", "rfcx_tf", "review", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = []
    try:
        lines = iter(process.stdout.readline, "")
        yield next(line.split()[1] for line in lines if line.startswith("Open ")), said
    finally:
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=600)[0].splitlines()
    assert process.returncode == 0


def open_page(context, address):
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(error))
    page.goto(address)
    page.wait_for_selector("#picture img[src]")
    return page


def until(page, expression):
    """Waits until JavaScript is true; Playwright's own way is what the page forbids (eval)."""
    for _ in range(2000):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(30)
    pytest.fail(f"never true: {expression}; message: {page.locator('#message').inner_text()}")


def judged(page, count):
    until(page, f"document.querySelector('#progress').textContent.startsWith('{count} of')")


def rows_of(sheet):
    return pd.read_csv(sheet, dtype=str, keep_default_na=False)


def labels(path):
    table = pd.read_csv(path).round(3)
    return set(table[["recording_id", "species_id", *BOX]].itertuples(index=False, name=None))


def box_and_plane(page):
    return (page.locator(f"#picture .{name}").bounding_box() for name in ("box", "plane"))


def test_twenty_events_by_keyboard_a_box_and_a_species(browser, picked, run_script):
    review = picked.folder / "review"
    sheet, before = review / "review.csv", rows_of(review / "review.csv")
    options = ("--review", review, "--events", picked.events, "--data", picked.data)
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    with served(*options) as (address, said):
        page = open_page(context, address)
        assert page.title() == "Review"
        for number in range(10):
            page.keyboard.press(str(number % 3 + 1))
            judged(page, number + 1)
        # The tab goes in the middle of it; nothing is lost.
        page.close()
        assert rows_of(sheet)["verdict"].to_list() == [*(VERDICTS * 4)[:10], *[""] * 10]

        page = open_page(context, address)
        second = open_page(browser.new_context(), address)
        judged(second, 10)
        assert page.locator("#title").inner_text().startswith("11 of 20")
        # Keys that come faster than answers are taken one by one.
        for number in range(10, 20):
            page.keyboard.press(str(number % 3 + 1))
        judged(page, 20)
        judged(second, 20)

        # The last one: its lower right corner goes 0.2 s on and 200 Hz down.
        until(page, "!picture.busy && picture.view.begin_s > 0")
        view = page.evaluate("picture.view")
        box, plane = box_and_plane(page)
        right = 0.2 / (view["end_s"] - view["begin_s"]) * plane["width"]
        down = 200 / view["top_hz"] * plane["height"]
        x, y = box["x"] + box["width"] + 4, box["y"] + box["height"] + 4
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + right / 2, y + down / 2)
        page.mouse.move(x + right, y + down)
        page.mouse.up()
        until(page, "items.get(19).version > 20")
        moved = rows_of(sheet).iloc[19]
        old = before.iloc[19]
        assert float(moved.t_max) == pytest.approx(float(old.t_max) + 0.2, abs=0.01)
        assert float(moved.f_min) == pytest.approx(float(old.f_min) - 200, abs=10)
        assert (moved.t_min, moved.f_max) == (old.t_min, old.f_max)
        # By keyboard a hundredth of the picture to the left, and back by undo.
        page.keyboard.press("b")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        until(page, "items.get(19).version > 21")
        assert float(rows_of(sheet).t_min[19]) < float(old.t_min)
        page.keyboard.press("u")
        until(page, "items.get(19).version > 22")
        assert rows_of(sheet).iloc[19].equals(moved)

        # It is another species: FP of the one, TP of the other.
        page.keyboard.press("s")
        page.keyboard.type("hig")
        page.keyboard.press("Enter")
        until(page, "items.size === 25")
        # A new species in the box of the second event, which was wrong and stays so.
        page.locator("#list button").nth(1).click()
        until(page, "current === 1")
        page.keyboard.press("a")
        page.keyboard.type("Owl")
        page.keyboard.press("Enter")
        until(page, "items.size === 26")
        # An event that nobody picked, found by the filter.
        page.locator("#filter summary").click()
        page.select_option("[name=what]", "all")
        page.locator("[name=least]").fill("0.95")
        until(page, "list.length === 1")
        page.locator("#event").focus()
        page.keyboard.press("1")
        until(page, "items.get(23).cells.verdict === 'TP'")
        assert page.errors == second.errors == []
    assert said[-2].startswith("Judged 23 of 23 rows of ")
    assert "review apply" in said[-1]

    rows = rows_of(sheet)
    assert rows["verdict"].to_list() == [*(VERDICTS * 7)[:19], "FP", "TP", "TP", "TP"]
    # The event of the table, then what was added.
    assert rows["species"].to_list()[20:] == ["high", "high", "Owl"]
    known = {name: labels(picked.data / name) for name in ("train_tp.csv", "train_fp.csv")}
    result = run_script("review", "apply", "--review", sheet, "--data", picked.data)
    assert "New species s10: Owl" in result.stdout
    ids = {name: number for number, name in NAMES.items()} | {"Owl": 10}
    for name, verdict in (("train_tp.csv", "TP"), ("train_fp.csv", "FP")):
        own = rows[rows["verdict"] == verdict]
        expected = {
            (r.recording_id, ids[r.species], *(round(float(getattr(r, b)), 3) for b in BOX))
            for r in own.itertuples()
        }
        assert labels(picked.data / name) - known[name] == expected
        assert len(expected) == len(own)
    context.close()


def test_a_finger_moves_the_box_on_a_phone(browser, picked):
    # A review that begins with the table of events.
    sheet = picked.folder / "new" / "review.csv"
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark"
    )
    with served("--review", sheet.parent, "--events", picked.events) as (address, _):
        page = open_page(context, address)
        before = rows_of(sheet).iloc[0]
        assert before.reason == "uncertain"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        view = page.evaluate("picture.view")
        box, plane = box_and_plane(page)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        right = 0.3 / (view["end_s"] - view["begin_s"]) * plane["width"]
        touch = context.new_cdp_session(page)
        for kind, share in (("touchStart", 0), ("touchMove", 0.5), ("touchMove", 1)):
            points = [{"x": x + share * right, "y": y}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        until(page, "items.get(0).version === 1")
        # No tap: on a busy machine it lasts as long as a long press, which is no click.
        page.locator("[data-verdict=FP]").click()
        judged(page, 1)
        # A gesture on the picture beside the box still scrolls the page.
        action = page.evaluate("getComputedStyle(document.querySelector('.plane')).touchAction")
        assert action == "auto"
        assert page.errors == []
    row = rows_of(sheet).iloc[0]
    assert row.verdict == "FP"
    for name in ("t_min", "t_max"):
        assert float(row[name]) == pytest.approx(float(before[name]) + 0.3, abs=0.02)
    assert (row.f_min, row.f_max) == (before.f_min, before.f_max)
    context.close()


def test_a_page_that_was_given_away(browser, field, run_script):
    """From its folder, without a server, and back by the download."""
    events = [event("tiny06", 2, t, t + 0.5, 0.5, band=(600, 900)) for t in (1, 2, 3)]
    picks = pick_events(pd.DataFrame(events).astype(EVENT_COLUMNS), PickRules())
    folder = field.folder / "given"
    write_review(picks, {"tiny06": field.audio / "tiny06.flac"}, folder, progress=False)
    context = browser.new_context(accept_downloads=True)
    page = open_page(context, (folder / "index.html").as_uri())
    page.keyboard.press("1")
    judged(page, 1)
    page.keyboard.press("s")
    page.keyboard.type("=Owl")
    page.keyboard.press("Enter")
    judged(page, 2)
    # What was judged is there when it is opened again.
    page.close()
    page = open_page(context, (folder / "index.html").as_uri())
    judged(page, 2)
    with page.expect_download() as download:
        page.locator("#download").click()
    sheet = field.folder / "back.csv"
    download.value.save_as(sheet)
    original = rows_of(folder / "review.csv")
    back = rows_of(sheet)
    assert back.columns.to_list() == original.columns.to_list()
    assert back["verdict"].to_list() == ["TP", "FP", "", "TP"]
    assert back["species"].to_list() == ["low", "low", "low", "'=Owl"]
    same = [name for name in back if name not in ("verdict", "comment")]
    assert back.loc[:2, same].equals(original[same])
    result = run_script("review", "apply", "--review", sheet, "--data", field.data)
    assert "New species s3: =Owl" in result.stdout
    assert "Added 2 rows" in result.stdout
    assert np.count_nonzero(pd.read_csv(field.data / "train_fp.csv").recording_id == "tiny06") == 1
    assert page.errors == []
    context.close()
