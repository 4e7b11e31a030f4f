"""`rfcx-tf review serve`: opens a review, serves its page, and says what came of it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from rfcx_tf.cli.arguments import list_left_out, print_next, print_notes
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_file


def serve(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C; the exit status."""
    path = arguments.review
    sheet = path if path.suffix.lower() == ".csv" else path / "review.csv"
    if not 0 <= arguments.port < 2**16:
        raise UserError(f"--port must be a port, 0 to 65535. Received: {arguments.port}.")
    if not sheet.exists() and not arguments.events:
        raise UserError(
            f"A review has picked events, or --events. {sheet} is not there; `rfcx-tf review pick` "
            "makes it."
        )
    with lock_file(sheet, "review serve"):
        return _serve(arguments, sheet)


def _serve(arguments: argparse.Namespace, sheet) -> int:
    from rfcx_tf.audio.find import find_named_recordings, folder_recordings
    from rfcx_tf.events.read import read_events, recordings_of_events
    from rfcx_tf.events.table import empty_events
    from rfcx_tf.labels.folder_labels import FolderLabels
    from rfcx_tf.review.judging import Judging
    from rfcx_tf.review.references import reference_calls
    from rfcx_tf.review.selection import PickRules, middle_parts, not_judged_yet, pick_events
    from rfcx_tf.review.server import serve_review
    from rfcx_tf.review.sheet import begin_sheet
    from rfcx_tf.review.sheet_rows import read_sheet
    from rfcx_tf.review.sounds import Sounds

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    events = read_events(arguments.events) if arguments.events else empty_events()
    species, references = {}, []
    if arguments.data:
        labels = FolderLabels.read(arguments.data)
        species = {c.species_id: c.name for c in labels.classes}
        named = folder_recordings(labels.data_dir / "train", set(labels.rows["recording_id"]))
        references = reference_calls(labels.rows, named)
        events = not_judged_yet(events, labels.rows)
    files, left_out = recordings_of_events(events, None), []
    if arguments.audio:
        rows = read_sheet(sheet).rows if sheet.exists() else []
        named = {cells["recording_id"] for _, cells in rows} | set(events["recording_id"])
        files = find_named_recordings(arguments.audio, named)
        left_out = files.left_out
        print_notes(files.notes)
    lost = sorted(set(events["recording_id"]) - files.keys())
    events = middle_parts(events[events["recording_id"].isin(files)], PickRules.longest_s)
    sounds = Sounds(files)
    if not sheet.exists() and len(events):
        picks = pick_events(events, PickRules(minutes=arguments.minutes))
        begin_sheet(picks, files, sheet, lambda file: sounds.extent(file)[1])
        print(f"Picked {len(picks)} of {len(events)} events into {sheet}.")
    judging = Judging(
        sheet, events, files, species, lambda name, file: sounds.extent(sounds.file(name, file))
    )
    status = list_left_out("Could not be read", left_out)
    if lost:
        print(
            f"{len(lost)} recordings of events were not found, such as {lost[0]}. Check --audio.",
            file=sys.stderr,
        )
    if not judging.items:
        raise UserError(f"A review needs events. There are none in {arguments.events or sheet}.")
    asyncio.run(serve_review(judging, sounds, references, arguments.port))
    _print_end(arguments, sheet, judging)
    return status or int(bool(lost))


def _print_end(arguments: argparse.Namespace, sheet, judging) -> None:
    counts = judging.verdict_counts()
    open_ = counts.pop("", 0)
    words = ", ".join(f"{counts[word]} {word}" for word in ("TP", "FP", "unsure"))
    rows = counts.total() + open_
    print(f"Judged {counts.total()} of {rows} rows of {sheet}: {words}.")
    if not counts.total():
        again = ("--events", arguments.events) if arguments.events else ()
        print_next("review", "serve", "--review", arguments.review, *again)
    elif any(item.cells.get("inclusion") for item in judging.items):
        print_next(
            *("calibrate", "--run", "RUN", "--verdicts", sheet),
            *("--events", arguments.events or "EVENTS", "--out", "field.yaml"),
        )
    else:
        print_next(
            *("review", "apply", "--review", sheet, "--data", arguments.data or "DIR"),
            "--copy-recordings",
        )
