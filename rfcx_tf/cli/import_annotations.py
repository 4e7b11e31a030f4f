"""Adds boxes that people drew in Raven or Audacity to a data folder in the Kaggle layout.

    rfcx-tf import-annotations --tables selections/ --data DIR
    rfcx-tf import-annotations --tables checked.txt --data DIR --verdict-column Verdict

Tables are Raven selection tables (with the species in a column, and TP or FP in another where
somebody has judged the boxes) and Audacity labels (`species`, or `species|FP`). Rows are added to
DIR/train_tp.csv and DIR/train_fp.csv, species to DIR/species.csv. What is in these files stays, and
the same tables again change nothing.

With --recording-ids path, selections/site1/a.txt belongs to the recording DIR/train/site1/a.wav,
whose id is site1/a.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_recording_ids_argument, print_added


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tables", required=True, nargs="+", type=Path, help="tables, or folders of them (.txt)"
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="data folder")
    parser.add_argument(
        "--class-column", metavar="NAME", help="Raven's species column; default Species, Annotation"
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
        "of it), or nothing; must be given where there is one",
    )
    add_recording_ids_argument(parser, "--tables")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.labels.annotation_import import import_annotations
    from rfcx_tf.labels.annotation_tables import find_tables
    from rfcx_tf.labels.marks import TableColumns

    columns = TableColumns(
        arguments.class_column,
        arguments.verdict_column,
        arguments.species,
        arguments.tables if arguments.recording_ids == "path" else (),
    )
    tables = find_tables(arguments.tables)
    imported = import_annotations(tables, arguments.data, columns, arguments.empty_means)
    print(
        f"{len(tables)} tables, {imported.empty_tables} of them empty: {imported.repeated} rows "
        f"were there already, {imported.unjudged} without a verdict were left out."
    )
    if imported.missing:
        print(
            f"{len(imported.missing)} recordings of the tables are not in {arguments.data}/train, "
            f"such as {imported.missing[0]}."
        )
    print_added(imported, arguments.data)
    return 0
