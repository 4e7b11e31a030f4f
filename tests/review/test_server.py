"""The review's server: what it gives, what it refuses, and two browsers at a time."""

import asyncio
import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from aiohttp.test_utils import TestClient, TestServer
from matplotlib.image import imread
from yarl import URL

from rfcx_tf.events.read import read_events
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.review.judging import Judging
from rfcx_tf.review.references import reference_calls
from rfcx_tf.review.server import make_application
from rfcx_tf.review.sounds import Sounds


@pytest.fixture
def application(field):
    """A review of all 16 events of `field`; review.csv is in its folder."""
    events = read_events(field.events)
    files = {path.stem: path for path in field.audio.iterdir()}
    sounds = Sounds(files)
    judging = Judging(
        field.folder / "review.csv",
        events,
        files,
        {},
        lambda name, file: sounds.extent(sounds.file(name, file)),
    )
    known = read_kaggle_folder(field.data)
    paths = {name: source.path for name, source in known.recordings.items()}
    return make_application(judging, sounds, reference_calls(known.rows, paths))


def ask(application, work):
    """Runs `work(client)` against the server of an application."""

    async def run():
        async with TestClient(TestServer(application)) as client:
            return await work(client)

    return asyncio.run(run())


async def post(client, path, body, **headers):
    async with client.post(path, json=body, headers=headers) as response:
        return response.status, await response.json()


def test_two_browsers_judge_one_review(application, field):
    async def work(client):
        review = await (await client.get("/review")).json()
        assert len(review["items"]) == 16
        assert {"file", "clip", "picture"}.isdisjoint(review["items"][0]["cells"])
        edit = {"item": 3, "version": 0, "cells": {"verdict": "TP"}}
        status, made = await post(client, "/changes", {"edits": [edit]})
        assert (status, made["revision"], made["items"][0]["cells"]["verdict"]) == (200, 1, "TP")
        # The second one has not heard of it yet, then hears, and may change it.
        other = {**edit, "cells": {"verdict": "FP"}}
        status, answer = await post(client, "/changes", {"edits": [other]})
        assert (status, list(answer)) == (409, ["error"])
        news = await (await client.get("/changes", params={"since": review["revision"]})).json()
        assert [(i["id"], i["version"]) for i in news["items"]] == [(3, 1)]
        status, _ = await post(client, "/changes", {"edits": [{**other, "version": 1}]})
        assert status == 200
        assert (await post(client, "/undo", {"revision": 1}))[0] == 409
        # Many at the same time: none is lost.
        edits = [{"item": n, "version": 0, "cells": {"verdict": "FP"}} for n in range(4, 16)]
        answers = await asyncio.gather(
            *(post(client, "/changes", {"edits": [edit]}) for edit in edits)
        )
        assert sorted(answer["revision"] for _, answer in answers) == list(range(3, 15))

    ask(application, work)
    rows = pd.read_csv(field.folder / "review.csv")
    assert rows["verdict"].to_list() == ["FP"] * 13


def test_sound_and_picture_are_of_the_stretch(application, field):
    async def work(client):
        async def get(path, **query):
            response = await client.get(path, params=query)
            return response.status, await response.read()

        item = (await (await client.get("/review")).json())["items"][0]["cells"]
        extent = await (await client.get("/items/0/recording")).json()
        assert extent == {"duration_s": 6.0, "highest_hz": 4000.0}
        status, wav = await get("/items/0/sound", begin_s=1.25, end_s=2.5)
        assert status == 200
        samples, rate_hz = soundfile.read(io.BytesIO(wav))
        whole, _ = soundfile.read(field.audio / f"{item['recording_id']}.flac")
        part = whole[10000:20000]
        # The peak is raised to -3 dB, or by 40 dB.
        gain = min(100, 10**-0.15 / np.abs(part).max())
        assert (rate_hz, samples) == (8000, pytest.approx(part * gain, abs=1e-4))
        status, png = await get("/items/0/picture", begin_s=1.25, end_s=2.5, top_hz=4000)
        height, width = imread(io.BytesIO(png)).shape[:2]
        assert status == 200 and height > 50 and width > 100
        # A call of the data folder, of the species that it says.
        references = (await (await client.get("/review")).json())["references"]
        assert {call["cells"]["recording_id"] for call in references} <= {
            f"tiny0{n}" for n in range(6)
        }
        assert (await get("/references/0/sound", begin_s=0, end_s=1))[0] == 200

    ask(application, work)


def test_reference_calls_are_the_usual_ones(tmp_path):
    lengths_s = {"a": 0.1, "b": 1.0, "c": 1.1, "d": 9.0, "gone": 1.0}
    rows = pd.DataFrame(
        [(name, 7, 2.0, 2.0 + length_s, 10.0, 20.0, True) for name, length_s in lengths_s.items()]
        + [("b", 7, 5.0, 6.04, 10.0, 20.0, True), ("c", 7, 5.0, 6.05, 10.0, 20.0, False)],
        columns=["recording_id", "species_id", "t_min", "t_max", "f_min", "f_max", "present"],
    )
    files = {name: tmp_path / name for name in "abcd"}
    found = reference_calls(rows, files)
    # The median of 0.1, 1, 1.04, 1.1 and 9 s is 1.04 s; of b only the most usual one.
    assert [(call.recording_id, call.t_min) for call in found][:2] == [("b", 5.0), ("c", 2.0)]
    assert {call.recording_id for call in found} == {"a", "b", "c", "d"}


WRONG = [
    ("GET", "/items/16/sound?begin_s=0&end_s=1", 404),
    ("GET", "/references/999/recording", 404),
    ("GET", "/items/-1/recording", 404),
    ("GET", "/items/0/../../etc/passwd", 404),
    ("GET", "/items/..%2f..%2fetc%2fpasswd/sound", 404),
    ("GET", "/review.csv", 404),
    ("GET", "/items/0/sound", 400),
    ("GET", "/items/0/sound?begin_s=nan&end_s=1", 400),
    ("GET", "/items/0/sound?begin_s=0&end_s=inf", 400),
    ("GET", "/items/0/sound?begin_s=2&end_s=1", 422),
    ("GET", "/items/0/sound?begin_s=0&end_s=1000", 422),
    ("GET", "/items/0/sound?begin_s=50&end_s=51", 422),
    ("GET", "/items/0/picture?begin_s=0&end_s=1&top_hz=0", 422),
    ("GET", "/changes?since=x", 400),
    ("POST", "/review", 405),
]


def test_wrong_requests_take_a_line(application):
    async def work(client):
        for method, path, status in WRONG:
            url = URL(f"http://127.0.0.1:{client.port}{path}", encoded=True)
            async with client.session.request(method, url, json={}) as response:
                assert (path, response.status) == (path, status)
                assert list(await response.json()) == ["error"]
        for body in ([], {}, {"edits": [1]}, {"edits": []}, {"edits": [{"item": 0}]}):
            assert (await post(client, "/changes", body))[0] == 400, body
        assert (await post(client, "/undo", {"revision": 5}))[0] == 400
        json = {"Content-Type": "application/json"}
        for raw in (b"{", b"[" * 50000, b'{"edits": 1' + b" " * 100_000 + b"}"):
            response = await client.post("/changes", data=raw, headers=json)
            assert response.status in (400, 413)

    ask(application, work)


def test_only_the_page_itself_may_ask(application):
    async def work(client):
        port = client.port
        edit = {"edits": [{"item": 0, "version": 0, "cells": {"verdict": "TP"}}]}

        async def status(path="/review", body=None, **headers):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            method = "GET" if body is None else "POST"
            async with client.request(method, path, json=body, headers=names) as response:
                return response.status

        # A name that somebody points to this machine.
        assert await status(Host=f"evil.example:{port}") == 403
        assert await status(Host="127.0.0.1.evil.example") == 403
        assert await status("/", Host="evil.example") == 403
        assert await status(Host="[::1") == 403
        # Through a tunnel the port is another one.
        assert await status(Host="localhost:9000") == 200
        # Another site's page in a browser on this machine.
        own = f"http://127.0.0.1:{port}"
        assert await status("/changes", edit, Origin="https://evil.example") == 403
        assert await status("/changes", edit, Origin="null") == 403
        assert await status("/changes", edit, Origin=f"http://127.0.0.1:{port + 1}") == 403
        assert await status(Sec_Fetch_Site="cross-site") == 403
        assert await status("/items/0/recording", Sec_Fetch_Site="same-site") == 403
        assert await status("/", Sec_Fetch_Site="cross-site") == 200
        form = await client.post("/changes", data={"edits": "[]"}, headers={"Origin": own})
        assert form.status == 415
        review = await client.get("/review")
        assert (await review.json())["revision"] == 0
        assert review.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert await status("/changes", edit, Origin=own, Sec_Fetch_Site="same-origin") == 200
        policy = (await client.get("/")).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy

    ask(application, work)


def test_a_recording_that_is_gone_or_damaged_is_named(application, field):
    first = pd.read_csv(field.events).recording_id[0]
    (field.audio / f"{first}.flac").write_bytes(b"fLaC, but no more of it")

    async def work(client):
        response = await client.get("/items/0/recording")
        assert response.status == 422
        assert "not readable" in (await response.json())["error"]
        (field.audio / f"{first}.flac").unlink()
        response = await client.get("/items/0/sound", params={"begin_s": 0, "end_s": 1})
        assert response.status == 422
        assert f"{first} must be there" in (await response.json())["error"]

    ask(application, work)
