"""What REST and gRPC share: a prediction from the decoding of its request to its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap

from rfcx_tf.serving.server.batching import Batcher
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.status import ServingError, error_of
from rfcx_tf.serving.server.versions import Versions

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
# Signature, inputs, and the outputs that are wanted (all if none is named).
Request = tuple[str, dict[str, np.ndarray], list[str]]
# JSON is decoded and written under Python's lock: more threads would not be faster.
_CODEC_THREADS = 2


class PredictService:
    """Answers requests about one model, whatever protocol they come by."""

    def __init__(self, versions: Versions, batcher: Batcher, metrics: Metrics, timeout_s: float):
        self.versions = versions
        self._batcher = batcher
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._codec = ThreadPoolExecutor(_CODEC_THREADS, "codec")
        self.stopping = False

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.versions.current is not None and not self.stopping

    async def predict(
        self,
        protocol: str,
        target: tuple[str, int | None, str],
        read: Callable[[ServedModel], Request],
        write: Callable[[ServedModel, str, dict[str, np.ndarray]], Answer],
        waited_s: float = 0.0,
        client_timeout_s: float | None = None,
    ) -> Answer:
        """Runs a request through the model.

        Args:
            protocol: "rest" or "grpc", for the metrics.
            target: name, version and label of the model.
            read: decodes and checks the request; runs in a thread.
            write: makes the answer of the signature and its outputs; runs in a thread.
            waited_s: how long the request had to wait before its body was read.
            client_timeout_s: how long the client waits, if it said so.

        Raises:
            ServingError: whatever goes wrong.
        """
        begin_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        timeout_s = max(self._timeout_s - waited_s, 0.0)
        if client_timeout_s is not None:
            timeout_s = min(timeout_s, client_timeout_s)
        # Empty for a request that names no signature of the model: clients must not invent labels.
        signature, code = "", grpc.StatusCode.CANCELLED
        try:
            with self._batcher.admit() as ticket, self.versions.use(*target) as model:
                async with asyncio.timeout(timeout_s):
                    signature, inputs, names = await loop.run_in_executor(self._codec, read, model)
                    outputs = await self._batcher.submit(ticket, model, signature, inputs)
                    outputs = {name: outputs[name] for name in names or outputs}
                    answer = await loop.run_in_executor(
                        self._codec, write, model, signature, outputs
                    )
            code = grpc.StatusCode.OK
            return answer
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise ServingError(
                code,
                f"The request was not answered within {waited_s + timeout_s:g} s. Try again later.",
            ) from None
        except Exception as exception:
            error = error_of(exception)
            code = error.code
            if code == grpc.StatusCode.INTERNAL:
                log.error("A request failed.", exc_info=exception)
            raise error from None
        finally:
            self._metrics.requests.labels(protocol, signature, code.name).inc()
            self._metrics.seconds.labels(protocol, signature).observe(time.perf_counter() - begin_s)

    async def in_thread(self, decode: Callable[[], Answer]) -> Answer:
        """Runs what takes long where requests are decoded, not where they are received."""
        return await asyncio.get_running_loop().run_in_executor(self._codec, decode)

    def metadata(self, target: tuple[str, int | None, str]) -> GetModelMetadataResponse:
        """Name, version and signatures of a model; ServingError if it is not served."""
        with self.versions.use(*target) as model:
            response = GetModelMetadataResponse()
            response.model_spec.name = target[0]
            response.model_spec.version.value = model.version
            signatures = SignatureDefMap(signature_def=model.signature_defs)
            response.metadata["signature_def"].Pack(signatures)
            return response

    def close(self) -> None:
        """Ends the threads; no request must be running."""
        self._codec.shutdown(wait=False, cancel_futures=True)
