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
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def zeros(shape: Iterable[int]) -> TensorProto:
    """A float32 tensor of zeros in a few bytes: the last value given stands for all that follow."""
    return TensorProto(
        dtype=tf.float32.as_datatype_enum,
        tensor_shape=tf.TensorShape(shape).as_proto(),
        float_val=[0.0],
    )


def write_warmup_requests(
    folder: Path, model_name: str, calls: Iterable[tuple[str, str, TensorProto, str]]
) -> None:
    """Writes requests into the folder of a version that no server sees yet.

    Args:
        folder: of the version.
        model_name: by which a server calls the model.
        calls: for each request the signature, the name and value of its one input, and the output
            that is asked for. Not all outputs: with batching on, TensorFlow Serving would batch
            such a request, then refuse it where an output is not [batch, ...], and a refused
            warm-up keeps the model from loading. It does not batch a request for one output.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, name, value, output in calls:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            request.inputs[name].CopyFrom(value)
            request.output_filter.append(output)
            writer.write(log.SerializeToString())
