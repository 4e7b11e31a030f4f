"""Bodies as the documentation of TensorFlow Serving's REST API has them, by hand."""

import base64
import json

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
