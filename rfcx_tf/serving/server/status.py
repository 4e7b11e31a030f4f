"""How a request can fail: a gRPC status code with a message, and its HTTP status."""

from __future__ import annotations

import re

import grpc

# TensorFlow Serving's table (model_servers/http_server.cc); all others are 500.
_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
# TensorFlow's error codes are gRPC's.
_CODE_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
# A gRPC message travels in a header, and headers are small.
_LONGEST_MESSAGE = 2000


class ServingError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: the gRPC status code.
        message: one text for the client.
        http_status: the HTTP status, by default that of the code.
    """

    def __init__(self, code: grpc.StatusCode, message: str, http_status: int | None = None):
        super().__init__(message)
        self.code = code
        self.message = message[:_LONGEST_MESSAGE]
        self.http_status = http_status or _HTTP_STATUS.get(code, 500)


def invalid_argument(message: str) -> ServingError:
    """The error of a request that is wrong whatever the server's state."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def too_many(whole: str, parts: str, most: int) -> ServingError:
    """The error of a request that would take too much time and memory to decode."""
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"{whole} may have {most} {parts}. Received: more. Send sound as the bytes of a WAV file, "
        "or in several requests.",
        http_status=413,
    )


def error_of(exception: Exception) -> ServingError:
    """What a client is told of an exception; TensorFlow's own keep their code and message."""
    if isinstance(exception, ServingError):
        return exception
    number = getattr(exception, "error_code", None)
    if isinstance(number, int) and number in _CODE_OF_NUMBER:
        return ServingError(_CODE_OF_NUMBER[number], op_message(exception))
    return ServingError(
        grpc.StatusCode.INTERNAL, f"The server failed ({type(exception).__name__}); see its log."
    )


def op_message(exception: Exception) -> str:
    """The part of a TensorFlow error that says what is wrong, without where in the graph."""
    text = str(getattr(exception, "message", exception))
    text = re.sub(r"(?s)^.*<stack traces unavailable>\n", "", text)
    text = re.sub(r"(?s)\n?\t? \[\[\{\{.*$", "", text)
    return text.strip()
