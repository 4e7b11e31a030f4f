"""A report on this machine: its page, and picture and sound of any event of its table.

GET /            the page
GET /events/N    the card of event N, as the page has them of its surest events

The server listens on this machine only, answers under this machine's name only, and reads nothing
but the recordings of the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from aiohttp import web
from markupsafe import Markup

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.report.event_clips import event_card
from rfcx_tf.serving.server.lifetime import start_site, stop_at_signal
from rfcx_tf.serving.server.this_machine import HOST, keep_private, refuse_others


async def serve_report(
    page: str, events: pd.DataFrame, recordings: Mapping[str, Path], port: int
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        page: of `report_page` with `served`.
        events: a table of `EVENT_COLUMNS`, whose index the page's rows name.
        recordings: paths by recording_id.
        port: 0: any free one.

    Raises:
        UserError: if the port cannot be had.
    """
    stop = stop_at_signal()
    runner = web.AppRunner(make_application(page, events, recordings), access_log=None)
    try:
        port = await start_site(runner, HOST, port, "--port")
        print(f"Open http://{HOST}:{port}/ in a browser on this machine.")
        print("Stop with Ctrl-C.", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def make_application(
    page: str, events: pd.DataFrame, recordings: Mapping[str, Path]
) -> web.Application:
    """The web application."""

    async def get_page(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def get_event(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number not in events.index:
            raise web.HTTPNotFound
        card = await asyncio.to_thread(_card, events.loc[[number]], recordings)
        return web.Response(text=card, content_type="text/html")

    application = web.Application(middlewares=[_guard])
    application.add_routes(
        [web.get("/", get_page), web.get("/events/{number:[0-9]{1,9}}", get_event)]
    )
    return application


@web.middleware
async def _guard(request: web.Request, handler) -> web.StreamResponse:
    refuse_others(request)
    response = await handler(request)
    keep_private(response)
    return response


def _card(rows: pd.DataFrame, recordings: Mapping[str, Path]) -> str:
    """The card of the only row, or why there is none."""
    (event,) = rows.assign(samples=[()]).itertuples()
    path = recordings.get(event.recording_id)
    if path is None:
        return Markup("<p>{} was not found. Name it with --audio.</p>").format(event.recording_id)
    try:
        return event_card(event, path, None)
    except AudioError as error:
        return Markup("<p>{}</p>").format(str(error))
