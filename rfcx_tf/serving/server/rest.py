"""TensorFlow Serving's REST surface: https://www.tensorflow.org/tfx/serving/api_rest.

GET  /v1/models/NAME[/versions/V]           states of the versions
GET  /v1/models/NAME[/versions/V]/metadata  the signatures
POST /v1/models/NAME[/versions/V]:predict
GET  /healthz (the process lives), /readyz (requests are welcome), /metrics (Prometheus)
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
from urllib.parse import unquote

import grpc
import numpy as np
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap

from rfcx_tf.serving.server import json_tensors
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.service import PredictService, Request
from rfcx_tf.serving.server.status import ServingError, error_of, invalid_argument

log = logging.getLogger(__name__)

# TensorFlow Serving's own (model_servers/http_rest_api_util.cc).
_MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)")
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
_ROUTE = "/{v1:[vV]1}/{rest:.*}"
_READ_AT_STOP_S = 1.0
# The largest version number that the protocol can carry.
_MAX_VERSION = 2**63 - 1

# Before and since protobuf 5.26.
_ALL_FIELDS = {
    option: True
    for option in ("including_default_value_fields", "always_print_fields_with_no_presence")
    if option in inspect.signature(json_format.MessageToJson).parameters
}


def make_application(
    service: PredictService, metrics: Metrics, max_body_bytes: int, read_timeout_s: float
) -> web.Application:
    """The web application; bodies above the size or slower than the time-out are refused."""

    # Time-outs of the bodies that are being read.
    reading: set[asyncio.Timeout] = set()

    async def cut_short(_: web.Application) -> None:
        # A server that stops answers what it has, but does not wait for a client that hangs.
        end_s = asyncio.get_running_loop().time() + _READ_AT_STOP_S
        for timeout in reading:
            timeout.reschedule(min(end_s, timeout.when()))

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        if service.ready:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready"}, status=503)

    async def read_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), content_type="text/plain", charset="utf-8")

    async def post(request: web.Request) -> web.Response:
        found = _POST.fullmatch(request.rel_url.raw_path)
        if found is None:
            raise _malformed(request)
        if found["method"] != "predict":
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED, f":{found['method']} is not served. Use :predict."
            )
        body = await _read_body(request, max_body_bytes, read_timeout_s, reading)
        row_format = False

        def read(model: ServedModel) -> Request:
            nonlocal row_format
            document = json_tensors.parse_body(body)
            signature = json_tensors.signature_name(document)
            if signature not in model.inputs:
                raise invalid_argument(
                    f'Serving signature name: "{signature}" not found in signature def. '
                    f"The model has {', '.join(sorted(model.inputs))}."
                )
            inputs = json_tensors.read_inputs(document, model.inputs[signature])
            row_format = json_tensors.ROWS in document
            model.check_inputs(signature, inputs)
            return signature, inputs, []

        def write(_: ServedModel, __: str, outputs: dict[str, np.ndarray]) -> bytes:
            return json_tensors.write_outputs(outputs, row_format)

        answer = await service.predict("rest", _target(found), read, write)
        return web.Response(body=answer, content_type="application/json")

    async def get(request: web.Request) -> web.Response:
        found = _GET.fullmatch(request.rel_url.raw_path)
        if found is None:
            raise _malformed(request)
        if found["metadata"]:
            text = _metadata_json(service.metadata(_target(found)))
        else:
            text = _json(service.versions.status(*_target(found)))
        return web.Response(text=text, content_type="application/json")

    async def malformed(request: web.Request) -> web.Response:
        raise _malformed(request)

    application = web.Application(middlewares=[_errors_as_json], client_max_size=max_body_bytes)
    application.on_shutdown.append(cut_short)
    application.router.add_get("/healthz", health)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", read_metrics)
    # Where TensorFlow Serving's monitoring is configured by its documentation.
    application.router.add_get("/monitoring/prometheus/metrics", read_metrics)
    application.router.add_post(_ROUTE, post)
    application.router.add_get(_ROUTE, get)
    application.router.add_route("*", _ROUTE, malformed)
    return application


async def _read_body(
    request: web.Request, max_bytes: int, timeout_s: float, reading: set[asyncio.Timeout]
) -> bytes:
    too_large = ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"A request's body may have {max_bytes} bytes. Received: "
        f"{request.content_length or 'more'}. Send a shorter recording, or the WAV file as "
        "base64 instead of a list of numbers.",
        http_status=413,
    )
    if (request.content_length or 0) > max_bytes:
        raise too_large
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            reading.add(timeout)
            try:
                return await request.read()
            finally:
                reading.discard(timeout)
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except TimeoutError:
        raise ServingError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"The request's body was not complete after {timeout_s:g} s, or as the server stopped.",
            http_status=408,
        ) from None


@web.middleware
async def _errors_as_json(request: web.Request, handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ServingError as error:
        status, message = error.http_status, error.message
    except web.HTTPException as error:
        status, message = error.status, f"{error.reason}: {request.method} {request.path}"
    except ConnectionError:
        raise
    except Exception as exception:
        log.exception("A request failed: %s %s", request.method, request.path)
        error = error_of(exception)
        status, message = error.http_status, error.message
    response = web.json_response({"error": message}, status=status)
    if status in (408, 413):
        # What is left of the body would be taken for the next request.
        response.force_close()
    return response


def _target(found: re.Match) -> tuple[str, int | None, str]:
    version = None if found["version"] is None else int(found["version"])
    if version is not None and version > _MAX_VERSION:
        raise invalid_argument(f"Failed to convert version: {found['version']} to numeric.")
    return unquote(found["name"]), version, unquote(found["label"] or "")


def _malformed(request: web.Request) -> ServingError:
    return invalid_argument(f"Malformed request: {request.method} {request.rel_url.raw_path}")


def _json(message) -> str:
    return json_format.MessageToJson(message, preserving_proto_field_name=True, **_ALL_FIELDS)


def _metadata_json(response: GetModelMetadataResponse) -> str:
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    document = {
        "model_spec": json.loads(_json(response.model_spec)),
        "metadata": {"signature_def": json.loads(_json(signatures))},
    }
    return json.dumps(document, indent=1)
