"""A connection to a served model, for threads that wait for its replies."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.scorer import ScoringError
from rfcx_tf.scoring.served.retries import RetryRules, call_with_retries
from rfcx_tf.scoring.served.transport import Transport

SCHEMES = ("http", "https", "grpc")

Reply = TypeVar("Reply")


class Connection:
    """A transport in an event loop of its own, which a thread runs until `close`.

    Attributes:
        transport: see `Transport`.
    """

    def __init__(self, server: str, model: str, timeout_s: float, rules: RetryRules):
        """Opens the connection; nothing is sent yet.

        Args:
            server: http://HOST:8501, https://HOST or grpc://HOST:8500.
            model: name of the served model.
            timeout_s: for each attempt of a request, from its first byte to its reply's last.
            rules: how often a request is sent again.

        Raises:
            UserError: if the address has another form.
        """
        self._rules = rules
        scheme, address = split_server(server)
        # Between requests and the end.
        self._lock = threading.Lock()
        opened = Future()

        async def live() -> None:
            try:
                transport = _open_transport(scheme, address, model, timeout_s)
            except BaseException as error:
                opened.set_exception(error)
                return
            end = asyncio.Event()
            opened.set_result((transport, asyncio.get_running_loop(), end))
            await end.wait()
            # What is on its way fails or, after this, is cancelled.
            await transport.close()

        name = f"connection to {server}"
        thread = threading.Thread(target=lambda: asyncio.run(live()), name=name, daemon=True)
        thread.start()
        self.transport, self._loop, end = opened.result()
        # At the end of the process too, and of a connection that nobody holds any more.
        self._end = weakref.finalize(self, _end, self._loop, end, thread)

    def send(self, call: Callable[[], Awaitable[Reply]]) -> Future[Reply]:
        """Makes a call of the transport, again if need be.

        Raises:
            ScoringError: if the connection is closed. The future has the call's own errors, and is
                cancelled when the connection is closed meanwhile.
        """
        with self._lock:
            if not self._end.alive:
                raise ScoringError("the connection to the server was closed.")
            calls = call_with_retries(call, self._rules)
            return asyncio.run_coroutine_threadsafe(calls, self._loop)

    def close(self) -> None:
        """Gives up what is on its way."""
        with self._lock:
            self._end()


def _end(loop: asyncio.AbstractEventLoop, end: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(end.set)
    if thread is not threading.current_thread():
        thread.join()


def _open_transport(scheme: str, address: str, model: str, timeout_s: float) -> Transport:
    """A transport for the event loop that this is called in."""
    # gRPC brings TensorFlow along, which takes seconds to import; REST does without.
    if scheme == "grpc":
        from rfcx_tf.scoring.served.grpc_transport import GrpcTransport

        return GrpcTransport(address, model, timeout_s)
    from rfcx_tf.scoring.served.rest_transport import RestTransport

    return RestTransport(f"{scheme}://{address}", model, timeout_s)


def split_server(server: str) -> tuple[str, str]:
    """Scheme and address of a server; UserError if one lacks, or the port of a gRPC address."""
    scheme, _, address = server.rstrip("/").partition("://")
    has_port = address.rpartition(":")[2].isdecimal()
    if scheme not in SCHEMES or not address or (scheme == "grpc" and not has_port):
        raise UserError(
            "--server is http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT; TensorFlow "
            f"Serving listens on 8501 for REST and 8500 for gRPC. Received: {server!r}."
        )
    return scheme, address
