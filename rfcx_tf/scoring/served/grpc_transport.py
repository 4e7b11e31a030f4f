"""Requests to TensorFlow Serving's PredictionService over gRPC; imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from rfcx_tf.scoring.served.retries import RequestError
from rfcx_tf.scoring.served.transport import Signature

_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
# gRPC uses RESOURCE_EXHAUSTED for a full queue, which empties, and for this, which stays.
_TOO_LARGE = "larger than max"


class GrpcTransport:
    """One model behind a PredictionService; see `Transport`."""

    packs_floats = True

    def __init__(self, address: str, model: str, timeout_s: float):
        self._server = f"grpc://{address}"
        self._model = model
        self.address = f"{self._server}/{model}"
        self._timeout_s = timeout_s
        # The defaults stop at 4 MB: 20 s of sound at 48 kHz.
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(address, options=unlimited)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    async def describe(self) -> tuple[str, dict[str, Signature]]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model
        reply = await self._send(self._stub.GetModelMetadata, request)
        described = get_model_metadata_pb2.SignatureDefMap()
        if not reply.metadata["signature_def"].Unpack(described):
            raise RequestError(
                f"{self._server} does not describe the signatures of {self._model}. "
                "Is it TensorFlow Serving?"
            )
        version = (
            str(reply.model_spec.version.value) if reply.model_spec.HasField("version") else ""
        )
        signatures = {
            name: Signature(tuple(sorted(s.inputs)), tuple(sorted(s.outputs)))
            for name, s in described.signature_def.items()
            if s.inputs and s.outputs
        }
        return version, signatures

    def encode(
        self, signature: str, inputs: dict[str, np.ndarray | list[bytes]], outputs: Sequence[str]
    ) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = self._model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    async def predict(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        reply = await self._send(self._stub.Predict, request)
        missing = [name for name in request.output_filter if name not in reply.outputs]
        if missing:
            raise RequestError(
                f"{self._server} must reply with {', '.join(request.output_filter)}. "
                f"Received: {', '.join(sorted(reply.outputs)) or 'nothing'}."
            )
        return {name: tf.make_ndarray(reply.outputs[name]) for name in request.output_filter}

    async def close(self) -> None:
        await self._channel.close()

    async def _send(self, method: grpc.aio.UnaryUnaryMultiCallable, request):
        try:
            return await method(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            details = error.details() or "no reason"
            too_large = _TOO_LARGE in details
            advice = " Send shorter pieces with --chunk-s." if too_large else ""
            raise RequestError(
                f"{self._server} replied {error.code().name}: {details:.300}{advice}",
                retryable=error.code() in _RETRYABLE and not too_large,
            ) from None
