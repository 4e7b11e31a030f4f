"""Evaluates scores against truth, a run on what its folds did not see, or events against boxes.

    rfcx-tf evaluate --scores scores.csv --truth demo/data/test_truth.csv
    rfcx-tf evaluate --run runs/demo [--truth demo/data/train_truth.csv]
    rfcx-tf evaluate --events events.csv --boxes demo/data/truth_events.csv --hours 0.8

--boxes lists all calls of all recordings that were searched, labelled or not, in the columns of
train_tp.csv; boxes of a species that are at most 0.5 s apart count as one call. Recordings that it
does not list have no calls. The table says F1 of events by overlap in time (any, and intersection
over union from 0.5 and 0.7 on) and at a collar, median overlaps in time and frequency, and PSDS, if
--hours says how much sound was searched. Find events with a low threshold for PSDS.
"""

from __future__ import annotations

import argparse

from rfcx_tf.cli.arguments import above_zero, add_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files

_EVENTS = "how well events fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="CSV", help="recording_id,s0,s1,...")
    source.add_argument("--run", metavar="DIR", help="run folder: its out-of-fold predictions")
    source.add_argument("--events", metavar="PATH", help="of `predict` or `events`, csv or parquet")
    parser.add_argument("--truth", metavar="CSV", help="same columns, 1 present, 0 absent")
    parser.add_argument("--species", metavar="CSV", help="species_id,name: names in the table")
    parser.add_argument("--out", metavar="CSV", help="also write the table to this file")
    events = parser.add_argument_group(_EVENTS)
    events.add_argument("--boxes", metavar="CSV", help="all calls of the recordings")
    events.add_argument(
        "--hours", type=above_zero(float), metavar="H", help="of sound that was searched, for PSDS"
    )
    add_number(events, "--collar", 0.2, "s that begins and ends may be off")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.events:
        why = "is for events. Add --events PATH, or leave it out."
        arguments.parser.refuse_group(arguments, _EVENTS, why)
    elif not arguments.boxes:
        raise UserError("--events are evaluated against all calls. Add --boxes CSV.")
    elif arguments.truth:
        raise UserError("--truth is for scores of recordings. Leave it out with --events.")
    if arguments.out and not (arguments.truth or arguments.events):
        raise UserError("--out writes the table of the recordings. Add --truth CSV.")
    with lock_files([arguments.out], "evaluate"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.species import read_species
    from rfcx_tf.evaluation.recordings import evaluate_scores, format_evaluation
    from rfcx_tf.evaluation.run import evaluate_run
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.score_table import read_scores, read_truth

    if arguments.events:
        return _evaluate_events(arguments)
    truth = read_truth(arguments.truth) if arguments.truth else None
    if arguments.run:
        crops, evaluation = evaluate_run(open_run(arguments.run), truth)
        text = crops.to_string(index=False, float_format="%.4f", na_rep="-")
        print("Held-out crops:", text, sep="\n")
        if evaluation:
            print("\nHeld-out recordings:")
    elif truth is None:
        raise UserError("--scores are evaluated against complete labels. Add --truth CSV.")
    else:
        names = None
        if arguments.species:
            names = {species.column: species.name for species in read_species(arguments.species)}
        evaluation = evaluate_scores(read_scores(arguments.scores), truth, names)
    if evaluation:
        print(format_evaluation(evaluation))
    if arguments.out:
        _write(evaluation.table, arguments.out)
    return 0


def _evaluate_events(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.species import read_species
    from rfcx_tf.evaluation.event_scores import (
        calls_of_boxes,
        event_figures,
        events_to_compare,
        read_boxes,
    )
    from rfcx_tf.events.read import read_events

    events, calls = read_events(arguments.events), calls_of_boxes(read_boxes(arguments.boxes))
    names = dict(zip(events["species_id"], events["species"], strict=True))
    if arguments.species:
        names |= {species.species_id: species.name for species in read_species(arguments.species)}
    ids = sorted({*events["species_id"], *calls["species_id"]})
    figures = event_figures(
        events_to_compare(events),
        calls,
        [(species_id, names.get(species_id, "")) for species_id in ids],
        hours=arguments.hours,
        collar_s=arguments.collar,
    )
    print(figures.text)
    if arguments.out:
        _write(figures.table, arguments.out)
    return 0


def _write(table, out: str) -> None:
    from rfcx_tf.core.csv_tables import spreadsheet_text
    from rfcx_tf.core.files import atomic_write_text

    table = table.map(lambda cell: spreadsheet_text(cell) if isinstance(cell, str) else cell)
    atomic_write_text(out, table.to_csv(index=False, lineterminator="\n"))
    print(f"Wrote {out}.")
