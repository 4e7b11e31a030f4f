"""Picks events that are worth a person's minutes, and takes the verdicts back as training rows.

    rfcx-tf predict --run runs/rfcx --audio DIR --out scores.csv \\
        --events events.csv --threshold 0.1
    rfcx-tf review pick --events events.csv --audio DIR --out review
    rfcx-tf review pick --events events.csv --audio DIR --out sample --sample 180
    rfcx-tf review serve --review review
    rfcx-tf review apply --review review/review.csv --data DATA

`pick` writes review/review.csv with an empty column `verdict`. Find events with a low threshold, so
that some lie on both sides of where the model decides.
`serve` is a page on this machine to listen, see and judge by keys 1, 2 and 3; every verdict is in
review.csv at once. With --events all events of a table can be judged, picked or not; where no
review is yet, it picks as `pick` does and begins one.
With --sample events are drawn at random, by known probabilities, and not chosen: `calibrate
--verdicts` makes thresholds of their verdicts that hold in these recordings. 180 take half an hour.
`apply` adds the rows to DATA/train_tp.csv and DATA/train_fp.csv, which make-tfrecords reads. A
verdict is TP (the species is in the box), FP (it is not), unsure, or empty: not judged yet.
Who has no rfcx-tf gets the folder of `pick`: its index.html is the same page, with clips and
pictures beside it, and gives review.csv as a download.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rfcx_tf.cli.arguments import (
    above_zero,
    add_number,
    list_left_out,
    print_added,
    print_next,
    print_notes,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.lock import lock_folder

_CHOSEN = "events that are chosen, not drawn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="pick|serve|apply")
    _add_pick(commands)
    _add_serve(commands)
    _add_apply(commands)


def run(arguments: argparse.Namespace) -> int:
    return arguments.command(arguments)


def _add_pick(commands) -> None:
    pick = commands.add_parser("pick", help="picks events, cuts clips, writes review.csv")
    pick.set_defaults(command=_pick, pick_parser=pick)
    pick.add_argument(
        "--events", required=True, type=Path, help="events of `predict`, csv or parquet"
    )
    pick.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="recordings, or folders of them, as `predict` was given them; default: the files "
        "that the events name",
    )
    pick.add_argument("--out", required=True, type=Path, help="folder for the review")
    pick.add_argument(
        "--sample",
        type=above_zero(int),
        metavar="N",
        help="draw N events at random, alike of every species and over the scale of scores",
    )
    chosen = pick.add_argument_group(_CHOSEN)
    chosen.add_argument(
        "--data", type=Path, metavar="DIR", help="leave out what rows of this folder already judge"
    )
    chosen.add_argument(
        "--calibration", type=Path, metavar="YAML", help="of `calibrate`: thresholds by class"
    )
    add_number(chosen, "--minutes", 30.0, "of a person")
    add_number(chosen, "--per-class", 20, "events at most")
    add_number(chosen, "--per-recording", 3, "events at most of a class in an hour of a recording")
    add_number(pick, "--longest", 10.0, "s; of a longer event only the middle is judged")
    add_number(pick, "--seed", 0, "of random choices", or_zero=True)


def _add_serve(commands) -> None:
    serve = commands.add_parser("serve", help="a local page to listen, see and judge")
    serve.set_defaults(command=_serve)
    serve.add_argument(
        "--review",
        type=Path,
        default=Path("review"),
        metavar="DIR",
        help="folder of the review, or its review.csv, new or begun; default: review",
    )
    serve.add_argument(
        "--events", type=Path, help="all events, of which any may be judged beside the picked ones"
    )
    serve.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="recordings, or folders of them; default: the files that the tables name",
    )
    serve.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder: its calls are shown to compare with, what its rows judge is left out",
    )
    add_number(
        serve, "--minutes", 30.0, "of a person: events for them are picked where no review is yet"
    )
    serve.add_argument(
        "--port", type=int, default=8765, metavar="N", help="0: any free one; default: 8765"
    )


def _add_apply(commands) -> None:
    apply = commands.add_parser("apply", help="adds judged rows to train_tp.csv and train_fp.csv")
    apply.set_defaults(command=_apply)
    apply.add_argument("--review", required=True, type=Path, help="review.csv with verdicts")
    apply.add_argument("--data", required=True, type=Path, metavar="DIR", help="data folder")
    apply.add_argument(
        "--copy-recordings", action="store_true", help="copy recordings that DIR/train lacks there"
    )


def _pick(arguments: argparse.Namespace) -> int:
    from rfcx_tf.review.selection import PickRules

    if arguments.sample:
        why = "is for events that are chosen. Leave it out with --sample."
        arguments.pick_parser.refuse_group(arguments, _CHOSEN, why)
    rules = PickRules(
        minutes=arguments.minutes,
        per_class=arguments.per_class,
        per_recording=arguments.per_recording,
        longest_s=arguments.longest,
        seed=arguments.seed,
    )
    with lock_folder(arguments.out, "review pick"):
        return _pick_into(arguments, rules)


def _pick_into(arguments: argparse.Namespace, rules) -> int:
    from rfcx_tf.events.read import read_events, recordings_of_events
    from rfcx_tf.labels.folder_labels import FolderLabels
    from rfcx_tf.review.selection import not_judged_yet
    from rfcx_tf.review.sheet import check_review_folder, write_review

    check_review_folder(arguments.out)
    events = read_events(arguments.events)
    found = len(events)
    if arguments.data:
        events = not_judged_yet(events, FolderLabels.read(arguments.data).rows)
        print(f"{found - len(events)} of {found} events are already judged.")
    recordings = recordings_of_events(events, arguments.audio)
    print_notes(recordings.notes)
    lost = sorted(set(events["recording_id"]) - recordings.keys())
    events = events[events["recording_id"].isin(recordings)]
    if events.empty:
        where = f"; not found: {lost[0]} ({len(lost)} recordings in all)" if lost else ""
        raise UserError(
            f"A review needs events that are not judged yet, with their recordings. "
            f"{arguments.events} has none{where}. Check --events, --audio and --data."
        )
    picks = _drawn(arguments, events) if arguments.sample else _chosen(arguments, events, rules)
    failed = write_review(picks, recordings, arguments.out)
    sheet = arguments.out / "review.csv"
    classes, picked = events["species_id"].nunique(), picks["species_id"].nunique()
    print(
        f"Picked {len(picks)} of {len(events)} events, {picked} of {classes} species, "
        f"{picks['recording_id'].nunique()} recordings: about "
        f"{rules.seconds(picks).sum() / 60:.0f} minutes."
    )
    print(f"Wrote {sheet}, and clips, pictures and {arguments.out / 'index.html'} to give away.")
    data = ("--data", arguments.data) if arguments.data else ()
    print_next("review", "serve", "--review", arguments.out, *data)
    if lost:
        print(f"{len(lost)} recordings were not found, such as {lost[0]}.", file=sys.stderr)
    left_out = [*recordings.left_out, *failed]
    return list_left_out("Could not be read", left_out) or int(bool(lost))


def _drawn(arguments: argparse.Namespace, events):
    from rfcx_tf.review.random_sample import sample_events

    return sample_events(events, arguments.sample, longest_s=arguments.longest, seed=arguments.seed)


def _chosen(arguments: argparse.Namespace, events, rules):
    from rfcx_tf.review.selection import pick_events

    thresholds = None
    if arguments.calibration:
        from rfcx_tf.scoring.calibration import read_calibration

        calibration = read_calibration(arguments.calibration)
        ids = (int(column[1:]) for column in calibration.columns)
        thresholds = dict(zip(ids, map(float, calibration.thresholds), strict=True))
    picks = pick_events(events, rules, thresholds)
    if picks.empty:
        raise UserError(
            f"One event takes {rules.seconds(events).min():.0f} s or more to judge. "
            f"Received: --minutes {rules.minutes:g}."
        )
    return picks


def _serve(arguments: argparse.Namespace) -> int:
    from rfcx_tf.cli.review_serve import serve

    return serve(arguments)


def _apply(arguments: argparse.Namespace) -> int:
    from rfcx_tf.review.verdicts import apply_review

    applied = apply_review(
        arguments.review, arguments.data, copy_recordings=arguments.copy_recordings
    )
    print(
        f"{applied.repeated} rows were there already; {applied.unsure} unsure ones and "
        f"{applied.empty} without a verdict were left out."
    )
    if applied.copied:
        print(f"Copied {len(applied.copied)} recordings into {arguments.data / 'train'}.")
    print_added(applied, arguments.data)
    print_next("train", "--config", "FILE", "--data", arguments.data, "--run", "runs/NAME")
    status = list_left_out("Could not be searched", applied.left_out)
    if applied.missing:
        print(
            f"{len(applied.missing)} recordings of these rows are not in "
            f"{arguments.data / 'train'}; make-tfrecords leaves their rows out. Copy them "
            "there, by hand or with --copy-recordings:",
            file=sys.stderr,
        )
        for name, file in applied.missing.items():
            print(f"  {name}: {file or 'no file is named'}", file=sys.stderr)
        return 1
    return status
