"""What the client needs of a connection, REST or gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Signature:
    """Names of what a served function takes and gives.

    Attributes:
        inputs, outputs: in alphabetical order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Transport(Protocol):
    """A connection to one model of one server.

    Attributes:
        address: of the model, to tell it from others.
        packs_floats: whether a waveform travels as its four bytes a sample. JSON has none: there
            it is better sent as the bytes of a WAV file.

    Methods raise `RequestError` where there is no usable reply.
    """

    address: str
    packs_floats: bool

    async def describe(self) -> tuple[str, dict[str, Signature]]:
        """The version that answers (empty where it does not say), and the functions by name."""

    def encode(
        self, signature: str, inputs: dict[str, np.ndarray | list[bytes]], outputs: Sequence[str]
    ) -> Any:
        """A request as it travels. It takes long for a waveform: made once, in a thread."""

    async def predict(self, request: Any) -> dict[str, np.ndarray]:
        """The outputs of an encoded request by name."""

    async def close(self) -> None:
        """Ends the connection; requests on their way are given up."""
