"""TensorFlow Serving's JSON <-> arrays: the bodies of `:predict` and of its answer.

The format is that of https://www.tensorflow.org/tfx/serving/api_rest, with the error messages of
tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import itertools
import json
import reprlib
import zlib
from dataclasses import dataclass

import grpc
import numpy as np

from rfcx_tf.serving.server.status import ServingError, invalid_argument, too_many

# What a body may be packed by, and zlib's number for it: gzip or zlib, by its first bytes.
ENCODINGS = ("gzip", "deflate")
_ANY_HEADER = 47
# Of one request. Decoding takes up to a quarter of a GiB and some seconds of Python's lock.
MAX_PARTS, MAX_VALUES = 200_000, 8_000_000
# NumPy has arrays of so many dimensions.
_MAX_RANK = 32
# The keys of a request in row format and of one in column format.
ROWS, COLUMNS = "instances", "inputs"


@dataclass(frozen=True)
class TensorSpec:
    """What a signature says of one of its tensors.

    Attributes:
        dtype: NumPy's type; `object` for strings.
        shape: sizes, None where any size fits; None as a whole if any rank fits.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None


def too_large(found: int | str, max_bytes: int) -> ServingError:
    """The error of a body of so many bytes."""
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"A request's body may have {max_bytes} bytes. Received: {found}. Send a shorter "
        "recording, or the WAV file as base64 instead of a list of numbers.",
        http_status=413,
    )


def parse_body(body: bytes, encoding: str = "", max_bytes: int = 2**26) -> dict:
    """The JSON object in a request's body.

    Args:
        body: as it was sent.
        encoding: how it is packed, one of `ENCODINGS`; empty for not at all.
        max_bytes: of the unpacked body.

    Raises:
        ServingError: INVALID_ARGUMENT if it is none, RESOURCE_EXHAUSTED if it is too large.
    """
    if encoding:
        body = _unpacked(body, encoding, max_bytes)
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    # Before anything is made of them: a list takes thirty times its two letters.
    parts = body.count(b"[") + body.count(b"{") + body.count(b'"') // 2
    if parts > MAX_PARTS:
        raise too_many("A JSON body", "lists, objects and texts", MAX_PARTS)
    if body.count(b",") > MAX_VALUES:
        raise too_many("A JSON body", "values", MAX_VALUES)
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid_argument(
            f"JSON Parse error: not UTF-8 at offset: {error.start}. Send bytes, such as a WAV "
            'file, as {"b64": "..."}'
        ) from None
    except (RecursionError, ValueError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {_brief(document)} Is not object")
    return document


def signature_name(document: dict) -> str:
    """The signature that a request names, or the default one; ServingError if it is no string."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_brief(name)} not formatted correctly. 'signature_name' key must be a "
            "string value."
        )
    return name or "serving_default"


def read_inputs(document: dict, specs: dict[str, TensorSpec]) -> dict[str, np.ndarray]:
    """The arrays of a request, in the types of the signature's inputs.

    Raises:
        ServingError: INVALID_ARGUMENT if the request is not in either format, does not name these
            inputs, or a value is of another type; UNIMPLEMENTED for a type that JSON cannot carry.
    """
    if ROWS in document and COLUMNS in document:
        raise invalid_argument(
            f"Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' keys to exist"
        )
    if ROWS in document:
        columns = _columns_of_rows(document[ROWS], specs)
    elif COLUMNS in document:
        columns = _columns(document[COLUMNS], specs)
    else:
        raise invalid_argument(f"Missing '{COLUMNS}' or '{ROWS}' key")
    return {name: _array(columns[name], name, spec) for name, spec in specs.items()}


def write_outputs(outputs: dict[str, np.ndarray], row_format: bool) -> bytes:
    """The answer's body: `predictions`, one entry a row, or `outputs`, one a tensor.

    A single tensor stands without its name, as TensorFlow Serving has it.

    Raises:
        ServingError: INVALID_ARGUMENT if the outputs have no rows in common.
    """
    if row_format:
        _check_rows(outputs)
    values = {name: _json_values(array, name) for name, array in outputs.items()}
    if len(values) == 1:
        (values,) = values.values()
    elif row_format:
        values = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    document = {"predictions" if row_format else "outputs": values}
    return json.dumps(document, separators=(",", ":")).encode("utf-8")


def _columns_of_rows(rows, specs: dict[str, TensorSpec]) -> dict[str, list]:
    if not isinstance(rows, list):
        raise invalid_argument(f"Expecting '{ROWS}' to be a list/array")
    if not rows:
        raise invalid_argument(f"No values in '{ROWS}' array")
    if not _is_named(rows[0]):
        if len(specs) > 1:
            raise invalid_argument(
                f"{ROWS} is a plain list, but expecting list of objects as multiple input tensors "
                f"required: {','.join(sorted(specs))}"
            )
        if any(_is_named(row) for row in rows):
            raise invalid_argument(f"Expecting value/list but got object in '{ROWS}' list")
        return {next(iter(specs)): rows}
    for number, row in enumerate(rows):
        if not _is_named(row):
            raise invalid_argument(f"Expecting object but got list at item {number} of input list")
        if row.keys() != specs.keys():
            raise invalid_argument(
                f"Failed to process element: {number} of '{ROWS}' list. Its keys are "
                f"{','.join(sorted(row))}; keys must be equal to: {','.join(sorted(specs))}"
            )
    return {name: [row[name] for row in rows] for name in specs}


def _columns(value, specs: dict[str, TensorSpec]) -> dict[str, object]:
    if not _is_named(value):
        if len(specs) > 1:
            raise invalid_argument(
                f"{COLUMNS} is a plain value/list, but expecting an object as multiple input "
                f"tensors required: {','.join(sorted(specs))}"
            )
        return {next(iter(specs)): value}
    for name in specs:
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in '{COLUMNS}' object.")
    return value


def _unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        content = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise invalid_argument(f"The body is not whole {encoding}: {error}.") from None
    if len(content) > max_bytes:
        raise too_large(f"more, packed as {encoding}", max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        what = "more follows its end" if unpacker.eof else "its end is missing"
        raise invalid_argument(f"The body is not whole {encoding}: {what}.")
    return content


def _is_base64(value) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _array(value, name: str, spec: TensorSpec) -> np.ndarray:
    if spec.dtype == object:
        return _string_array(value, name)
    if spec.dtype.kind not in "fiub":
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value to type: {spec.dtype} of input {name}",
        )
    shape, values = _flattened(value, name)
    # Whole numbers pass for floats, not the other way round; text and booleans for neither.
    wanted = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}[spec.dtype.kind]
    kinds = set(map(type, values))
    if not kinds <= wanted:
        if list in kinds:
            raise _ragged(name)
        raise _other_type(next(v for v in values if type(v) not in wanted), name, spec.dtype)
    try:
        array = np.asarray(values, float if spec.dtype.kind == "f" else None)
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(spec.dtype)
    except OverflowError:
        kept = False
    else:
        if spec.dtype.kind == "f":
            kept = np.array_equal(np.isfinite(converted), np.isfinite(array))
        else:
            kept = np.array_equal(converted, array)
    if not kept:
        raise invalid_argument(
            f"Cannot convert JSON value of input {name} to {spec.dtype} without loss of precision."
        )
    return converted.reshape(shape)


def _string_array(value, name: str) -> np.ndarray:
    shape, values = _flattened(value, name)
    array = np.empty(len(values), object)
    for number, item in enumerate(values):
        if isinstance(item, str):
            array[number] = item.encode("utf-8", "surrogatepass")
        elif _is_base64(item):
            text = item["b64"]
            try:
                array[number] = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except ValueError:
                raise invalid_argument(f"Unable to base64 decode input {name}") from None
        elif isinstance(item, list):
            raise _ragged(name)
        else:
            raise _other_type(item, name, "string")
    return array.reshape(shape)


def _flattened(value, name: str) -> tuple[list[int], list]:
    """The sizes of lists within lists, and the innermost values in order.

    Level by level, in time that grows with their number; only the first value of a level decides
    whether it is the innermost.
    """
    shape, values = [], [value]
    while values and isinstance(values[0], list):
        size = len(values[0])
        if not all(isinstance(item, list) and len(item) == size for item in values):
            raise _ragged(name)
        if len(shape) == _MAX_RANK:
            raise invalid_argument(f"Input {name} may have {_MAX_RANK} lists within each other.")
        shape.append(size)
        values = list(itertools.chain.from_iterable(values))
    return shape, values


def _ragged(name: str) -> ServingError:
    return invalid_argument(
        f"Encountered list at unexpected size in input {name}: the lists of one level must be "
        "of one length, and hold either lists or values"
    )


def _other_type(value, name: str, wanted) -> ServingError:
    return invalid_argument(
        f"JSON Value: {_brief(value)} of input {name} is not of expected type: {wanted}"
    )


def _check_rows(outputs: dict[str, np.ndarray]) -> None:
    advice = f"Send the request in column format ('{COLUMNS}' instead of '{ROWS}')."
    batch_size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information. {advice}")
        if batch_size not in (None, len(array)):
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: "
                f"{batch_size}. {advice}"
            )
        batch_size = len(array)


def _json_values(array: np.ndarray, name: str):
    kind = array.dtype.kind
    if kind == "f":
        # By way of text: the shortest decimal that reads back as the same float32.
        return array.astype(str).astype(np.float64).tolist()
    if kind in "iub":
        return array.tolist()
    if kind == "O":
        return _json_strings(array.tolist(), name.endswith("_bytes"), name)
    raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype}")


def _json_strings(value: bytes | list, as_bytes: bool, name: str):
    if isinstance(value, list):
        return [_json_strings(item, as_bytes, name) for item in value]
    if as_bytes:
        return {"b64": base64.b64encode(value).decode("ascii")}
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid_argument(
            f"Failed to write JSON value: output {name} holds bytes that are not UTF-8 text"
        ) from None


def _brief(value) -> str:
    # Python's own text of a value has all of it.
    return reprlib.repr(value)
