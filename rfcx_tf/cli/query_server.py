"""Scores recordings with a served model, over REST or gRPC: the tables of predict.py, from afar.

    rfcx-tf query-server --server http://127.0.0.1:8501 --model rfcx --audio FIELD \\
        --out scores.csv
    rfcx-tf query-server --server grpc://127.0.0.1:8500 --model rfcx --audio FIELD \\
        --out scores.csv --events events --format csv raven

Any TensorFlow Serving with a model of export.py will do, and scripts/serve.py. The model itself
says which sample rate, species, windows and calibration it has; of another model that takes
waveforms and gives `scores`, --sample-rate and --classes say it.

Recordings up to --chunk-s are sent whole and have the scores of predict.py. Longer ones are sent
in pieces that overlap; their window scores and events are the same, beside rounding, but not quite
their recording scores where the model is of several folds, which a server does not tell apart.

What was scored is kept in OUT.parts until all is there: the same command goes on where it was
stopped, and later tries those again that failed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.audio.find import find_recordings, misnamed_recordings
from rfcx_tf.cli.arguments import add_recording_ids_argument
from rfcx_tf.cli.tables import add_table_arguments, wanted_tables
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server", required=True, help="http://HOST:8501, https://HOST or grpc://HOST:8500"
    )
    parser.add_argument("--model", required=True, help="name of the served model")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    add_recording_ids_argument(parser)
    add_table_arguments(parser)
    parser.add_argument(
        "--chunk-s",
        type=_seconds_or_whole,
        default=300.0,
        metavar="S",
        help="longest piece of a recording in one request, or `whole`; default: 300",
    )
    parser.add_argument(
        "--overlap-s",
        type=_positive,
        default=10.0,
        metavar="S",
        help="sound between a cut and the nearest window that counts; default: 10",
    )
    parser.add_argument(
        "--max-request-mib",
        type=_positive,
        default=64.0,
        metavar="MIB",
        help="largest request: it may shorten pieces further; default: 64",
    )
    parser.add_argument(
        "--concurrency", type=_count, default=4, metavar="N", help="requests at once; default: 4"
    )
    parser.add_argument(
        "--timeout-s",
        type=_positive,
        default=120.0,
        metavar="S",
        help="longest wait for a reply; default: 120",
    )
    parser.add_argument(
        "--retries",
        type=_count_or_none,
        default=4,
        metavar="N",
        help="attempts after the first, while the server is busy or away; default: 4",
    )
    parser.add_argument(
        "--sample-rate", type=_count, metavar="HZ", help="of a model that does not say it"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="CSV",
        help="species_id and name in the order of the scores, of a model that does not say them",
    )


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.events.output import Tables
    from rfcx_tf.scoring.served.query import QueryOptions, query_server
    from rfcx_tf.scoring.served.retries import RetryRules
    from rfcx_tf.scoring.served.served_model import read_classes
    from rfcx_tf.scoring.served.transport import split_server

    split_server(arguments.server)
    recordings = find_recordings(arguments.audio, arguments.recording_ids)
    tables = Tables(wanted_tables(arguments), len(recordings))
    if (arguments.sample_rate is None) != (arguments.classes is None):
        raise UserError("--sample-rate and --classes go together. Name both or neither.")
    options = QueryOptions(
        server=arguments.server,
        model=arguments.model,
        longest_s=arguments.chunk_s,
        overlap_s=arguments.overlap_s,
        request_bytes=arguments.max_request_mib * 2**20,
        concurrency=arguments.concurrency,
        timeout_s=arguments.timeout_s,
        retries=RetryRules(arguments.retries),
        sample_rate_hz=arguments.sample_rate,
        classes=read_classes(arguments.classes) if arguments.classes else None,
    )
    failed = query_server(options, recordings, tables, f"{arguments.out}.parts")
    return tables.report_failures(failed, misnamed_recordings(arguments.audio))


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0. Received: {text}")
    return value


def _seconds_or_whole(text: str) -> float:
    return float("inf") if text == "whole" else _positive(text)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return value


def _count_or_none(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more. Received: {text}")
    return value
