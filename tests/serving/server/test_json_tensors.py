"""Bodies as the documentation of TensorFlow Serving's REST API has them, by hand."""

import base64
import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rfcx_tf.serving.server.json_tensors import (
    TensorSpec,
    parse_body,
    read_inputs,
    signature_name,
    write_outputs,
)
from rfcx_tf.serving.server.status import ServingError

FLOATS = TensorSpec(np.dtype(np.float32), None)
STRINGS = TensorSpec(np.dtype(object), None)
INTEGERS = TensorSpec(np.dtype(np.int32), None)


def b64(value: bytes) -> dict:
    return {"b64": base64.b64encode(value).decode()}


@pytest.mark.parametrize(
    ("document", "specs", "expected"),
    [
        ({"instances": [[1, 2.5], [3, 4]]}, {"x": FLOATS}, {"x": [[1, 2.5], [3, 4]]}),
        ({"inputs": [[1, 2.5], [3, 4]]}, {"x": FLOATS}, {"x": [[1, 2.5], [3, 4]]}),
        ({"inputs": {"x": 7}}, {"x": INTEGERS}, {"x": 7}),
        ({"inputs": 7}, {"x": INTEGERS}, {"x": 7}),
        (
            {"instances": [{"tag": "a", "x": [1]}, {"tag": "b", "x": [2]}]},
            {"tag": STRINGS, "x": INTEGERS},
            {"tag": [b"a", b"b"], "x": [[1], [2]]},
        ),
        (
            {"inputs": {"tag": ["a", b64(b"\xff")], "x": [1, 2]}},
            {"tag": STRINGS, "x": INTEGERS},
            {"tag": [b"a", b"\xff"], "x": [1, 2]},
        ),
        ({"inputs": b64(b"RIFF")}, {"wav": STRINGS}, {"wav": b"RIFF"}),
        ({"instances": [b64(b"RIFF")]}, {"wav": STRINGS}, {"wav": [b"RIFF"]}),
        ({"inputs": []}, {"x": FLOATS}, {"x": []}),
    ],
)
def test_read_inputs(document, specs, expected):
    inputs = read_inputs(document, specs)
    assert inputs.keys() == expected.keys()
    for name, array in inputs.items():
        assert array.dtype == specs[name].dtype
        assert array.tolist() == expected[name]


@pytest.mark.parametrize(
    ("document", "specs", "words"),
    [
        ({}, {"x": FLOATS}, "Missing 'inputs' or 'instances'"),
        ({"inputs": 1, "instances": [1]}, {"x": FLOATS}, "only one of"),
        ({"instances": 3}, {"x": FLOATS}, "to be a list"),
        ({"instances": []}, {"x": FLOATS}, "No values"),
        ({"instances": [[1]]}, {"x": FLOATS, "y": FLOATS}, "list of objects"),
        ({"instances": [{"x": 1}, 2]}, {"x": FLOATS}, "got list at item 1"),
        ({"instances": [1, {"x": 1}]}, {"x": FLOATS}, "got object"),
        ({"instances": [{"y": 1}]}, {"x": FLOATS}, "keys must be equal to: x"),
        ({"inputs": {"y": 1}}, {"x": FLOATS}, "Missing named input: x"),
        ({"inputs": [[1], [1, 2]]}, {"x": FLOATS}, "unexpected size"),
        ({"inputs": [1, [1]]}, {"x": FLOATS}, "unexpected size"),
        ({"inputs": ["1.5"]}, {"x": FLOATS}, "not of expected type: float32"),
        ({"inputs": [True]}, {"x": FLOATS}, "not of expected type: float32"),
        ({"inputs": [None]}, {"x": FLOATS}, "not of expected type: float32"),
        ({"inputs": [1e39]}, {"x": FLOATS}, "without loss"),
        ({"inputs": [1.0]}, {"x": INTEGERS}, "not of expected type: int32"),
        ({"inputs": [2**31]}, {"x": INTEGERS}, "without loss"),
        ({"inputs": [2**70]}, {"x": INTEGERS}, "without loss"),
        ({"inputs": [10**400]}, {"x": FLOATS}, "without loss"),
        ({"inputs": [1, True]}, {"x": FLOATS}, "not of expected type: float32"),
        # NumPy would give each the room of the longest: 40 GB.
        ({"inputs": ["a" * 10**6] + [""] * 10_000}, {"x": FLOATS}, "expected type: float32"),
        ({"inputs": [1]}, {"x": STRINGS}, "not of expected type: string"),
        ({"inputs": {"b64": "!"}}, {"x": STRINGS}, "base64"),
        ({"inputs": [["a"], ["a", "b"]]}, {"x": STRINGS}, "unexpected size"),
    ],
)
def test_refuses(document, specs, words):
    with pytest.raises(ServingError, match=words) as raised:
        read_inputs(document, specs)
    assert raised.value.http_status == 400


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b"RIFF\x00\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_refuses_what_is_not_a_json_object(body):
    with pytest.raises(ServingError) as raised:
        parse_body(body)
    assert raised.value.http_status == 400


@pytest.mark.parametrize("innermost", [1, "a"])
def test_lists_within_lists_have_a_limit(innermost):
    def nested(depth):
        value = innermost
        for _ in range(depth):
            value = [value]
        return {"inputs": value}

    spec = {"x": FLOATS if innermost == 1 else STRINGS}
    assert read_inputs(nested(32), spec)["x"].shape == (1,) * 32
    for depth in (33, 300):
        with pytest.raises(ServingError, match="32 lists within each other"):
            read_inputs(nested(depth), spec)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"inputs": [' + b"[]," * 200_000 + b"[]]}", "200000 lists, objects and texts"),
        (b'{"inputs": ' + b"[" * 200_001, "200000 lists, objects and texts"),
        (b'{"inputs": [' + b'"",' * 200_000 + b'""]}', "200000 lists, objects and texts"),
        (b'{"inputs": [' + b"0," * 8_000_001 + b"0]}", "8000000 values"),
    ],
)
def test_parts_are_counted_before_they_are_read(monkeypatch, content, words):
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("was read"))
    with pytest.raises(ServingError, match=words) as raised:
        parse_body(content)
    assert raised.value.http_status == 413


def test_packed_bodies():
    body = b'{"inputs": [1.5]}'
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        assert parse_body(packed, encoding) == {"inputs": [1.5]}
        # At its end are a checksum and, of gzip, the length.
        flipped = packed[:-8] + bytes(255 - byte for byte in packed[-8:])
        for broken in (packed[:-1], flipped, b"", body, packed + packed):
            with pytest.raises(ServingError, match=f"not whole {encoding}") as raised:
                parse_body(broken, encoding)
            assert raised.value.http_status == 400
        assert parse_body(packed, encoding, len(body))
        with pytest.raises(ServingError, match="may have 16 bytes") as raised:
            parse_body(packed, encoding, len(body) - 1)
        assert raised.value.http_status == 413


def test_nan_and_infinity_are_read_as_tensorflow_serving_does():
    document = parse_body(b'{"inputs": [NaN, Infinity, -Infinity]}')
    np.testing.assert_array_equal(
        read_inputs(document, {"x": FLOATS})["x"], [np.nan, np.inf, -np.inf]
    )


def test_signature_name():
    assert signature_name({}) == "serving_default"
    assert signature_name({"signature_name": "wav"}) == "wav"
    with pytest.raises(ServingError, match="must be a string"):
        signature_name({"signature_name": 100})


def test_write_rows_and_columns():
    scores, start_s = np.float32([[0.1, 0.2], [0.3, np.nan]]), np.float32([0, 2.5])
    names, raw = np.array([b"a", b"b"], object), np.array([b"\xff", b""], object)
    assert write_outputs({"scores": scores}, True) == b'{"predictions":[[0.1,0.2],[0.3,NaN]]}'
    assert write_outputs({"scores": scores[:1]}, False) == b'{"outputs":[[0.1,0.2]]}'
    both = {"names": names, "raw_bytes": raw}
    assert json.loads(write_outputs(both, True)) == {
        "predictions": [
            {"names": "a", "raw_bytes": {"b64": "/w=="}},
            {"names": "b", "raw_bytes": {"b64": ""}},
        ]
    }
    assert json.loads(write_outputs({"scores": scores[:1], "start_s": start_s}, False)) == {
        "outputs": {"scores": [[0.1, 0.2]], "start_s": [0.0, 2.5]}
    }


@pytest.mark.parametrize(
    ("common", "words"),
    [
        (np.float32([1, 2, 3]), "inconsistent batch size: 3 expecting: 2.*'inputs'"),
        (np.float32(1), "no shape information.*'inputs'"),
    ],
)
def test_rows_need_outputs_with_a_row_each(common, words):
    with pytest.raises(ServingError, match=words) as raised:
        write_outputs({"scores": np.zeros((2, 3), np.float32), "window_start_s": common}, True)
    assert raised.value.http_status == 400


@given(arrays.arrays(np.float32, (2, 5), elements=st.floats(width=32)))
def test_floats_survive_the_way_there_and_back(values):
    text = write_outputs({"x": values}, row_format=False).replace(b'"outputs"', b'"inputs"')
    again = read_inputs(json.loads(text), {"x": FLOATS})["x"]
    np.testing.assert_array_equal(again, values)
