"""The command `rfcx-tf`: a verb and its arguments -> an exit status."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from rfcx_tf import __version__
from rfcx_tf.core.errors import UserError, WorkStopped
from rfcx_tf.core.files import is_disk_full
from rfcx_tf.core.storage import as_path, is_in_store

# Packages that not every installation has, and the extra that brings them.
EXTRAS = {
    "aiohttp": "serve",
    "grpc": "serve",
    "prometheus_client": "serve",
    "tensorflow_serving": "serve",
    "apache_beam": "bulk",
    "s3fs": "s3",
    "gcsfs": "gs",
    "adlfs": "az",
}

# By group and verb, in the order of `--help`. The verb `make-tfrecords` is the module
# rfcx_tf.cli.make_tfrecords with `add_arguments(parser)` and `run(arguments)`. Only the module of
# the verb that runs is imported.
VERBS = {
    "Every day": {
        "import-annotations": "add boxes drawn in Raven or Audacity to a data folder",
        "check": "say what a data folder holds, what is doubtful, and which recipe fits",
        "train": "train a detector, a listener or a baseline; of a data folder all that it takes",
        "predict": "score recordings, and find events in them",
        "review": "pick events for a person to judge, show them, and take the verdicts back",
        "report": "make one HTML page of a run or of predictions",
        "events": "find events anew in window scores that predict kept",
        "evaluate": "evaluate scores, or what a run held out",
        "calibrate": "make probabilities and thresholds from what runs held out, or of verdicts",
        "export": "export a run as a SavedModel that takes waveforms",
        "serve": "serve exported models over REST and gRPC",
    },
    "Advanced": {
        "make-demo-data": "write a small synthetic rainforest with complete truth",
        "make-tfrecords": "cut spectrogram crops around all boxes into shards",
        "devices": "say what training will use: devices, precision, memory",
        "ensemble": "fit weights of several runs on what they held out",
        "pseudo-label": "train students on labels by runs, in rounds",
        "gather": "put the parts together that predict --part left",
        "prior-shift": "estimate how common species are in unlabelled recordings",
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit status, see `exit_status`.

    Args:
        argv: verb and arguments; default: those of the process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Lines reach a log file when they are said.
        sys.stdout.reconfigure(line_buffering=True)
    return exit_status(lambda: _run_verb(list(sys.argv[1:] if argv is None else argv)))


def exit_status(work: Callable[[], int | None]) -> int:
    """Runs a command to its end and returns its exit status.

    0: success. 1: the work left something out (listed) or stopped. 2: bad input or a full disk
    (one line on stderr). 130: Ctrl-C. 141: the reader went away (`... | head`). Any other exception
    is a defect of ours and keeps its traceback.
    """
    try:
        status = work()
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "rfcx_tf"):
            raise
        if package not in EXTRAS:
            print(f"error: {outside_environment(package)}", file=sys.stderr)
            return 2
        extra = f"pip install 'rfcx-tf[{EXTRAS[package]}]'"
        print(f"error: This needs {package}, which is not installed. Run: {extra}", file=sys.stderr)
        return 2
    except WorkStopped as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_stdout()
        return 141
    except Exception as error:
        if not is_disk_full(error):
            raise
        try:
            sys.stdout.flush()
        except OSError:  # It is redirected to that disk.
            _drop_stdout()
        found = " ".join(str(error).split())[:300]
        print(
            f"error: There must be room on the disk. Found: {found}. What was whole is as it was. "
            "Make room and run the same command again.",
            file=sys.stderr,
        )
        return 2


def outside_environment(package: str) -> str:
    """What to do where a package is missing without which nothing works."""
    return (
        f"This needs {package}, which {sys.executable} does not have. Run it by the Python of the "
        "project's environment: .venv/bin/python in place of python, or `source "
        ".venv/bin/activate` once before. `make environment` makes it."
    )


def _drop_stdout() -> None:
    """The interpreter flushes stdout once more on its way out; lets that succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_verb(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"rfcx-tf {__version__}")
        return 0
    try:
        module, arguments = parse(argv)
    except SystemExit:  # After --help, which is printed.
        return 0
    return module.run(arguments)


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with `UserError` for what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")

    def _get_value(self, action: argparse.Action, arg_string: str):
        """Reads a value; what is in a store is no file or folder of this machine."""
        if action.type is not as_path and is_in_store(arg_string):
            option = (action.option_strings or [action.metavar])[0]
            raise UserError(
                f"{option} must be a file or folder of this machine. Received: {arg_string}. Copy "
                "it here, or mount the store; `predict` and `report` take URLs as --audio."
            )
        return super()._get_value(action, arg_string)

    def refuse_group(self, arguments: argparse.Namespace, title: str, why: str) -> None:
        """Raises UserError if an option of a group has another value than its default.

        Args:
            arguments: the parsed ones.
            title: of the group.
            why: what follows the option's name in the message.
        """
        for group in self._action_groups:
            for action in group._group_actions if group.title == title else ():
                if getattr(arguments, action.dest) not in (action.default, []):
                    option = (action.option_strings or [action.metavar])[0]
                    raise UserError(f"{option} {why}")

    def plain_values(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """The values of all options by their first names, as JSON can hold them."""

        def plain(value):
            if isinstance(value, list):
                return [plain(one) for one in value]
            return str(value) if isinstance(value, os.PathLike) else value

        return {
            action.option_strings[0]: plain(getattr(arguments, action.dest))
            for action in self._actions
            if action.option_strings and hasattr(arguments, action.dest)
        }

    def from_plain_values(self, values: Mapping[str, Any]) -> argparse.Namespace:
        """Arguments with the values of `plain_values`; defaults for options that these lack."""
        arguments = argparse.Namespace(parser=self)
        for action in self._actions:
            value = action.default
            if action.option_strings and action.option_strings[0] in values:
                value = values[action.option_strings[0]]
                if action.type in (Path, as_path) and value is not None:
                    many = isinstance(value, list)
                    value = [*map(action.type, value)] if many else action.type(value)
            setattr(arguments, action.dest, value)
        return arguments


def parser_of(verb: str) -> tuple[ModuleType, Parser]:
    """The module of a verb, and the parser of its arguments."""
    module = importlib.import_module(f"rfcx_tf.cli.{verb.replace('-', '_')}")
    parser = Parser(
        prog=f"rfcx-tf {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return module, parser


def parse(argv: list[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The module of a verb, and what its `run` takes.

    Raises:
        UserError: if there is no such verb, or its arguments are wrong.
        SystemExit: after printing the help that is asked for.
    """
    verb = argv[0].replace("_", "-")
    if not any(verb in verbs for verbs in VERBS.values()):
        raise UserError(f"There is no verb {argv[0]!r}. See rfcx-tf --help.")
    module, parser = parser_of(verb)
    arguments = parser.parse_args(argv[1:])
    arguments.parser = parser
    arguments.command_line = shlex.join(["rfcx-tf", verb, *argv[1:]])
    return module, arguments


def _help() -> str:
    lines = ["usage: rfcx-tf VERB ...", "", "Species detection in forest recordings.", ""]
    for group, verbs in VERBS.items():
        lines += [f"{group}:"]
        lines += [f"  {verb:20}{summary}" for verb, summary in verbs.items()]
        lines += [""]
    return "\n".join([*lines, "rfcx-tf VERB --help says more about a verb."])
