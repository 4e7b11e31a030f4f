"""What the client needs of a connection, and how `--server` chooses one: REST or gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rfcx_tf.core.errors import UserError

SCHEMES = ("http", "https", "grpc")


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


def open_transport(server: str, model: str, timeout_s: float) -> Transport:
    """A connection; must be called inside the event loop that uses it.

    Args:
        server: http://HOST:8501, https://HOST or grpc://HOST:8500.
        model: name of the served model.
        timeout_s: for each attempt of a request, from its first byte to its reply's last.

    Raises:
        UserError: if the address has another form.
    """
    scheme, address = split_server(server)
    # gRPC brings TensorFlow along, which takes seconds to import; REST does without.
    if scheme == "grpc":
        from rfcx_tf.scoring.served.grpc_transport import GrpcTransport

        return GrpcTransport(address, model, timeout_s)
    from rfcx_tf.scoring.served.rest_transport import RestTransport

    return RestTransport(f"{scheme}://{address}", model, timeout_s)


def split_server(server: str) -> tuple[str, str]:
    """Scheme and address of a server.

    Raises:
        UserError: if it is not scheme://address, or a gRPC address lacks its port.
    """
    scheme, _, address = server.rstrip("/").partition("://")
    has_port = address.rpartition(":")[2].isdecimal()
    if scheme not in SCHEMES or not address or (scheme == "grpc" and not has_port):
        raise UserError(
            "--server is http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT; TensorFlow "
            f"Serving listens on 8501 for REST and 8500 for gRPC. Received: {server!r}."
        )
    return scheme, address
