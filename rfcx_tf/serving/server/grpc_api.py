"""TensorFlow Serving's gRPC surface: PredictionService (Predict, GetModelMetadata) and ModelService
(GetModelStatus)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.python.framework.tensor_util import GetNumpyAppendFn
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from tensorflow_serving.apis.model_pb2 import ModelSpec

from rfcx_tf.serving.server.budget import BodyBudget, Room
from rfcx_tf.serving.server.model import ServedModel, claimed_values, read_request
from rfcx_tf.serving.server.service import PredictService, Request
from rfcx_tf.serving.server.status import ServingError, invalid_argument, too_many
from rfcx_tf.serving.server.wire import check_predict_request

# The most that one takes as an array.
_VALUE_BYTES = 8
_MAX_QUESTION_BYTES = 10_000


class GrpcApi:
    """Predict, GetModelMetadata and GetModelStatus; the other calls are not implemented.

    A call is taken as a stream of bytes: only so can it wait for room before its message is read,
    and be looked at before it is decoded. On the wire a stream of one message is the same.
    """

    def __init__(self, service: PredictService, budget: BodyBudget, max_message_bytes: int):
        self._service = service
        self._budget = budget
        self._max_message_bytes = max_message_bytes

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The calls by the names of their services."""
        calls = {
            "PredictionService": {
                "Predict": self._predict,
                "GetModelMetadata": self._metadata,
                **dict.fromkeys(("Classify", "Regress", "MultiInference"), self._refuse),
            },
            "ModelService": {
                "GetModelStatus": self._status,
                "HandleReloadConfigRequest": self._refuse,
            },
        }
        return [
            grpc.method_handlers_generic_handler(
                f"tensorflow.serving.{service}",
                {
                    name: grpc.stream_unary_rpc_method_handler(
                        self._answering(call), response_serializer=lambda r: r.SerializeToString()
                    )
                    for name, call in of_service.items()
                },
            )
            for service, of_service in calls.items()
        ]

    def _answering(self, call: Callable[[bytes, Room, float | None], Awaitable[Message]]):
        """The call with a message that had room, and its errors as gRPC has them."""

        async def answer(_, context: grpc.aio.ServicerContext) -> Message:
            try:
                # Its length is not known before it is there.
                async with self._budget.room(self._max_message_bytes) as room:
                    message = await self._budget.read(context.read())
                    if message is grpc.aio.EOF:
                        raise invalid_argument("The call has no message.")
                    return await call(message, room, context.time_remaining())
            except ServingError as error:
                try:
                    await context.abort(error.code, error.message)
                except grpc.aio.InternalError:
                    # gRPC has ended the call itself, such as one whose message was too large.
                    raise asyncio.CancelledError from None

        return answer

    async def _predict(
        self, message: bytes, room: Room, client_timeout_s: float | None
    ) -> predict_pb2.PredictResponse:
        def decode() -> predict_pb2.PredictRequest:
            check_predict_request(message)
            return _decoded(predict_pb2.PredictRequest, message)

        request = await self._service.in_thread(decode)
        claimed = sum(map(claimed_values, request.inputs.values()))
        self._budget.shrink(room, int(max(len(message), _VALUE_BYTES * claimed)))

        def read(model: ServedModel) -> Request:
            return read_request(model, request)

        def write(
            model: ServedModel, signature: str, outputs: dict[str, np.ndarray]
        ) -> predict_pb2.PredictResponse:
            response = predict_pb2.PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = model.version
            response.model_spec.signature_name = signature
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tensor_of(array))
            return response

        return await self._service.predict(
            "grpc", _target(request), read, write, room.waited_s, client_timeout_s
        )

    async def _metadata(self, message: bytes, *_) -> Message:
        request = _question(get_model_metadata_pb2.GetModelMetadataRequest, message)
        _check_metadata_fields(request)
        return self._service.metadata(_target(request))

    async def _status(self, message: bytes, *_) -> Message:
        request = _question(get_model_status_pb2.GetModelStatusRequest, message)
        return self._service.versions.status(*_target(request))

    async def _refuse(self, *_) -> Message:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            "This call is not served. Use Predict. The configuration is fixed.",
        )


def make_grpc_server(
    service: PredictService, budget: BodyBudget, max_message_bytes: int
) -> grpc.aio.Server:
    """The gRPC server, not yet bound to a port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            # A port that is taken is an error, not a second server on it.
            ("grpc.so_reuseport", 0),
            # Finds out about clients that went away without a word.
            ("grpc.keepalive_time_ms", 60_000),
        ]
    )
    server.add_generic_rpc_handlers(GrpcApi(service, budget, max_message_bytes).handlers())
    return server


def tensor_of(array: np.ndarray) -> TensorProto:
    """A tensor with its values in the field of their type, as TensorFlow Serving sends it.

    Clients that read `float_val` would find `tensor_content`, the compact form, empty.
    """
    shape = tf.TensorShape(array.shape).as_proto()
    dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    tensor = TensorProto(dtype=dtype, tensor_shape=shape)
    GetNumpyAppendFn(array.dtype)(tensor, array.ravel())
    return tensor


def _question(kind: type[Message], message: bytes) -> Message:
    """A request that names a model and little else, decoded."""
    if len(message) > _MAX_QUESTION_BYTES:
        raise too_many(f"A {kind.__name__}", "bytes", _MAX_QUESTION_BYTES)
    return _decoded(kind, message)


def _decoded(kind: type[Message], message: bytes) -> Message:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise invalid_argument(f"The message is no {kind.__name__}.") from None


def _target(request) -> tuple[str, int | None, str]:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec: ModelSpec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    return spec.name, version, spec.version_label


def _check_metadata_fields(request: get_model_metadata_pb2.GetModelMetadataRequest) -> None:
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid_argument(f"Metadata field {field} is not supported")
