"""Evaluates scores against truth, or a run on what its folds did not see.

rfcx-tf evaluate --scores scores.csv --truth demo/data/test_truth.csv
rfcx-tf evaluate --run runs/demo [--truth demo/data/train_truth.csv]
"""

from __future__ import annotations

import argparse

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="CSV", help="recording_id,s0,s1,...")
    source.add_argument("--run", metavar="DIR", help="run folder: its out-of-fold predictions")
    parser.add_argument("--truth", metavar="CSV", help="same columns, 1 present, 0 absent")
    parser.add_argument("--species", metavar="CSV", help="species_id,name: names in the table")
    parser.add_argument("--out", metavar="CSV", help="also write the table to this file")


def run(arguments: argparse.Namespace) -> int:
    if arguments.out and not arguments.truth:
        raise UserError("--out writes the table of the recordings. Add --truth CSV.")
    with lock_files([arguments.out], "evaluate"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.csv_tables import spreadsheet_text
    from rfcx_tf.core.files import atomic_write_text
    from rfcx_tf.core.species import read_species
    from rfcx_tf.evaluation.recordings import evaluate_scores, format_evaluation
    from rfcx_tf.evaluation.run import evaluate_run
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.score_table import read_scores, read_truth

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
        table = evaluation.table.map(lambda c: spreadsheet_text(c) if isinstance(c, str) else c)
        atomic_write_text(arguments.out, table.to_csv(index=False, lineterminator="\n"))
        print(f"Wrote {arguments.out}.")
    return 0
