"""Arguments that several verbs take."""

from __future__ import annotations

import argparse

from rfcx_tf.audio.find import RECORDING_IDS
from rfcx_tf.core.errors import UserError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--config FILE` and `--set key.sub=value`, read as `config` and `overrides`.

    Both go straight to `rfcx_tf.core.config.load_config`.
    """
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe, a YAML file")
    add_override_argument(parser, "change one value of the recipe, such as training.epochs=3")


def add_override_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Adds `--set key.sub=value`, read as the list `overrides`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY.SUB=VALUE",
        help=f"{help_text}; may be repeated",
    )


def add_run_override_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--set prediction.key=value`, for `RunFolder.open`."""
    add_override_argument(parser, "change how a run predicts: prediction.running_mean_s=3")


def add_recording_ids_argument(parser: argparse.ArgumentParser, below: str = "--audio") -> None:
    """Adds `--recording-ids name|path`, for `rfcx_tf.audio.find.find_recordings`.

    Args:
        parser: of the script.
        below: the option that names the folders.
    """
    parser.add_argument(
        "--recording-ids",
        choices=RECORDING_IDS,
        default="name",
        help="call recordings by their files' names, or by their paths below the folder of "
        f"{below}, where recorders name files alike: site1/20210101_050000; default: name",
    )


def add_combination_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--combine` and `--weights`, for `rfcx_tf.scoring.ensemble`."""
    parser.add_argument(
        "--combine",
        choices=("mean", "window"),
        default="mean",
        help="of several runs, the mean of their scores, or the highest mean of their windows",
    )
    add_weights_argument(parser)


def check_prior(arguments: argparse.Namespace) -> None:
    """Refuses `--prior` beside another `--combine` than it was made with.

    Raises:
        UserError: with what to leave out.
    """
    if arguments.prior and arguments.combine != "mean":
        raise UserError(
            "--prior is of scores that are combined by their mean. Received: --combine "
            f"{arguments.combine}. Leave one of them out."
        )


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--weights`, for `rfcx_tf.scoring.ensemble.choose_weights`."""
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="W",
        help="of several runs: a number each, or a file of ensemble.py; default: equal",
    )


def read_folds(text: str, folds: int) -> list[int]:
    """The folds that `--fold K`, `--fold K,K` or `--fold all` means, of so many.

    Raises:
        UserError: if it is neither.
    """
    if text == "all":
        return list(range(folds))
    numbers = [part.strip() for part in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--fold takes a number, several as in 1,3, or `all`. Received: {text!r}.")
    return list(dict.fromkeys(int(number) for number in numbers))
