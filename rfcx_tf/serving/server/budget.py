"""Bytes of requests that may be in the server at once: who waits for room, and who gives way.

Room is taken before a body is read and given back when its request is answered. A request that
finds none waits unread. A body that has been coming for long gives way to those that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from rfcx_tf.serving.server.status import ServingError

Body = TypeVar("Body")
# A body that is not whole after this part of the time that others may wait gives way to them.
_PATIENCE = 1 / 4
_READ_AT_STOP_S = 1.0


@dataclass
class Room:
    """What one request holds.

    Attributes:
        size: in bytes.
        waited_s: how long the request waited for it.
    """

    size: int
    waited_s: float


class BodyBudget:
    """Room for the bodies of all requests by one protocol."""

    def __init__(self, total_bytes: int, read_timeout_s: float, wait_s: float):
        """
        Args:
            total_bytes: of all requests together.
            read_timeout_s: how long a body may be on its way.
            wait_s: how long a request may wait for room.
        """
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._read_timeout_s = read_timeout_s
        self._wait_s = wait_s
        self._waiting: set[asyncio.Future] = set()
        # When the bodies that are being read began, the oldest first.
        self._reading: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[Room]:
        """Holds room for so many bytes.

        Raises:
            ServingError: UNAVAILABLE if there was none in time.
        """
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        size = min(size, self._total_bytes)
        try:
            async with asyncio.timeout(self._wait_s):
                while self._free_bytes < size:
                    waiter = loop.create_future()
                    self._waiting.add(waiter)
                    self._hurry_oldest()
                    try:
                        await waiter
                    finally:
                        self._waiting.discard(waiter)
        except TimeoutError:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"Bodies of other requests fill the {self._total_bytes} bytes that all together "
                f"may have, and did so for {self._wait_s:g} s. Try again later.",
            ) from None
        self._free_bytes -= size
        room = Room(size, loop.time() - begin_s)
        try:
            yield room
        finally:
            self._give_back(room.size)

    def shrink(self, room: Room, size: int) -> None:
        """Gives back what a request turned out not to need."""
        spare = max(room.size - size, 0)
        room.size -= spare
        self._give_back(spare)

    async def read(self, body: Awaitable[Body]) -> Body:
        """Waits for a body that has room.

        Raises:
            ServingError: DEADLINE_EXCEEDED, HTTP status 408, if it does not come in time.
        """
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        try:
            async with asyncio.timeout(self._read_timeout_s) as timeout:
                self._reading[timeout] = begin_s
                try:
                    if self._waiting:
                        self._hurry_oldest()
                    return await body
                finally:
                    del self._reading[timeout]
        except TimeoutError:
            raise ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"The request's body was not complete after {loop.time() - begin_s:.0f} s: its "
                "time was up, others waited for its room, or the server stopped. Send it again.",
                http_status=408,
            ) from None

    def stop(self) -> None:
        """Gives all bodies a last second: a server that stops does not wait for who hangs."""
        end_s = asyncio.get_running_loop().time() + _READ_AT_STOP_S
        for timeout in self._reading:
            _bring_forward(timeout, end_s)

    def _give_back(self, size: int) -> None:
        self._free_bytes += size
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _hurry_oldest(self) -> None:
        for timeout, begin_s in self._reading.items():
            _bring_forward(timeout, begin_s + _PATIENCE * self._wait_s)
            break


def _bring_forward(timeout: asyncio.Timeout, end_s: float) -> None:
    # One that has run out cannot be moved any more.
    if not timeout.expired() and end_s < timeout.when():
        timeout.reschedule(end_s)
