"""The bytes of a gRPC PredictRequest -> a refusal where reading them would take too much.

Protobuf makes an object of seventy bytes of an empty message of two. So its fields are counted
first, in the bytes: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

from rfcx_tf.serving.server.json_tensors import MAX_PARTS, MAX_VALUES
from rfcx_tf.serving.server.status import ServingError, invalid_argument, too_many

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
# Numbers of fields: PredictRequest.inputs, its values, and of TensorProto.
_INPUTS, _VALUE, _SHAPE = 2, 2, 2
# Fields of TensorProto whose values take as much room as their bytes: tensor_content, float_val,
# double_val, string_val, scomplex_val, dcomplex_val.
_AS_LONG = (4, 5, 6, 8, 9, 12)
# resource_handle_val, variant_val: no signature takes them.
_REFUSED = (14, 15)


def check_predict_request(message: bytes) -> None:
    """ServingError for what has too many parts, is cut short or holds tensors of other kinds."""
    left = MAX_PARTS

    def fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
        nonlocal left
        for field in _fields(data):
            left -= 1
            if left < 0:
                raise too_many("A request", "fields", MAX_PARTS)
            yield field

    try:
        for number, entry in fields(memoryview(message)):
            for key, tensor in fields(entry) if number == _INPUTS else ():
                for name, value in fields(tensor) if key == _VALUE else ():
                    if name in _REFUSED:
                        raise invalid_argument("Inputs must be numbers or strings.")
                    if name == _SHAPE:
                        for _ in fields(value):
                            pass
                    elif name not in _AS_LONG and len(value) > MAX_VALUES:
                        raise too_many("A tensor", "values in a field of integers", MAX_VALUES)
    except IndexError:
        raise _no_request() from None


def _no_request() -> ServingError:
    return invalid_argument("The message is no PredictRequest.")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field, empty for a single number; IndexError at a cut."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        size = 0
        if key & 7 == _BYTES:
            size, at = _varint(data, at)
        elif key & 7 == _VARINT:
            _, at = _varint(data, at)
        elif key & 7 in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if key & 7 == _EIGHT_BYTES else 4
        else:
            raise _no_request()
        if at + size > end:
            raise IndexError
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins there, of at most ten bytes, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _no_request()
