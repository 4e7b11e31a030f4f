"""Scores whole recordings of any length with one run, or with several combined.

    rfcx-tf predict --run runs/rfcx --audio DIR/test --out scores.csv \\
        --like DIR/sample_submission.csv
    rfcx-tf predict --run runs/a runs/b --weights 0.7 0.3 --audio DIR --out scores.csv
    rfcx-tf predict --run runs/rfcx --audio FIELD --out scores.csv \\
        --events events --format csv raven --recording-times starts.csv

Folders are searched with their subfolders for .flac, .mp3, .ogg and .wav files, in capitals too.
What a file holds is told from its bytes: a FLAC named .wav is read. A file with sound in it that
is named like none of these is not, and is listed with the files that cannot be read.

Recordings are called by their files' names. Where recorders at several sites name files alike, name
the folder above the sites and --recording-ids path, for site1/20210101_050000 and so on.

Results of single recordings are kept in OUT.parts until all are there. The same command goes on
where it was stopped, and later tries those again that could not be read.

Events (what was heard when) are of calibrated probabilities where there is a calibration, else of
scores. --events names a file for all recordings (events.csv) or a folder for one file each, in
subfolders where recordings are called by their paths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.audio.find import find_recordings, misnamed_recordings
from rfcx_tf.cli.arguments import (
    add_combination_arguments,
    add_recording_ids_argument,
    add_run_override_argument,
    check_prior,
)
from rfcx_tf.cli.tables import add_table_arguments, wanted_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    add_recording_ids_argument(parser)
    add_table_arguments(parser)
    add_combination_arguments(parser)
    add_run_override_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.events.output import Tables

    check_prior(arguments)
    recordings = find_recordings(arguments.audio, arguments.recording_ids)
    # What could go wrong at the end is tried now, not after hours of work.
    tables = Tables(wanted_tables(arguments), len(recordings))
    from rfcx_tf.runs.open import open_runs
    from rfcx_tf.scoring.ensemble import choose_weights
    from rfcx_tf.scoring.journal import Journal, fingerprint_runs
    from rfcx_tf.scoring.load import load_together
    from rfcx_tf.scoring.predict import predict_recordings

    weights = choose_weights(arguments.weights, arguments.run)
    runs = open_runs(arguments.run, arguments.overrides)
    scorer = load_together(runs, weights, arguments.combine)
    tables.check_model(scorer.card, recordings)
    parts = Journal(
        f"{arguments.out}.parts",
        fingerprint_runs(runs, weights, arguments.combine, tables.keep_windows),
    )
    if parts.started_over:
        print(f"{parts.folder} was of other runs, weights or options: all recordings are new.")
    predictions = predict_recordings(
        scorer, recordings, journal=parts, keep_windows=tables.keep_windows
    )

    def results():
        return map(parts.read, predictions.scores["recording_id"])

    tables.write(scorer.card, predictions.scores, results, complete=not predictions.failed)
    if not predictions.failed:
        parts.remove()
    return tables.report_failures(predictions.failed, misnamed_recordings(arguments.audio))
