"""Scores whole recordings of any length with runs, or with a model that is served.

    rfcx-tf predict --run runs/rfcx --audio FIELD --results results
    rfcx-tf predict --run runs/rfcx --audio DIR/test --out scores.csv \\
        --like DIR/sample_submission.csv
    rfcx-tf predict --run runs/a runs/b --weights 0.7 0.3 --audio DIR --out scores.csv
    rfcx-tf predict --run runs/rfcx --audio FIELD --out scores.csv \\
        --events events --format csv raven --recording-times starts.csv
    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv --workers 8
    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv \\
        --runner FlinkRunner -- --flink_master=HOST:8081 --environment_type=LOOPBACK
    rfcx-tf predict --server grpc://127.0.0.1:8500 --model rfcx --audio FIELD --out scores.csv

--results names a folder for all that one usually wants: scores.csv, events.csv, windows.parquet
(from which `events` finds others), and report.html, a page to look at and listen to.

Folders are searched with their subfolders and links for files of sound (FLAC, WAV, MP3, OGG, Opus,
AIFF, AU, CAF, W64), in capitals too. The first bytes of a file tell its format: a FLAC named .wav
is read. A file of sound with another extension, or of another kind (M4A, AAC, WMA), is not read; it
is listed with the files that could not be scored, as are folders that cannot be searched and links
that lead nowhere. What is hidden or lies in a trash is passed over and counted.

What decides is the sound that is there. A recording that was cut short is scored as far as it goes
and listed; so is a header that says something else than what is there, and channels that cancel
each other, of which the louder one is taken.

Recordings are called by their files' names. Where recorders at several sites name files alike, name
the folder above the sites and --recording-ids path, for site1/20210101_050000 and so on.

Whatever could not be scored, or has a remark, is listed at the end and in a table beside the
scores: scores.left_out.csv, which is not there where there is nothing to list. `report` shows it.

OUT.parts keeps the results of single recordings until all are there. The same command goes on
where it was stopped, and tries again the recordings that could not be read.

Events (what was heard when) are found in calibrated probabilities where there is a calibration,
else in scores. --events names a file for all recordings (events.csv), or a folder for one file
each, in subfolders where recordings are called by their paths.

--workers and --runner make it an Apache Beam pipeline. Runs, recordings and the output must then
lie where every worker finds them by the same path (give absolute ones), and workers on other
machines need this package.

--server names a TensorFlow Serving or an `rfcx-tf serve` with a model of `export`, which says its
sample rate, species, windows and calibration. Another model that takes waveforms and gives `scores`
needs --sample-rate and --classes. Recordings up to --chunk-s are sent whole and get the scores of
the run. Longer ones are sent in pieces that overlap: their window scores and events are the same,
beside rounding. Their recording scores differ a little if the model has several folds, because a
server gives the mean of the folds only.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from rfcx_tf.audio.find import find_recordings
from rfcx_tf.cli.arguments import (
    above_zero,
    add_channel_argument,
    add_combination_arguments,
    add_number,
    add_recording_ids_argument,
    add_run_override_argument,
    list_left_out,
    list_remarks,
    print_next,
    print_notes,
)
from rfcx_tf.cli.tables import add_table_arguments, name_results, output_tables
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files, lock_folder
from rfcx_tf.events.write import writes_one_file

_RUNS, _BULK, _SERVED = "scoring with runs", "by several processes", "scoring with a served model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", nargs="+", type=Path, help="run folder(s)")
    source.add_argument("--server", help="http://HOST:8501, https://HOST or grpc://HOST:8500")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    add_recording_ids_argument(parser)
    add_channel_argument(parser, "that of the run's recipe, the mean of a served model")
    add_table_arguments(parser)
    runs = parser.add_argument_group(_RUNS)
    add_combination_arguments(runs)
    add_run_override_argument(runs)
    bulk = parser.add_argument_group(_BULK)
    bulk.add_argument(
        "--workers", type=above_zero(int), metavar="N", help="processes on this machine"
    )
    bulk.add_argument(
        "--runner", help="Beam's: FlinkRunner, SparkRunner, DataflowRunner; default: this machine"
    )
    bulk.add_argument("beam", nargs="*", metavar="-- OPTION", help="options for Beam")
    served = parser.add_argument_group(_SERVED)
    served.add_argument("--model", help="name of the served model")
    served.add_argument(
        "--chunk-s",
        type=_seconds_or_whole,
        default=300.0,
        metavar="S",
        help="longest piece of a recording in one request, or `whole`; default: 300",
    )
    add_number(served, "--overlap-s", 10.0, "s between a cut and the nearest window that counts")
    add_number(served, "--max-request-mib", 64.0, "largest request, MiB: pieces may be shorter")
    add_number(served, "--concurrency", 4, "requests at once")
    add_number(served, "--timeout-s", 120.0, "longest wait for a reply, s")
    add_number(served, "--retries", 4, "attempts after the first", or_zero=True)
    served.add_argument(
        "--sample-rate", type=above_zero(int), metavar="HZ", help="of a model that does not say it"
    )
    served.add_argument(
        "--classes",
        type=Path,
        metavar="CSV",
        help="species_id and name in the order of the scores, of a model that does not say them",
    )


def run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    name_results(arguments)
    events = arguments.events
    in_file = not events or any(writes_one_file(events, name) for name in arguments.formats)
    files = (arguments.out, arguments.tidy, arguments.window_scores, events if in_file else None)
    folder = nullcontext() if in_file else lock_folder(events, "predict")
    with lock_files(files, "predict"), folder:
        status = _run(arguments)
    if arguments.results:
        from rfcx_tf.cli.steps import report_predictions

        status |= report_predictions(arguments)
        print_next("review", "serve", "--events", events, "--audio", *arguments.audio)
    elif events:
        words = ("review", "pick", "--events", events, "--audio", *arguments.audio)
        print_next(*words, "--out", "review")
    return status


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.scoring.left_out import left_out_path, left_out_table, write_left_out

    recordings = find_recordings(arguments.audio, arguments.recording_ids)
    print_notes(recordings.notes)
    # What could go wrong at the end is checked before hours of work.
    tables = output_tables(arguments)
    tables.check(len(recordings))
    score = _score_served if arguments.server else _score_with_runs
    card, journal, predictions = score(arguments, recordings, tables)

    def results():
        return map(journal.read, predictions.scores["recording_id"])

    # First: scores without it would seem to be of everything.
    left_out = left_out_table(predictions, recordings, recordings.left_out)
    write_left_out(left_out, left_out_path(arguments.out))
    tables.write(card, predictions.scores, results, complete=not predictions.failed)
    if not predictions.failed:
        journal.remove()
    list_remarks(predictions.remarks_where(is_cut=False))
    status = list_left_out("Scored as far as they go", predictions.remarks_where(is_cut=True))
    failed = [*predictions.failed.values(), *recordings.left_out]
    status = max(status, list_left_out("Could not be scored", failed))
    if len(left_out):
        print(f"These lines are in {left_out_path(arguments.out)} too.", file=sys.stderr)
    if predictions.failed:
        print(
            f"  The same command tries these again; {journal.folder} has the others.",
            file=sys.stderr,
        )
        if arguments.like:
            print(f"  {arguments.out} is not in the order of {arguments.like}.", file=sys.stderr)
    return status


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.server:
        for group in (_RUNS, _BULK):
            arguments.parser.refuse_group(arguments, group, "goes with --run. Leave it out.")
        if not arguments.model:
            raise UserError("A server may hold several models. Add --model NAME.")
        if (arguments.sample_rate is None) != (arguments.classes is None):
            raise UserError("--sample-rate and --classes go together. Name both or neither.")
        from rfcx_tf.scoring.served.connection import split_server

        split_server(arguments.server)
    else:
        arguments.parser.refuse_group(arguments, _SERVED, "goes with --server. Leave it out.")
    if arguments.prior and arguments.combine != "mean":
        raise UserError(
            "--prior is of scores that are combined by their mean. Received: --combine "
            f"{arguments.combine}. Leave one of them out."
        )
    if arguments.workers and arguments.runner:
        raise UserError(
            f"--workers is for this machine. Received: --runner {arguments.runner}. Say after -- "
            "how many workers it has."
        )
    if _is_bulk(arguments):
        importlib.import_module("apache_beam")  # Whether it is installed shows before any work.


def _is_bulk(arguments: argparse.Namespace) -> bool:
    return bool(arguments.workers or arguments.runner or arguments.beam)


def _open_journal(arguments, fingerprint: str):
    from rfcx_tf.scoring.journal import Journal

    journal = Journal(f"{arguments.out.resolve()}.parts", fingerprint)
    if journal.started_over:
        print(
            f"{journal.folder} was of another model or options, or is damaged: all recordings are "
            "new."
        )
    return journal


def _score_with_runs(arguments, recordings, tables):
    """Scores recordings here or in bulk: the card, the journal and the predictions."""
    from rfcx_tf.runs.open import channel_of, open_runs
    from rfcx_tf.scoring.ensemble_weights import choose_weights
    from rfcx_tf.scoring.journal import fingerprint_runs
    from rfcx_tf.scoring.load import load_together
    from rfcx_tf.scoring.predict import predict_recordings

    weights = choose_weights(arguments.weights, arguments.run)
    runs = open_runs(arguments.run, arguments.overrides)
    scorer = load_together(runs, weights, arguments.combine)
    tables.check_model(scorer.card, recordings)
    sources = _sources(recordings, arguments.channel or channel_of(runs))
    fingerprint = fingerprint_runs(runs, weights, arguments.combine, tables.keep_windows)
    journal = _open_journal(arguments, fingerprint)
    if _is_bulk(arguments):
        from rfcx_tf.scoring.beam import LOCAL_RUNNER, BulkJob, predict_in_bulk

        job = BulkJob(
            runs=[path.resolve() for path in arguments.run],
            overrides=arguments.overrides,
            weights=weights,
            rule=arguments.combine,
            journal=journal,
            keep_windows=tables.keep_windows,
        )
        options = list(arguments.beam)
        if arguments.workers:
            options.append(f"--direct_num_workers={arguments.workers}")
            options.append("--direct_running_mode=multi_processing")
        # The local runner's processes must find the package, wherever the command was started.
        root = str(Path(__file__).resolve().parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        runner = arguments.runner or LOCAL_RUNNER
        predictions = predict_in_bulk(job, sources, scorer.card, runner=runner, options=options)
    else:
        predictions = predict_recordings(
            scorer, sources, journal=journal, keep_windows=tables.keep_windows
        )
    return scorer.card, journal, predictions


def _sources(recordings, channel: str):
    from rfcx_tf.audio.decode import AudioSource

    return {name: AudioSource(path, channel=channel) for name, path in recordings.items()}


def _score_served(arguments, recordings, tables):
    """Scores recordings by a server: the card, the journal and the predictions."""
    from rfcx_tf.core.species import read_species
    from rfcx_tf.scoring.predict import predict_recordings
    from rfcx_tf.scoring.served.retries import RetryRules
    from rfcx_tf.scoring.served.scorer import open_served

    with open_served(
        arguments.server,
        arguments.model,
        longest_s=arguments.chunk_s,
        overlap_s=arguments.overlap_s,
        request_bytes=arguments.max_request_mib * 2**20,
        concurrency=arguments.concurrency,
        timeout_s=arguments.timeout_s,
        rules=RetryRules(arguments.retries),
        sample_rate_hz=arguments.sample_rate,
        classes=read_species(arguments.classes) if arguments.classes else None,
    ) as scorer:
        tables.check_model(scorer.card, recordings)
        journal = _open_journal(arguments, scorer.fingerprint(tables.keep_windows))
        predictions = predict_recordings(
            scorer,
            _sources(recordings, arguments.channel or "mean"),
            journal=journal,
            keep_windows=tables.keep_windows,
        )
    return scorer.card, journal, predictions


def _seconds_or_whole(text: str) -> float:
    return float("inf") if text == "whole" else above_zero(float)(text)
