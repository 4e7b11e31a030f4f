"""predict.py as an Apache Beam pipeline: the same tables, by several processes or machines.

    pip install -r requirements-bulk.txt
    rfcx-tf predict-bulk --run runs/rfcx --audio ARCHIVE --out scores.csv --workers 8
    rfcx-tf predict-bulk --run runs/rfcx --audio ARCHIVE --out scores.csv \\
        --runner FlinkRunner -- --flink_master=HOST:8081 --environment_type=LOOPBACK

What follows -- is for Beam. Runs, recordings and the output must lie where every worker finds them
by the same path (give absolute ones), and workers on other machines need this project and its
requirements.

Results of single recordings are kept in OUT.parts until all are there: after a lost worker, or
any other stop, the same command does what is left.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rfcx_tf.audio.find import find_recordings, misnamed_recordings
from rfcx_tf.cli.arguments import (
    add_combination_arguments,
    add_recording_ids_argument,
    add_run_override_argument,
    check_prior,
)
from rfcx_tf.cli.tables import add_table_arguments, wanted_tables
from rfcx_tf.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    add_recording_ids_argument(parser)
    add_table_arguments(parser)
    add_combination_arguments(parser)
    add_run_override_argument(parser)
    parser.add_argument(
        "--runner",
        default="DirectRunner",
        help="Beam's: DirectRunner (this machine, the default), FlinkRunner, SparkRunner, "
        "DataflowRunner",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes of the DirectRunner"
    )
    parser.add_argument("beam", nargs="*", metavar="-- OPTION", help="options for Beam")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.events.output import Tables

    check_prior(arguments)
    check_beam()
    recordings = find_recordings(arguments.audio, arguments.recording_ids)
    # What could go wrong at the end is tried now, not after hours of work.
    tables = Tables(wanted_tables(arguments), len(recordings))
    from rfcx_tf.runs.open import open_runs
    from rfcx_tf.scoring.beam import BulkJob, predict_in_bulk
    from rfcx_tf.scoring.ensemble import choose_weights
    from rfcx_tf.scoring.journal import Journal, fingerprint_runs
    from rfcx_tf.scoring.load import load_together

    weights = choose_weights(arguments.weights, arguments.run)
    runs = open_runs(arguments.run, arguments.overrides)
    scorer = load_together(runs, weights, arguments.combine)
    tables.check_model(scorer.card, recordings)
    job = BulkJob(
        runs=[path.resolve() for path in arguments.run],
        overrides=arguments.overrides,
        weights=weights,
        rule=arguments.combine,
        parts=Path(f"{arguments.out.resolve()}.parts"),
        fingerprint=fingerprint_runs(runs, weights, arguments.combine, tables.keep_windows),
        keep_windows=tables.keep_windows,
    )
    parts = Journal(job.parts, job.fingerprint)
    if parts.started_over:
        print(f"{parts.folder} was of other runs, weights or options: all recordings are new.")
    # The local runner's processes must find the project, wherever the command was started.
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    predictions = predict_in_bulk(
        job, recordings, scorer.card, runner=arguments.runner, options=beam_options(arguments)
    )

    def results():
        return map(parts.read, predictions.scores["recording_id"])

    tables.write(scorer.card, predictions.scores, results, complete=not predictions.failed)
    if not predictions.failed:
        parts.remove()
    return tables.report_failures(predictions.failed, misnamed_recordings(arguments.audio))


def check_beam() -> None:
    """Says how to install Beam where it is not."""
    from importlib.util import find_spec

    if find_spec("apache_beam") is None:
        raise UserError(
            "Prediction in bulk needs Apache Beam, which is not installed. "
            "Run: pip install -r requirements-bulk.txt."
        )


def beam_options(arguments: argparse.Namespace) -> list[str]:
    """For Beam: what was given, and how many processes the local runner has."""
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1. Received: {arguments.workers}.")
    if arguments.workers == 1:
        return arguments.beam
    if arguments.runner != "DirectRunner":
        raise UserError(
            f"--workers is of the DirectRunner. Received: --runner {arguments.runner}. Say after "
            "-- how many workers it has."
        )
    count = f"--direct_num_workers={arguments.workers}"
    return [count, "--direct_running_mode=multi_processing", *arguments.beam]
