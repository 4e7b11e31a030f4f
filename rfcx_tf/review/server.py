"""The local page of a review: what it asks for, and who may ask.

GET  /                             the page
GET  /review                       all items, species and reference calls
GET  /changes?since=N              items that have changed since change N
POST /changes {"edits": [...]}     one change, see `judging.Judging.change`
POST /undo {"revision": N}         takes change N back
GET  /items/N/recording            its length and highest frequency; also /references/N/...
GET  /items/N/sound?begin_s&end_s, /items/N/picture?begin_s&end_s&top_hz

The server listens on this machine only, and answers its own page only, see
`serving.server.this_machine`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence

from aiohttp import web

from rfcx_tf.core.errors import UserError
from rfcx_tf.review.judging import REMOVED, ChangeError, ConflictError, Item, Judging
from rfcx_tf.review.page import served_page
from rfcx_tf.review.references import Reference
from rfcx_tf.review.sounds import Sounds
from rfcx_tf.serving.server.lifetime import start_site, stop_at_signal
from rfcx_tf.serving.server.this_machine import HOST, keep_private, refuse_others

log = logging.getLogger(__name__)

_MOST_BODY_BYTES = 64 * 1024
# What the page does not show would only make it slower.
_NOT_SENT = ("file", "clip", "picture")


async def serve_review(
    judging: Judging, sounds: Sounds, references: Sequence[Reference], port: int
) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        UserError: if the port cannot be had.
    """
    stop = stop_at_signal()
    application = make_application(judging, sounds, references)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=5.0)
    try:
        port = await start_site(runner, HOST, port, "--port")
        print(f"Open http://{HOST}:{port}/ in a browser on this machine.")
        print("Every verdict is saved at once. Stop with Ctrl-C.", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def make_application(
    judging: Judging, sounds: Sounds, references: Sequence[Reference]
) -> web.Application:
    """The web application."""
    # Tells a page that the server has been started anew, maybe with another review.
    session = secrets.token_hex(8)
    page, policy = served_page()
    # One change after the other; recordings are read beside it.
    changing = asyncio.Lock()

    async def get_page(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def get_review(_: web.Request) -> web.Response:
        numbers = [n for n, item in enumerate(judging.items) if item.place != REMOVED]
        answer = _answer(numbers) | {
            "references": [_reference(number, call) for number, call in enumerate(references)]
        }
        return web.json_response(answer)

    async def get_changes(request: web.Request) -> web.Response:
        since = _number(request, "since")
        return web.json_response(_answer(judging.changed_since(int(since))))

    async def post_change(request: web.Request) -> web.Response:
        edits = (await _body(request)).get("edits")
        if not isinstance(edits, list) or not all(isinstance(edit, dict) for edit in edits):
            raise ChangeError("A change has a list of edits.")
        async with changing:
            numbers = await asyncio.to_thread(judging.change, edits)
            return web.json_response(_answer(numbers))

    async def post_undo(request: web.Request) -> web.Response:
        revision = (await _body(request)).get("revision")
        async with changing:
            numbers = await asyncio.to_thread(judging.undo, revision)
            return web.json_response(_answer(numbers))

    async def get_recording(request: web.Request) -> web.Response:
        duration_s, highest_hz = await asyncio.to_thread(lambda: sounds.extent(find(request)))
        return web.json_response({"duration_s": duration_s, "highest_hz": highest_hz})

    async def get_sound(request: web.Request) -> web.Response:
        stretch = _number(request, "begin_s"), _number(request, "end_s")
        body = await asyncio.to_thread(lambda: sounds.wav(find(request), *stretch))
        return web.Response(body=body, content_type="audio/wav")

    async def get_picture(request: web.Request) -> web.Response:
        view = (_number(request, name) for name in ("begin_s", "end_s", "top_hz"))
        body = await asyncio.to_thread(lambda: sounds.png(find(request), *view))
        return web.Response(body=body, content_type="image/png")

    def find(request: web.Request):
        """The file that a request is about."""
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        found = judging.items if kind == "items" else references
        if number >= len(found):
            raise web.HTTPNotFound
        if kind == "references":
            return found[number].file
        cells = found[number].cells
        return sounds.file(cells["recording_id"], cells["file"])

    def _answer(numbers: Sequence[int]) -> dict:
        return {
            "session": session,
            "revision": judging.revision,
            "species": judging.species,
            "items": [_shown(number, judging.items[number]) for number in numbers],
        }

    application = web.Application(middlewares=[_guard], client_max_size=_MOST_BODY_BYTES)
    of_sound = "/{kind:items|references}/{number:[0-9]{1,9}}"
    application.add_routes(
        [
            web.get("/", get_page),
            web.get("/review", get_review),
            web.get("/changes", get_changes),
            web.post("/changes", post_change),
            web.post("/undo", post_undo),
            web.get(f"{of_sound}/recording", get_recording),
            web.get(f"{of_sound}/sound", get_sound),
            web.get(f"{of_sound}/picture", get_picture),
        ]
    )
    return application


@web.middleware
async def _guard(request: web.Request, handler) -> web.StreamResponse:
    """Refuses who may not ask, and answers errors as JSON."""
    try:
        refuse_others(request)
        # Other sites' forms cannot send JSON.
        if request.method == "POST" and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="A change is JSON")
        response = await handler(request)
    except web.HTTPException as error:
        response = _error(error.status, f"{error.reason}: {request.method} {request.path}")
    except ConflictError as error:
        response = _error(409, str(error))
    except UserError as error:
        response = _error(400 if isinstance(error, ChangeError) else 422, str(error))
    except Exception:
        log.exception("A request failed: %s %s", request.method, request.path)
        response = _error(500, "The server failed; its terminal says more.")
    keep_private(response)
    return response


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


async def _body(request: web.Request) -> dict:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ChangeError("A change is a JSON object.")
    return body


def _number(request: web.Request, name: str) -> float:
    try:
        value = float(request.query.get(name, ""))
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1e9:
        raise ChangeError(f"{name} is a number from 0.")
    return value


def _shown(number: int, item: Item) -> dict:
    cells = {name: cell for name, cell in item.cells.items() if cell and name not in _NOT_SENT}
    return {
        "id": number,
        "version": item.version,
        "place": item.place,
        "origin": item.origin,
        "cells": cells,
    }


def _reference(number: int, call: Reference) -> dict:
    cells = {name: str(value) for name, value in call._asdict().items() if name != "file"}
    return {"id": number, "cells": cells}
