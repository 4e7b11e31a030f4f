"""A request that fails for a moment is sent again, after growing waits of random length."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from rfcx_tf.scoring.scorer import ScoringError

Reply = TypeVar("Reply")


class RequestError(ScoringError):
    """A request without a usable reply; the message is one line.

    Attributes:
        retryable: whether the same request may succeed later.
        wait_s: how long the server asks to be left alone; None where it does not say.
    """

    def __init__(self, message: str, *, retryable: bool = False, wait_s: float | None = None):
        super().__init__(" ".join(message.split()))
        self.retryable = retryable
        self.wait_s = wait_s


@dataclass(frozen=True)
class RetryRules:
    """How often and when a request is sent again.

    The n-th wait (n = 0, 1, ...) is drawn evenly between half and all of
    first_wait_s * 2^n, at most longest_wait_s: without the draw, all clients that a restart
    of the server cut off would come back at the same moment.

    Attributes:
        retries: after the first attempt.
        first_wait_s, longest_wait_s: see above. A server that asks for a longer wait gets it,
            up to longest_wait_s.
    """

    retries: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def wait_s(self, attempt: int, asked_s: float | None = None) -> float:
        """Seconds to wait after this attempt (0 is the first)."""
        # Not 2^n for any n: it would overflow after some thousand attempts.
        full_s = self.first_wait_s * 2 ** min(attempt, 30)
        drawn_s = full_s * random.uniform(0.5, 1.0)
        return min(self.longest_wait_s, max(drawn_s, asked_s or 0.0))


async def call_with_retries(call: Callable[[], Awaitable[Reply]], rules: RetryRules) -> Reply:
    """The reply of `call`, which is made again while it raises a retryable `RequestError`.

    The last `RequestError` says how often it was tried.
    """
    for attempt in range(rules.retries + 1):
        try:
            return await call()
        except RequestError as error:
            if not error.retryable:
                raise
            if attempt == rules.retries:
                if attempt == 0:
                    raise
                text = str(error).rstrip(".")
                raise RequestError(f"{text}. Tried {attempt + 1} times.") from None
            wait_s = rules.wait_s(attempt, error.wait_s)
        await asyncio.sleep(wait_s)
    raise AssertionError("a loop of at least one attempt returns or raises")
