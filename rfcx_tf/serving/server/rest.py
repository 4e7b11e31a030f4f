"""TensorFlow Serving's REST surface: https://www.tensorflow.org/tfx/serving/api_rest.

GET  /v1/models/NAME[/versions/V]           states of the versions
GET  /v1/models/NAME[/versions/V]/metadata  the signatures
POST /v1/models/NAME[/versions/V]:predict
GET  /healthz (the process lives), /readyz (requests are welcome), /metrics (Prometheus)
"""

from __future__ import annotations

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
from rfcx_tf.serving.server.budget import BodyBudget
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.service import PredictService, Request
from rfcx_tf.serving.server.status import ServingError, error_of, invalid_argument
from rfcx_tf.serving.server.versions import version_number

log = logging.getLogger(__name__)

# TensorFlow Serving's own (model_servers/http_rest_api_util.cc).
_MODEL = (
    r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
)
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)")
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?")
_ROUTE = "/{v1:[vV]1}/{rest:.*}"

# Before and since protobuf 5.26.
_ALL_FIELDS = {
    option: True
    for option in ("including_default_value_fields", "always_print_fields_with_no_presence")
    if option in inspect.signature(json_format.MessageToJson).parameters
}


def make_application(
    service: PredictService, budget: BodyBudget, metrics: Metrics, max_body_bytes: int
) -> web.Application:
    """The web application; bodies above the size, or beyond the budget for long, are refused."""

    async def stop_reading(_: web.Application) -> None:
        budget.stop()

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
        encoding = _content_encoding(request)
        length = max_body_bytes if request.content_length is None else request.content_length
        if length > max_body_bytes:
            raise json_tensors.too_large(length, max_body_bytes)
        row_format = False

        async with budget.room(length + (max_body_bytes if encoding else 0)) as room:
            try:
                body = await budget.read(request.read())
            except web.HTTPRequestEntityTooLarge:
                raise json_tensors.too_large("more", max_body_bytes) from None

            def read(model: ServedModel) -> Request:
                nonlocal row_format, body
                document = json_tensors.parse_body(body, encoding, max_body_bytes)
                # It would stay until the answer, beside the arrays that are made of it.
                body = b""
                signature = json_tensors.signature_name(document)
                if signature not in model.inputs:
                    raise invalid_argument(
                        f'Serving signature name: "{signature:.100}" not found in signature def. '
                        f"The model has {', '.join(sorted(model.inputs))}."
                    )
                inputs = json_tensors.read_inputs(document, model.inputs[signature])
                row_format = json_tensors.ROWS in document
                model.check_inputs(signature, inputs)
                return signature, inputs, []

            def write(_: ServedModel, __: str, outputs: dict[str, np.ndarray]) -> bytes:
                return json_tensors.write_outputs(outputs, row_format)

            answer = await service.predict("rest", _target(found), read, write, room.waited_s)
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
    application.on_shutdown.append(stop_reading)
    application.router.add_get("/healthz", health)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", read_metrics)
    # Where TensorFlow Serving's monitoring is configured by its documentation.
    application.router.add_get("/monitoring/prometheus/metrics", read_metrics)
    application.router.add_post(_ROUTE, post)
    application.router.add_get(_ROUTE, get)
    application.router.add_route("*", _ROUTE, malformed)
    return application


def _content_encoding(request: web.Request) -> str:
    """How the body is packed, empty for not at all; ServingError if it cannot be unpacked."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", *json_tensors.ENCODINGS):
        raise invalid_argument(
            f"Content-Encoding must be {' or '.join(json_tensors.ENCODINGS)}. "
            f"Received: {encoding:.40}. Send the body as it is."
        )
    return "" if encoding == "identity" else encoding


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
    if not request.content.is_eof():
        # What is left of the body would be taken for the next request.
        response.force_close()
    return response


def _target(found: re.Match) -> tuple[str, int | None, str]:
    version = None if found["version"] is None else version_number(found["version"])
    if found["version"] and version is None:
        raise invalid_argument(f"Failed to convert version: {found['version']:.40} to numeric.")
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
