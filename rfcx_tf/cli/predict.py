"""Scores whole recordings of any length with runs, or with a model that is served.

    rfcx-tf predict --run runs/rfcx --audio FIELD --results results
    rfcx-tf predict --run runs/rfcx --audio DIR/test --out scores.csv \\
        --like DIR/sample_submission.csv
    rfcx-tf predict --run runs/a runs/b --weights 0.7 0.3 --audio DIR --out scores.csv
    rfcx-tf predict --run runs/rfcx --audio FIELD --out scores.csv \\
        --events events --format csv raven --recording-times starts.csv
    rfcx-tf predict --run runs/rfcx --audio ARCHIVE --out scores.csv --part 3/100
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

--part I/N is for the batch system of a cluster: N jobs run the same command, but for I, 1 to N.
Each scores its own share of the recordings and writes no table. `rfcx-tf gather --out OUT` writes
them when all have ended. A job that was stopped is run again.

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
import re
from pathlib import Path
from typing import Any

from rfcx_tf.audio.find import find_recordings
from rfcx_tf.cli.arguments import (
    above_zero,
    add_channel_argument,
    add_combination_arguments,
    add_number,
    add_recording_ids_argument,
    add_run_override_argument,
    print_next,
    print_notes,
)
from rfcx_tf.cli.predicted import (
    list_unused,
    locked_tables,
    report_and_next,
    write_predictions,
)
from rfcx_tf.cli.score import is_bulk, score
from rfcx_tf.cli.tables import add_table_arguments, name_results, output_tables
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.storage import StoredFile, as_path

_RUNS, _BULK, _SERVED = "scoring with runs", "by several processes", "scoring with a served model"
# Of the settings of a part: the folder in which it was run, where paths are given from there.
FOLDER = "the folder"
# What decides no result: every part may have its own.
_OF_ONE_PART = {
    *("-h", "--part", "--workers", "--runner", "--server"),
    *("--max-request-mib", "--concurrency", "--timeout-s", "--retries"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", nargs="+", type=Path, help="run folder(s)")
    source.add_argument("--server", help="http://HOST:8501, https://HOST or grpc://HOST:8500")
    parser.add_argument(
        "--part",
        type=_part,
        metavar="I/N",
        help="score the I-th of N shares of the recordings, I from 1; `gather` makes the tables",
    )
    parser.add_argument(
        "--audio",
        required=True,
        nargs="+",
        type=as_path,
        help="recordings, or folders of them, also by URL: s3://bucket/folder",
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
    # What the parts of a prediction must have in common is what was given, not what follows.
    settings = _settings(arguments)
    name_results(arguments)
    if arguments.part:
        return _run_part(arguments, settings)
    with locked_tables(arguments, "predict"):
        status = _run(arguments)
    return status | report_and_next(arguments)


def _run(arguments: argparse.Namespace) -> int:
    recordings, tables = _recordings_and_tables(arguments)
    print_notes(recordings.notes)
    folder = _folder_of_one_process(arguments.out)
    card, journal, predictions = score(arguments, recordings, tables, folder)
    status = write_predictions(
        *(arguments, tables, card, recordings, predictions),
        lambda: map(journal.read, predictions.scores["recording_id"]),
        f"The same command tries these again; {journal.folder} has the others.",
    )
    if not predictions.failed:
        journal.remove()
    return status


def _run_part(arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    from rfcx_tf.scoring.parts import begin_part, end_part, parts_folder

    part, folder = arguments.part, parts_folder(arguments.out)
    recordings, tables = _recordings_and_tables(arguments)
    with begin_part(folder, part):
        card, journal, predictions = score(arguments, recordings, tables, part.journal(folder))
        end_part(folder, part, settings, recordings, journal, card, predictions)
    status = list_unused(predictions)
    scored = len(predictions.scores)
    print(f"Part {part.number} of {part.of}: {scored} of {len(recordings)} recordings are scored.")
    of_all = ("--results", arguments.results) if arguments.results else ("--out", arguments.out)
    print_next("gather", *of_all)
    return status


def _recordings_and_tables(arguments: argparse.Namespace):
    recordings = find_recordings(arguments.audio, arguments.recording_ids)
    # What could go wrong at the end is checked before hours of work.
    tables = output_tables(arguments)
    tables.check(len(recordings))
    return recordings, tables


def _folder_of_one_process(out: Path) -> Path:
    """Where results of single recordings are kept, unless parts of a prediction are there."""
    from rfcx_tf.scoring.parts import parts_folder, refuse_parts

    refuse_parts(folder := parts_folder(out))
    return folder


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for all parts of a prediction."""
    values = arguments.parser.plain_values(arguments)
    settings = {option: value for option, value in values.items() if option not in _OF_ONE_PART}
    paths = [p for v in vars(arguments).values() for p in (v if isinstance(v, list) else [v])]
    if any(isinstance(path, Path) and not path.is_absolute() for path in paths):
        settings[FOLDER] = os.getcwd()
    return settings


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
    stored = [place for place in arguments.audio if isinstance(place, StoredFile)]
    if stored and is_bulk(arguments):
        raise UserError(
            "--workers and --runner take recordings from a folder that all workers see. Received: "
            f"{stored[0]}. Take --part I/N instead."
        )
    if is_bulk(arguments):
        importlib.import_module("apache_beam")  # Whether it is installed shows before any work.


def _part(text: str):
    from rfcx_tf.scoring.parts import Part

    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not match or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N, I from 1 to N. Received: {text}")
    return Part(int(match[1]), int(match[2]))


def _seconds_or_whole(text: str) -> float:
    return float("inf") if text == "whole" else above_zero(float)(text)
