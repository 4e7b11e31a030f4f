"""Messages as protobuf itself writes them, and by hand."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from rfcx_tf.serving.server import wire
from rfcx_tf.serving.server.status import ServingError
from rfcx_tf.serving.server.wire import check_predict_request


def request_of(**tensors) -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.version.value = 2**62
    for name, tensor in tensors.items():
        request.inputs[name].CopyFrom(tensor)
    return request


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 3), np.float32), np.arange(300), ["a", "b" * 200], np.float64([1, -1]), True],
)
def test_usual_requests_pass(values):
    request = request_of(x=tf.make_tensor_proto(values), y=tf.make_tensor_proto(7))
    request.output_filter.extend(["scores", "windows"])
    check_predict_request(request.SerializeToString())


def many_strings(request, count):
    request.inputs["x"].string_val.extend([b""] * count)


def many_sizes(request, count):
    for _ in range(count):
        request.inputs["x"].tensor_shape.dim.add()


def many_filters(request, count):
    request.output_filter.extend([""] * count)


def many_inputs(request, count):
    for number in range(count):
        request.inputs[str(number)].dtype = 1


@pytest.mark.parametrize("more", [many_strings, many_sizes, many_filters, many_inputs])
def test_fields_are_counted_wherever_they_are(monkeypatch, more):
    monkeypatch.setattr(wire, "MAX_PARTS", 100)
    request = request_of()
    more(request, 5)
    check_predict_request(request.SerializeToString())
    more(request, 200)
    with pytest.raises(ServingError, match="may have 100 fields") as caught:
        check_predict_request(request.SerializeToString())
    assert caught.value.http_status == 413


def test_integers_are_counted_since_they_take_more_than_their_bytes(monkeypatch):
    monkeypatch.setattr(wire, "MAX_VALUES", 100)
    for field, refused in (("int64_val", True), ("bool_val", True), ("float_val", False)):
        request = request_of()
        getattr(request.inputs["x"], field).extend([1] * 101)
        message = request.SerializeToString()
        if refused:
            with pytest.raises(ServingError, match="may have 100 values"):
                check_predict_request(message)
        else:
            check_predict_request(message)


def test_tensors_that_are_neither_numbers_nor_strings():
    for field in ("resource_handle_val", "variant_val"):
        request = request_of()
        getattr(request.inputs["x"], field).add()
        with pytest.raises(ServingError, match="numbers or strings"):
            check_predict_request(request.SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        b"\xff" * 100,
        b"\x12",
        b"\x12\x05ab",
        # A group, which no request has.
        b"\x13\x14",
        b"\x08" + b"\x80" * 11 + b"\x00",
    ],
)
def test_what_is_no_request_is_refused(message):
    with pytest.raises(ServingError, match="no PredictRequest"):
        check_predict_request(message)


def test_a_message_that_is_cut_is_refused():
    message = request_of(x=tf.make_tensor_proto(["a" * 50])).SerializeToString()
    for length in range(len(message) - 50, len(message)):
        with pytest.raises(ServingError, match="no PredictRequest"):
            check_predict_request(message[:length])
