"""Serves an exported folder as TensorFlow Serving does, without Docker: REST and gRPC.

rfcx-tf serve --model exported/rfcx
    -> http://127.0.0.1:8501/v1/models/rfcx:predict, gRPC on 127.0.0.1:8500

It serves any folder of numbered SavedModels. A new version that appears in the folder is loaded
and takes over without losing a request. Anyone who reaches the ports may use them: there is no
password.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_number
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, help="folder of the model's versions")
    parser.add_argument("--name", help="the model's name in requests; default: the folder's")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--rest-port", type=int, default=8501, help="0: any free one")
    parser.add_argument("--grpc-port", type=int, default=8500, help="0: any free one")
    add_number(parser, "--max-body-mib", 64.0, "largest request, MiB")
    add_number(parser, "--timeout", 60.0, "longest wait for an answer, s")
    add_number(parser, "--read-timeout", 60.0, "longest upload, s")
    add_number(parser, "--max-batch", 4, "rows joined into one call; 1: none")
    add_number(parser, "--batch-wait", 0.005, "wait for requests on their way, s", or_zero=True)
    add_number(parser, "--max-pending", 64, "requests at once")
    add_number(parser, "--workers", 1, "calls of the model at once")
    add_number(parser, "--poll", 2.0, "look for new versions every so many s")
    add_number(parser, "--stop-time", 30.0, "longest wait for requests at the end, s")


def run(arguments: argparse.Namespace) -> int:
    folder = arguments.model
    for option in ("rest_port", "grpc_port"):
        if not 0 <= (port := getattr(arguments, option)) < 2**16:
            name = f"--{option.replace('_', '-')}"
            raise UserError(f"{name} must be a port, 0 to 65535. Received: {port}.")
    if not folder.is_dir():
        raise UserError(
            f"--model must be a folder. {folder} is not one; `rfcx-tf export` makes it."
        )
    if (folder / "saved_model.pb").exists():
        raise UserError(
            f"--model must be the folder of the versions. {folder} is a version; "
            f"use --model {folder.resolve().parent}."
        )
    import asyncio
    import logging

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    # TensorFlow's import and a model's first calls take many seconds.
    logging.getLogger(__name__).info("Loading %s and warming it up.", folder)
    from rfcx_tf.serving.server.run import ServerOptions, serve

    options = ServerOptions(
        folder=folder,
        name=arguments.name or folder.resolve().name,
        host=arguments.host,
        rest_port=arguments.rest_port,
        grpc_port=arguments.grpc_port,
        max_body_bytes=int(arguments.max_body_mib * 2**20),
        timeout_s=arguments.timeout,
        read_timeout_s=arguments.read_timeout,
        max_batch=arguments.max_batch,
        batch_wait_s=arguments.batch_wait,
        max_pending=arguments.max_pending,
        workers=arguments.workers,
        poll_s=arguments.poll,
        stop_s=arguments.stop_time,
    )
    asyncio.run(serve(options))
    return 0
