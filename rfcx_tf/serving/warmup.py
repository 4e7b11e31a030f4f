"""Requests that a server runs before it says that a model is ready.

The first request of a signature is slow: memory is taken, kernels are made and, on a GPU, chosen.
TensorFlow Serving runs `assets.extra/tf_serving_warmup_requests` for that, a TFRecord file of
`PredictionLog` messages, as it loads a version.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def warmup_request(signature: str, name: str, value: TensorProto, output: str) -> PredictRequest:
    """A request of one signature.

    Args:
        signature: that is called.
        name, value: of its one input.
        output: the one that is asked for. Not all: with batching on, TensorFlow Serving would
            batch a request for all outputs, then refuse it where one is not [batch, ...], and a
            refused warm-up keeps the model from loading. A request for a part goes past that.
    """
    request = PredictRequest(inputs={name: value}, output_filter=[output])
    request.model_spec.signature_name = signature
    return request


def zeros(shape: Iterable[int]) -> TensorProto:
    """A float32 tensor of zeros in a few bytes: the last value given stands for all that follow."""
    return TensorProto(
        dtype=tf.float32.as_datatype_enum,
        tensor_shape=tf.TensorShape(shape).as_proto(),
        float_val=[0.0],
    )


def write_warmup_requests(
    folder: Path, model_name: str, requests: Iterable[PredictRequest]
) -> None:
    """Writes the requests into the folder of a version that no server sees yet."""
    path = folder / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            request.model_spec.name = model_name
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
