"""What local servers share: they stop at a signal, and a port that is taken takes one line."""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web

from rfcx_tf.core.errors import UserError


def stop_at_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, _stop_once, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


async def start_site(runner: web.AppRunner, host: str, port: int, option: str) -> int:
    """Starts to answer HTTP; the port.

    Args:
        runner: of the application.
        host: address to listen on.
        port: 0: any free one.
        option: that names the port, for the error.

    Raises:
        UserError: if the port cannot be had.
    """
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise UserError(
            f"A port must be free. {bracketed(host)}:{port} cannot be had "
            f"({error.strerror}); name another {option}."
        ) from None
    return runner.addresses[0][1]


def bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _stop_once(stop: asyncio.Event) -> None:
    stop.set()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
