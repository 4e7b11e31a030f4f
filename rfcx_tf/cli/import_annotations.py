"""Adds boxes that people drew in Raven or Audacity to a data folder in the Kaggle layout.

    rfcx-tf import-annotations --tables selections/ --data DIR
    rfcx-tf import-annotations --tables checked.txt --data DIR --verdict-column Verdict
    rfcx-tf import-annotations --tables BIRDNET --data DIR --detections found.csv
    rfcx-tf import-annotations --tables selections/ --data DIR --complete

Tables are Raven selection tables (with the species in a column, and TP or FP in another where
somebody has judged the boxes) and Audacity labels (`species`, or `species|FP`), separated by tabs,
semicolons or commas. Rows are added to DIR/train_tp.csv and DIR/train_fp.csv, species to
DIR/species.csv. What is in these files stays, and the same tables again change nothing. Rows and
tables that cannot be used are listed by file and line, and the rest is imported.

Results of a detector (BirdNET's tables for Raven and Audacity and its CSV, or any with a confidence
and no verdict) become no rows, since nobody has judged them. --detections writes them as events,
for `review pick`.

With --complete the recordings of the tables are noted in DIR/complete.csv: all calls in them are
marked, so that what is not marked there is absent. A table without rows then is of a recording in
which nothing calls.

With --recording-ids path, selections/site1/a.txt belongs to the recording DIR/train/site1/a.wav,
whose id is site1/a.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import (
    add_recording_ids_argument,
    list_left_out,
    print_added,
    print_next,
    print_notes,
)
from rfcx_tf.core.lock import lock_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tables", required=True, nargs="+", type=Path, help="tables, or folders of them"
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="data folder")
    parser.add_argument(
        "--class-column",
        metavar="NAME",
        help="Raven's species column; default Species, Annotation, Common Name",
    )
    parser.add_argument(
        "--verdict-column",
        metavar="NAME",
        help="Raven's column of TP or FP, where rows with an empty verdict are left out; default "
        "Verdict where a table has that, else all rows are TP",
    )
    parser.add_argument("--species", metavar="NAME", help="the species of all rows")
    parser.add_argument(
        "--empty-means",
        choices=("absent", "unknown"),
        help="what a table without rows says: no species is in the recording (FP rows over all "
        "of it), or nothing; must be given where there is one, unless --complete is",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="all calls in the recordings of the tables are marked (with --species: all of that "
        "species): what is not marked there is absent",
    )
    parser.add_argument(
        "--detections",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="CSV",
        help="write what detectors found as events to be reviewed; default: DIR/detections.csv",
    )
    add_recording_ids_argument(parser, "--tables", default=None)


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.labels.annotation_import import import_annotations
    from rfcx_tf.labels.annotation_tables import find_tables
    from rfcx_tf.labels.complete import COMPLETE_TABLE
    from rfcx_tf.labels.marks import TableColumns

    columns = TableColumns(
        arguments.class_column,
        arguments.verdict_column,
        arguments.species,
        arguments.tables if arguments.recording_ids == "path" else (),
    )
    tables, unsearched = find_tables(arguments.tables)
    imported = import_annotations(
        tables,
        arguments.data,
        columns,
        arguments.empty_means,
        same_names=arguments.recording_ids is not None,
        complete=arguments.complete,
    )
    print(
        f"{len(tables)} tables, {imported.empty_tables} of them empty: {imported.repeated} rows "
        f"were there already, {imported.unjudged} without a verdict were left out."
    )
    print_notes(imported.notes)
    if arguments.complete:
        print(
            f"Noted {len(imported.complete)} recordings as completely annotated in "
            f"{arguments.data / COMPLETE_TABLE}."
        )
    print_added(imported, arguments.data)
    print_next("check", arguments.data, "--recipe", "my.yaml", "--out", "check.html")
    left_out = [*unsearched, *imported.left_out]
    if imported.detections and arguments.detections is None:
        left_out.append(
            f"{len(imported.detections)} rows of a detector, which nobody has judged, such as "
            f"{imported.detections[0].mark.source}: --detections writes them as candidates for "
            "`review pick`."
        )
    elif imported.detections:
        _write_detections(imported.detections, arguments)
    status = list_left_out("Left out", left_out)
    where = arguments.data / "train"
    return status | list_left_out(
        f"Recordings that are not in {where}, without which their rows are not used",
        imported.missing,
    )


def _write_detections(detections, arguments: argparse.Namespace) -> None:
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.events.detections import events_of_detections
    from rfcx_tf.events.table import csv_text

    path = arguments.detections
    if path == Path():
        path = arguments.data / "detections.csv"
    with lock_file(path, "import-annotations"):
        atomic_write_text(path, csv_text(events_of_detections(detections), [], 0.0))
    print(f"Wrote {path}: {len(detections)} detections to be reviewed.")
    print_next(
        *("review", "pick", "--events", path, "--audio", arguments.data / "train"),
        *("--data", arguments.data, "--out", "review"),
    )
