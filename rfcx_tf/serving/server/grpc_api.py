"""TensorFlow Serving's gRPC surface: PredictionService (Predict, GetModelMetadata) and ModelService
(GetModelStatus)."""

from __future__ import annotations

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.python.framework.tensor_util import GetNumpyAppendFn
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec

from rfcx_tf.serving.server.model import ServedModel, read_request
from rfcx_tf.serving.server.service import PredictService, Request
from rfcx_tf.serving.server.status import ServingError, invalid_argument


def _refuse(message: str):
    async def call(self, request, context):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    return call


class GrpcApi(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Predict, GetModelMetadata and GetModelStatus; the other calls are not implemented."""

    def __init__(self, service: PredictService):
        self._service = service

    async def Predict(self, request, context):
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

        try:
            return await self._service.predict(
                "grpc", _target(request), read, write, context.time_remaining()
            )
        except ServingError as error:
            await context.abort(error.code, error.message)

    async def GetModelMetadata(self, request, context):
        try:
            _check_metadata_fields(request)
            return self._service.metadata(_target(request))
        except ServingError as error:
            await context.abort(error.code, error.message)

    async def GetModelStatus(self, request, context):
        try:
            return self._service.versions.status(*_target(request))
        except ServingError as error:
            await context.abort(error.code, error.message)

    Classify = Regress = MultiInference = _refuse("This call is not served. Use Predict.")
    HandleReloadConfigRequest = _refuse("The configuration is fixed. Restart the server.")


def make_grpc_server(service: PredictService, max_message_bytes: int) -> grpc.aio.Server:
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
    api = GrpcApi(service)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(api, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(api, server)
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
