"""Says what a data folder holds, what is doubtful in it, and which recipe fits.

    rfcx-tf check DIR --recipe my.yaml --out check.html
    rfcx-tf check --audio FOLDER --annotations selections/ --recipe my.yaml

Of every species: rows, lengths and bands of boxes. Of recordings: sample rates, lengths, which are
missing or damaged. What is doubtful in rows: boxes outside their recording or above half its sample
rate, doubled ones, TP and FP rows that contradict each other, species in one recording only. What
each fold will hold out. The page that --out writes has pictures and sound besides.

--recipe writes a recipe for these boxes and this machine, with the reason for every value; train
on it as on any other. With --weights it begins with YAMNet's weights, which hear up to 7.5 kHz.

--annotations takes Raven selection tables and Audacity labels as import-annotations does, before
anything is imported.

The exit status is 0 where nothing is missing, damaged or doubtful, and 1 otherwise.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from rfcx_tf.cli.arguments import (
    above_zero,
    add_recording_ids_argument,
    find_recipe,
    print_next,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_file

_TABLES = "tables that are not imported yet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", type=Path, metavar="DIR", help="data folder")
    tables = parser.add_argument_group(_TABLES)
    tables.add_argument("--audio", type=Path, metavar="FOLDER", help="the recordings")
    tables.add_argument(
        "--annotations", nargs="+", type=Path, metavar="T", help="tables, or folders of them"
    )
    tables.add_argument(
        "--class-column",
        metavar="NAME",
        help="Raven's species column; default Species, Annotation, Common Name",
    )
    tables.add_argument("--verdict-column", metavar="NAME", help="Raven's column of TP or FP")
    tables.add_argument("--species", metavar="NAME", help="the species of all rows")
    add_recording_ids_argument(tables, "--annotations", default=None)
    parser.add_argument("--out", type=Path, metavar="HTML", help="write a page with pictures")
    parser.add_argument("--recipe", type=Path, metavar="YAML", help="write a recipe that fits")
    parser.add_argument(
        "--machine",
        choices=("cpu", "gpu"),
        help="what the recipe is to be trained on; default: as this machine",
    )
    parser.add_argument(
        "--minutes",
        type=above_zero(float),
        metavar="X",
        help="the recipe's training may take, all folds together; default: as long as it pays",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the recipe begins with YAMNet's weights: yamnet.h5, or the folder of a SavedModel",
    )
    parser.add_argument(
        "--listen",
        action="store_true",
        help="decode all recordings to their ends, which finds damage inside; default: headers",
    )


def run(arguments: argparse.Namespace) -> int:
    data = arguments.data
    if (data is None) == (arguments.annotations is None):
        raise UserError(
            "A check is of a data folder, or of tables and sound. Name DIR, or --annotations "
            "TABLES and --audio FOLDER."
        )
    if data is not None:
        why = "is for --annotations. Leave it out."
        arguments.parser.refuse_group(arguments, _TABLES, why)
    elif arguments.audio is None:
        raise UserError("Tables are checked against their recordings. Add --audio FOLDER.")
    with (
        lock_file(arguments.out, "check") if arguments.out else nullcontext(),
        lock_file(arguments.recipe, "check") if arguments.recipe else nullcontext(),
    ):
        return _run(data, arguments)


def _run(data: Path | None, arguments: argparse.Namespace) -> int:
    from rfcx_tf.check.folds import fold_table
    from rfcx_tf.check.recipe import propose_recipe, recipe_text
    from rfcx_tf.check.screen import screen_text
    from rfcx_tf.check.speed import Machine
    from rfcx_tf.check.suspicious import find_suspicious
    from rfcx_tf.core.config import TrainingConfig
    from rfcx_tf.core.files import atomic_write_text

    start = _published_start(arguments.weights) if arguments.weights else None
    facts = _facts(data, arguments)
    suspicious = find_suspicious(facts)
    machine = Machine.this(arguments.machine)
    try:
        proposal = propose_recipe(facts, machine, arguments.minutes, start)
    except UserError as error:
        proposal = str(error)
    try:
        is_text = isinstance(proposal, str)
        folds = fold_table(facts, TrainingConfig() if is_text else proposal.config.training)
    except UserError as error:
        folds = str(error)
    print(screen_text(facts, folds, suspicious, proposal))
    if arguments.out:
        from rfcx_tf.check.page import check_sections
        from rfcx_tf.report.page import report_page

        command = arguments.command_line
        sections = check_sections(facts, folds, suspicious, proposal, command)
        name = (data or arguments.audio).resolve().name
        html = report_page(f"Check of {name}", "Before training", sections, command)
        atomic_write_text(arguments.out, html)
        print(f"Wrote {arguments.out}: {len(html.encode()) / 1e6:.2f} MB.")
    if arguments.recipe:
        if isinstance(proposal, str):
            raise UserError(proposal)
        atomic_write_text(arguments.recipe, recipe_text(proposal, arguments.command_line))
        print(f"Wrote {arguments.recipe}: {len(proposal.choices)} values, each with its reason.")
    _print_next(data, arguments)
    return 1 if suspicious else 0


def _published_start(weights: Path):
    """The recipe that begins with these weights of YAMNet."""
    from rfcx_tf.core.config import load_config

    if not weights.exists():
        raise UserError(
            f"--weights names yamnet.h5 or a SavedModel of YAMNet. Not found: {weights}. Fetch "
            "https://storage.googleapis.com/audioset/yamnet.h5, or leave --weights out."
        )
    return load_config(find_recipe("yamnet"), [f"model.backbone.weights={weights}"])


def _facts(data: Path | None, arguments: argparse.Namespace):
    from rfcx_tf.check.facts import read_data_folder, read_tables
    from rfcx_tf.labels.annotation_tables import find_tables
    from rfcx_tf.labels.marks import TableColumns

    if data is not None:
        return read_data_folder(data, listen=arguments.listen)
    tables, _ = find_tables(arguments.annotations)
    return read_tables(
        tables,
        arguments.audio,
        TableColumns(
            arguments.class_column,
            arguments.verdict_column,
            arguments.species,
            arguments.annotations if arguments.recording_ids == "path" else (),
        ),
        same_names=arguments.recording_ids is not None,
        listen=arguments.listen,
    )


def _print_next(data: Path | None, arguments: argparse.Namespace) -> None:
    if data is None:
        print_next("import-annotations", "--tables", *arguments.annotations, "--data", "DIR")
    elif arguments.recipe:
        recipe = arguments.recipe
        print_next("train", "--config", recipe, "--data", data, "--run", f"runs/{recipe.stem}")
    else:
        print_next("check", data, "--recipe", "my.yaml")
