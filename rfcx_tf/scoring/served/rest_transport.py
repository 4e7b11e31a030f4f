"""Requests to TensorFlow Serving's REST API, as JSON in its column format.

Reference: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Sequence
from typing import Any

import aiohttp
import numpy as np

from rfcx_tf.scoring.served.retries import RequestError
from rfcx_tf.scoring.served.transport import Signature

# Too busy (429, 503), or a proxy or the server gave up waiting. Never the faults of a request.
_RETRYABLE_STATUS = {408, 429, 502, 503, 504}
_TOO_LARGE = 413


class RestTransport:
    """One model behind a REST API; see `Transport`."""

    packs_floats = False

    def __init__(self, base_url: str, model: str, timeout_s: float):
        self._server = base_url
        self.address = f"{base_url}/v1/models/{urllib.parse.quote(model, safe='')}"
        self._timeout_s = timeout_s
        # Without a limit of its own: how many requests are out at once is not decided here.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )

    async def describe(self) -> tuple[str, dict[str, Signature]]:
        reply = await self._send("GET", f"{self.address}/metadata")
        try:
            described = reply["metadata"]["signature_def"]["signature_def"]
            signatures = {
                name: Signature(tuple(sorted(s["inputs"])), tuple(sorted(s["outputs"])))
                for name, s in described.items()
                # The function that initializes the model is listed too, without inputs.
                if s.get("inputs") and s.get("outputs")
            }
            return str(reply["model_spec"].get("version", "")), signatures
        except (KeyError, TypeError, AttributeError):
            raise RequestError(
                f"{self.address}/metadata does not describe a model's signatures. "
                f"Received: {json.dumps(reply):.100}. Is it TensorFlow Serving?"
            ) from None

    def encode(
        self, signature: str, inputs: dict[str, np.ndarray | list[bytes]], outputs: Sequence[str]
    ) -> tuple[bytes, Sequence[str]]:
        values = {
            name: value.tolist()
            if isinstance(value, np.ndarray)
            else [{"b64": base64.b64encode(content).decode()} for content in value]
            for name, value in inputs.items()
        }
        body = json.dumps({"signature_name": signature, "inputs": values}, separators=(",", ":"))
        return body.encode(), outputs

    async def predict(self, request: tuple[bytes, Sequence[str]]) -> dict[str, np.ndarray]:
        body, outputs = request
        reply = await self._send("POST", f"{self.address}:predict", body)
        try:
            values = reply["outputs"]
            # A function of one output has it bare.
            if len(outputs) == 1 and not isinstance(values, dict):
                values = {outputs[0]: values}
            return {name: np.asarray(values[name]) for name in outputs}
        except (KeyError, TypeError, ValueError):
            raise RequestError(
                f"{self.address}:predict must reply with {', '.join(outputs)}. "
                f"Received: {json.dumps(reply):.100}."
            ) from None

    async def close(self) -> None:
        await self._session.close()

    async def _send(self, method: str, url: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                content = await response.read()
        except TimeoutError:
            raise RequestError(
                f"{self._server} did not reply within {self._timeout_s:g} s.", retryable=True
            ) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise RequestError(f"{self._server} cannot be used: {error}.") from None
        except aiohttp.ClientError as error:
            reason = str(error) or type(error).__name__
            raise RequestError(
                f"{self._server} cannot be reached, or broke off: {reason}.", retryable=True
            ) from None
        if response.status != 200:
            raise _status_error(url, response, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise RequestError(
                f"{url} must reply with JSON. Received: {_beginning(content)!r}."
            ) from None


def _status_error(url: str, response: aiohttp.ClientResponse, content: bytes) -> RequestError:
    """What a status other than 200 means, with TensorFlow Serving's own words."""
    try:
        reason = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = _beginning(content) or (response.reason or "no reason")
    advice = " Send shorter pieces with --chunk-s." if response.status == _TOO_LARGE else ""
    try:
        wait_s = float(response.headers.get("Retry-After", ""))
    except ValueError:
        # Absent, or a date, which no TensorFlow Serving sends.
        wait_s = None
    return RequestError(
        f"{url} replied {response.status}: {reason:.300}{advice}",
        retryable=response.status in _RETRYABLE_STATUS,
        wait_s=wait_s,
    )


def _beginning(content: bytes) -> str:
    return content[:100].decode("utf-8", "replace")
