"""The server's life: bind both ports, serve until a signal, finish what runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from rfcx_tf.core.errors import UserError
from rfcx_tf.serving.server.batching import Batcher
from rfcx_tf.serving.server.budget import BodyBudget
from rfcx_tf.serving.server.grpc_api import make_grpc_server
from rfcx_tf.serving.server.lifetime import bracketed, start_site, stop_at_signal
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.rest import make_application
from rfcx_tf.serving.server.service import PredictService
from rfcx_tf.serving.server.versions import Versions

log = logging.getLogger(__name__)

# Closes idle connections, and those whose request never gets beyond its headers.
_IDLE_CONNECTION_S = 75.0
# Bodies of the largest size that fit into the server at once by a protocol; of smaller ones more.
_BODIES_AT_ONCE = 4


@dataclass(frozen=True)
class ServerOptions:
    """How to serve; `rfcx_tf.cli.serve` describes the values."""

    folder: Path
    name: str
    host: str
    rest_port: int
    grpc_port: int
    max_body_bytes: int
    timeout_s: float
    read_timeout_s: float
    max_batch: int
    batch_wait_s: float
    max_pending: int
    workers: int
    poll_s: float
    stop_s: float


async def serve(options: ServerOptions) -> None:
    """Serves until SIGTERM or SIGINT (a second one ends the process at once).

    Raises:
        UserError: if no version loads or a port cannot be had.
    """
    # Before anything slow: a stop that comes early must not be lost.
    stop = stop_at_signal()
    metrics = Metrics()
    versions = Versions(options.name, options.folder, metrics)
    await versions.start()
    batcher = Batcher(
        metrics, options.max_batch, options.batch_wait_s, options.max_pending, options.workers
    )
    service = PredictService(versions, batcher, metrics, options.timeout_s)
    # One each: a gRPC message, whose length is not known, would wait for long behind REST's.
    rest_budget, grpc_budget = (
        BodyBudget(
            _BODIES_AT_ONCE * options.max_body_bytes, options.read_timeout_s, options.timeout_s
        )
        for _ in range(2)
    )
    application = make_application(service, rest_budget, metrics, options.max_body_bytes)
    runner = web.AppRunner(
        application,
        access_log=None,
        # Unpacked here, a few bytes could become any number before they are counted.
        auto_decompress=False,
        # Whoever hangs up gives its place in the queue away.
        handler_cancellation=True,
        keepalive_timeout=_IDLE_CONNECTION_S,
        shutdown_timeout=options.stop_s,
    )
    grpc_server = make_grpc_server(service, grpc_budget, options.max_body_bytes)
    watcher = asyncio.create_task(versions.watch(options.poll_s))
    try:
        grpc_port = _bind_grpc(grpc_server, options)
        rest_port = await start_site(runner, options.host, options.rest_port, "--rest-port")
        await grpc_server.start()
        _print_addresses(options, rest_port, grpc_port, versions)
        await stop.wait()
        log.info("Stopping: requests in progress are finished.")
    finally:
        service.stopping = True
        watcher.cancel()
        grpc_budget.stop()
        await asyncio.gather(grpc_server.stop(options.stop_s), runner.cleanup())
        await batcher.close()
        service.close()


def _bind_grpc(server, options: ServerOptions) -> int:
    address = f"{bracketed(options.host)}:{options.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise UserError(f"A port must be free. {address} cannot be had; name another --grpc-port.")
    return port


def _print_addresses(
    options: ServerOptions, rest_port: int, grpc_port: int, versions: Versions
) -> None:
    host = bracketed(options.host)
    url = f"http://{host}:{rest_port}/v1/models/{quote(options.name, safe='')}"
    signatures = versions.current.inputs
    print(f"Serves {options.folder}, version {versions.current.version}: {', '.join(signatures)}.")
    print(f"REST {url}   gRPC {host}:{grpc_port}   metrics http://{host}:{rest_port}/metrics")
    print(f"Try: {_example(url, versions.current)}")
    print("Stop with Ctrl-C.", flush=True)


def _example(url: str, model: ServedModel) -> str:
    """A command that sends a WAV file, or shows the signatures of a model that takes none."""
    specs = list(model.inputs.get("wav", {}).values())
    if [spec.dtype.kind for spec in specs] != ["O"]:
        return f"curl {url}/metadata"
    begin, end = ('{"b64": "', '"}') if specs[0].shape == () else ('[{"b64": "', '"}]')
    # In a pipe, since an argument may have 128 KiB; curl leaves out the ends of lines.
    return (
        f'(echo \'{{"signature_name": "wav", "inputs": {begin}\'; base64 < "FILE.wav"; '
        f"echo '{end}}}') | curl -d @- {url}:predict"
    )
