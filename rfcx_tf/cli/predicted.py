"""Predictions -> their tables and what is said of them, for `predict` and `gather`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

from rfcx_tf.cli.arguments import list_left_out, list_remarks, print_next
from rfcx_tf.core.lock import lock_files, lock_folder
from rfcx_tf.core.storage import StoredFile
from rfcx_tf.events.write import writes_one_file


@contextmanager
def locked_tables(arguments: argparse.Namespace, verb: str) -> Iterator[None]:
    """Holds the locks of all tables that are asked for."""
    events = arguments.events
    in_file = not events or any(writes_one_file(events, name) for name in arguments.formats)
    files = (arguments.out, arguments.tidy, arguments.window_scores, events if in_file else None)
    folder = nullcontext() if in_file else lock_folder(events, verb)
    with lock_files(files, verb), folder:
        yield


def write_predictions(
    arguments: argparse.Namespace,
    tables,
    card,
    recordings,
    predictions,
    results: Callable[[], Iterable],
    how_to_go_on: str,
) -> int:
    """Writes all tables and says what was left out; the exit status.

    Args:
        arguments: of `predict`.
        tables: the `OutputTables` of these.
        card: of the model.
        recordings: the `Recordings` that were found.
        predictions: the `Predictions` of these.
        results: gives the `RecordingResult` of those that were scored, in the order of the scores.
        how_to_go_on: a line for where some could not be scored.
    """
    from rfcx_tf.scoring.left_out import left_out_path, left_out_table, write_left_out

    # First: scores without it would seem to be of everything.
    left_out = left_out_table(predictions, recordings, recordings.left_out)
    write_left_out(left_out, left_out_path(arguments.out))
    tables.write(card, predictions.scores, results, complete=not predictions.failed)
    status = list_unused(predictions, recordings.left_out)
    if len(left_out):
        print(f"These lines are in {left_out_path(arguments.out)} too.", file=sys.stderr)
    if predictions.failed:
        print(f"  {how_to_go_on}", file=sys.stderr)
        if arguments.like:
            print(f"  {arguments.out} is not in the order of {arguments.like}.", file=sys.stderr)
    return status


def list_unused(predictions, others: Iterable[str] = ()) -> int:
    """Lists on stderr what could not be used, or only in part, and remarks; the exit status.

    Args:
        predictions: the `Predictions`.
        others: a line for everything that may be a recording and was not tried.
    """
    list_remarks(predictions.remarks_where(is_cut=False))
    status = list_left_out("Scored as far as they go", predictions.remarks_where(is_cut=True))
    failed = [*predictions.failed.values(), *others]
    return max(status, list_left_out("Could not be scored", failed))


def report_and_next(arguments: argparse.Namespace) -> int:
    """Makes the page of `--results`, if that is asked for, and prints what comes next."""
    status, events = 0, arguments.events
    # What judges events takes recordings of this machine.
    is_here = not any(isinstance(place, StoredFile) for place in arguments.audio)
    if arguments.results:
        from rfcx_tf.cli.steps import report_predictions

        status = report_predictions(arguments)
        if is_here:
            words = ("review", "serve", "--events", events, "--audio", *arguments.audio)
            print_next(*words, "--data", "DIR")
    elif events and is_here:
        words = ("review", "pick", "--events", events, "--audio", *arguments.audio)
        print_next(*words, "--out", "review")
    return status
