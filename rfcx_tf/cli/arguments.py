"""Arguments and last lines that several verbs share."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rfcx_tf.audio.find import RECORDING_IDS
from rfcx_tf.core.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# The recipes that come with an installed package, and those of a clone.
_RECIPES = (_PACKAGE / "recipes", _PACKAGE.parent / "configs")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--config FILE` and `--set key.sub=value`, for `load_recipe`."""
    add_config_argument(parser, required=True)
    add_override_argument(parser, "change one value of the recipe, such as training.epochs=3")


def add_config_argument(parser: argparse._ActionsContainer, **options) -> None:
    """Adds `--config FILE`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="recipe: a YAML file, or the name of one that comes along: demo, fieldmix, rfcx",
        **options,
    )


def load_recipe(arguments: argparse.Namespace):
    """The `Config` that `--config` and `--set` describe."""
    from rfcx_tf.core.config import load_config

    return load_config(find_recipe(arguments.config), arguments.overrides)


def find_recipe(text: str) -> str:
    """The path of a recipe that comes along, if `text` is its name; else `text`."""
    if not Path(text).is_file():
        for folder in _RECIPES:
            if (folder / f"{text}.yaml").is_file():
                return str(folder / f"{text}.yaml")
    return text


def add_override_argument(parser: argparse._ActionsContainer, help_text: str) -> None:
    """Adds `--set key.sub=value`, read as the list `overrides`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY.SUB=VALUE",
        help=f"{help_text}; may be repeated",
    )


def add_run_override_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--set prediction.key=value`, for `RunFolder.open`."""
    add_override_argument(parser, "change how a run predicts: prediction.running_mean_s=3")


def add_recording_ids_argument(
    parser: argparse._ActionsContainer, below: str = "--audio", default: str | None = "name"
) -> None:
    """Adds `--recording-ids name|path`, for `rfcx_tf.audio.find.find_recordings`.

    Args:
        parser: of the verb.
        below: the option that names the folders.
        default: None: name, where that leaves no doubt.
    """
    parser.add_argument(
        "--recording-ids",
        choices=RECORDING_IDS,
        default=default,
        help="call recordings by their files' names, or by their paths below the folder of "
        f"{below}, where recorders name files alike: site1/20210101_050000; default: name"
        + ("" if default else ", and refused where tables in several folders name one alike"),
    )


def add_channel_argument(parser: argparse._ActionsContainer, default: str) -> None:
    """Adds `--channel mean|loudest|0|1...`, for `rfcx_tf.audio.decode.AudioSource`.

    Args:
        parser: of the verb.
        default: what is listened to without it, in words.
    """

    def channel(text: str) -> str:
        from rfcx_tf.core.config.audio import CHANNEL

        if not re.fullmatch(CHANNEL, text):
            raise argparse.ArgumentTypeError(
                f"must be mean, loudest or a number from 0. Received: {text}"
            )
        return text

    parser.add_argument(
        "--channel",
        type=channel,
        metavar="mean|loudest|N",
        help="of recordings of several channels: their mean, which gives way to the louder one "
        f"where it is silence; the loudest; or one, counted from 0; default: {default}",
    )


def add_combination_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds `--combine` and `--weights`, for `rfcx_tf.scoring.ensemble`."""
    parser.add_argument(
        "--combine",
        choices=("mean", "window"),
        default="mean",
        help="of several runs, the mean of their scores, or the highest mean of their windows",
    )
    add_weights_argument(parser)


def add_weights_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--weights`, for `rfcx_tf.scoring.ensemble_weights.choose_weights`."""
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="W",
        help="of several runs: a number each, or a file of `ensemble`; default: equal",
    )


def add_event_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds the formats of events and the rules that they are found by, for `event_rules`."""
    from rfcx_tf.events.write import FORMATS

    parser.add_argument(
        "--format",
        dest="formats",
        default=["csv"],
        nargs="+",
        choices=tuple(FORMATS),
        metavar="F",
        help=f"{', '.join(FORMATS)}; default: csv",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="YAML",
        help="of `calibrate`; default: the model's own (of a single run: "
        "calibration.yaml in it), if it has one",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="from which a window starts an event, for all species; default: those of the "
        "calibration, or a score of 0.5",
    )
    parser.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="by species: a CSV with species_id or species, and threshold, or a calibration; "
        "species that the CSV does not name keep theirs",
    )
    parser.add_argument(
        "--species", nargs="+", metavar="S", help="only these, by name or number; default: all"
    )
    add_number(parser, "--min-s", 0.0, "s; shorter events are left out", or_zero=True)
    add_number(
        parser, "--merge-gap", 0.2, "s; events of a species no further apart are one", or_zero=True
    )
    add_number(
        parser, "--low-ratio", 0.8, "of the threshold, down to which an event goes on, at most 1"
    )
    parser.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the files and their names",
    )


def event_rules(arguments: argparse.Namespace):
    """The `EventRules` of `add_event_arguments`."""
    from rfcx_tf.events.rules import EventRules

    names = [field.name for field in dataclasses.fields(EventRules)]
    return EventRules(**{name: getattr(arguments, name) for name in names})


def read_folds(text: str, folds: int) -> list[int]:
    """The folds that `--fold K`, `--fold K,K` or `--fold all` names; UserError for other text."""
    if text == "all":
        return list(range(folds))
    numbers = [part.strip() for part in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--fold takes a number, several as in 1,3, or `all`. Received: {text!r}.")
    return list(dict.fromkeys(int(number) for number in numbers))


def add_number(
    parser: argparse._ActionsContainer,
    option: str,
    default: float,
    help_text: str,
    *,
    or_zero: bool = False,
) -> None:
    """Adds an option that takes a finite number above 0, or also 0.

    Args:
        default: an int for whole numbers, else a float; it is added to the help text.
    """
    parser.add_argument(
        option,
        type=above_zero(type(default), or_zero=or_zero),
        default=default,
        metavar="N" if isinstance(default, int) else "X",
        help=f"{help_text}; default: {default:g}",
    )


def above_zero(kind: type, *, or_zero: bool = False) -> Callable[[str], float]:
    """A converter of arguments to finite numbers above 0; `kind` is int or float."""

    def convert(text):
        value = kind(text)
        if not (0 < value < math.inf or (or_zero and value == 0)):
            rule = "0 or more" if or_zero else "above 0"
            raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text}")
        return value

    convert.__name__ = kind.__name__  # argparse names it where `kind` cannot read the text.
    return convert


def print_next(*words: str | Path) -> None:
    """Prints the command that usually comes next."""
    print("Next: " + shlex.join(["rfcx-tf", *map(str, words)]))


def print_next_prediction(runs: Sequence[Path], *words: str | Path) -> None:
    """Prints how runs predict; recordings are called as those that a run held out.

    Args:
        runs: folders of runs.
        words: what else the command has.
    """
    command = ["predict", "--run", *runs, "--audio", "FOLDER", "--results", "results"]
    scores = runs[0] / "oof_scores.csv"
    if scores.exists():
        with scores.open(encoding="utf-8") as lines:
            if any("/" in line for line in lines):
                command += ["--recording-ids", "path"]
    print_next(*command, *words)


def print_added(added, data_dir: Path) -> None:
    """Prints what was added to a data folder's tables.

    Args:
        added: an `Imported` or `Applied`.
        data_dir: the data folder.
    """
    for species in added.new_classes:
        print(f"New species s{species.species_id}: {species.name}")
    print(
        f"Added {added.added_tp} rows to {data_dir / 'train_tp.csv'} and {added.added_fp} to "
        f"{data_dir / 'train_fp.csv'}."
    )


def print_notes(lines: Iterable[str]) -> None:
    """Prints what was passed over for a reason that is no fault."""
    for line in lines:
        print(line)


def list_remarks(lines: Iterable[str]) -> None:
    """Lists on stderr what is to be said of recordings that were used whole, if anything is."""
    list_left_out("Used whole, with a remark", lines)


def list_left_out(heading: str, lines: Iterable[str]) -> int:
    """Lists on stderr what was left out, if anything was; returns the exit status, 0 or 1."""
    lines = list(lines)
    if not lines:
        return 0
    print(f"{heading}, {len(lines)} in all:", *lines, sep="\n  ", file=sys.stderr)
    return 1
