"""A served report gives cards of its own events to its own page."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from page_reader import Page

from rfcx_tf.report.page import report_page
from rfcx_tf.report.server import make_application


@pytest.fixture(scope="module")
def application(found_events, tiny_data):
    recordings = {path.stem: path for path in (tiny_data / "train").glob("*.flac")}
    del recordings["tiny03"]
    recordings["tiny04"] = tiny_data / "train_tp.csv"
    events = found_events.set_index(np.arange(100, 100 + len(found_events)))
    page = report_page("title", "", [], "command", served=True)
    return events, lambda: make_application(page, events, recordings)


@asynccontextmanager
async def client_of(make):
    async with TestClient(TestServer(make())) as client:
        yield client


def ask(application, path, **headers):
    """Status, headers and text of an answer."""

    async def answer():
        async with client_of(application[1]) as client:
            response = await client.get(path, headers=headers)
            return response.status, response.headers, await response.text()

    return asyncio.run(answer())


def test_the_page_may_ask_its_server_and_nobody_else(application):
    status, headers, html = ask(application, "/")
    assert status == 200 and headers["Cache-Control"] == "no-store"
    (policy,) = (m["content"] for m in Page(html).of("meta") if m.get("http-equiv"))
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "connect-src" not in report_page("title", "", [], "command")


def test_an_event_has_its_picture_and_sound(application):
    status, _, html = ask(application, "/events/103")
    event = application[0].loc[103]
    card = Page(html)
    assert status == 200 and len(card.of("audio")) == len(card.of("svg")) == 1
    assert f"{event['probability']:.3f} probability" in card.text
    assert event["recording_id"] in card.text


def test_what_is_not_there_is_said(application):
    events, _ = application
    assert ask(application, "/events/99")[0] == 404
    assert ask(application, "/events/..%2f103")[0] == 404
    for recording, text in (("tiny03", "was not found"), ("tiny04", "not readable")):
        number = events.index[events["recording_id"] == recording][0]
        status, _, html = ask(application, f"/events/{number}")
        assert status == 200 and text in Page(html).text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "[::"},
    ],
)
def test_other_sites_are_refused(application, headers):
    status, _, html = ask(application, "/events/103", **headers)
    assert status == 403 and "audio" not in html
