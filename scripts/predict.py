"""Scores whole recordings of any length with one run, or with several combined.

    python scripts/predict.py --run runs/rfcx --audio DIR/test --out scores.csv \\
        --like DIR/sample_submission.csv
    python scripts/predict.py --run runs/a runs/b --weights 0.7 0.3 --audio DIR --out scores.csv
    python scripts/predict.py --run runs/rfcx --audio FIELD --out scores.csv \\
        --events events --format csv raven --recording-times starts.csv

Folders are searched with their subfolders for .flac, .mp3, .ogg and .wav files, in capitals too.
What a file holds is told from its bytes: a FLAC named .wav is read. A file with sound in it that
is named like none of these is not, and is listed with the files that cannot be read.

Results of single recordings are kept in OUT.parts until all are there. The same command goes on
where it was stopped, and later tries those again that could not be read.

Events (what was heard when) are of calibrated probabilities where there is a calibration, else of
scores. --events names a file for all recordings (events.csv) or a folder for one file each.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli import add_combination_arguments, add_run_override_argument, run_main
from rfcx_tf.data.audio import by_recording_id, find_recordings, misnamed_recordings
from rfcx_tf.data.recording_time import read_start_times
from rfcx_tf.errors import InputError
from rfcx_tf.files import check_writable
from rfcx_tf.inference.event_tables import (
    EVENT_FORMATS,
    check_events_out,
    write_events,
    writes_one_file,
)
from rfcx_tf.inference.tables import blank_scores, order_like_submission, write_scores

UNCALIBRATED_THRESHOLD = 0.5


def main() -> int:
    arguments = parse_arguments()
    recordings = by_recording_id(find_recordings(arguments.audio))
    misnamed = misnamed_recordings(arguments.audio)
    check_outputs(arguments, len(recordings))
    starts = read_start_times(arguments.recording_times) if arguments.recording_times else {}
    from rfcx_tf.any_run import open_any_run
    from rfcx_tf.inference.calibration import read_calibration
    from rfcx_tf.inference.ensemble import choose_weights, member_names
    from rfcx_tf.inference.parts import PartsFolder, fingerprint_runs
    from rfcx_tf.inference.predict import open_runs, predict_recordings, window_grid
    from rfcx_tf.inference.prior_shift import apply_offsets, read_offsets

    weights = choose_weights(arguments.weights, arguments.run)
    models = open_runs(arguments.run, arguments.overrides)
    columns = [f"s{c.species_id}" for c in models[0].classes]
    # What could go wrong at the end is tried now, not after hours of work.
    blank = blank_scores(recordings, models[0].classes)
    if arguments.like:
        order_like_submission(blank, arguments.like)
    offsets = read_offsets(arguments.prior) if arguments.prior else None
    if offsets:
        apply_offsets(blank, offsets)
    keep_windows = bool(arguments.events or arguments.window_scores)
    grid = window_grid(models, member_names(arguments.run)) if keep_windows else None
    calibration = None
    if arguments.events and calibration_path(arguments):
        calibration = read_calibration(calibration_path(arguments), columns)
    runs = [open_any_run(path, arguments.overrides) for path in arguments.run]
    parts = PartsFolder(
        f"{arguments.out}.parts", fingerprint_runs(runs, weights, arguments.combine, keep_windows)
    )
    if parts.started_over:
        print(f"{parts.folder} was of other runs, weights or options: all recordings are new.")
    predictions = predict_recordings(
        models,
        recordings,
        weights=weights,
        rule=arguments.combine,
        parts=parts,
        keep_windows=keep_windows,
    )

    def results():
        return map(parts.read, predictions.scores["recording_id"])

    if arguments.window_scores:
        from rfcx_tf.inference.window_tables import write_window_scores

        write_window_scores(
            results(), arguments.window_scores, columns=columns, window_s=grid[0], hop_s=grid[1]
        )
        print(f"Wrote {arguments.window_scores}.")
    if arguments.events:
        save_events(arguments, results(), runs, models, grid, calibration, starts)
    scores = predictions.scores
    if offsets:
        scores = apply_offsets(scores, offsets)
    failed = predictions.failed + [
        f"The file {path} holds sound, but its name does not end like a sound file's. Rename it."
        for path in misnamed
    ]
    if arguments.like and not predictions.failed:
        scores = order_like_submission(scores, arguments.like)
    write_scores(scores, arguments.out)
    print(f"Wrote {arguments.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")
    if not predictions.failed:
        parts.remove()
    if failed:
        print(f"Could not be read, {len(failed)} in all:", file=sys.stderr)
        for text in failed:
            print(f"  {text}", file=sys.stderr)
        if predictions.failed:
            print(
                f"  The same command tries these again; {parts.folder} has the others.",
                file=sys.stderr,
            )
        if arguments.like and predictions.failed:
            print(f"  {arguments.out} is not in the order of {arguments.like}.", file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    parser.add_argument("--out", required=True, type=Path, help="CSV file for the scores")
    parser.add_argument(
        "--like", type=Path, metavar="SUBMISSION", help="a sample_submission.csv to keep to"
    )
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="YAML",
        help="of prior_shift.py: shift scores by its offsets (not those of windows)",
    )
    parser.add_argument(
        "--window-scores",
        type=Path,
        metavar="PARQUET",
        help="also write the scores of all windows, a Parquet table",
    )
    parser.add_argument(
        "--events", type=Path, metavar="PATH", help="also write events, a file or a folder"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=EVENT_FORMATS,
        metavar="F",
        help=f"of events: {', '.join(EVENT_FORMATS)}; default: csv",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="YAML",
        help="of calibrate.py, for events; default: calibration.yaml of a single run, if there",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="from which a window starts an event, for all species; default: those of the "
        f"calibration, or a score of {UNCALIBRATED_THRESHOLD}",
    )
    parser.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the names of files",
    )
    add_combination_arguments(parser)
    add_run_override_argument(parser)
    return parser.parse_args()


def check_outputs(arguments: argparse.Namespace, recordings: int) -> None:
    """Refuses arguments that do not go together, and places that cannot be written."""
    if arguments.prior and arguments.combine == "rank":
        raise InputError("--prior shifts log odds, which ranks do not have. Use --combine mean.")
    if not arguments.events:
        for name in ("format", "calibration", "threshold", "recording_times"):
            if getattr(arguments, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} is for events. Add --events PATH, or leave it out."
                )
    if arguments.threshold is not None and not 0 < arguments.threshold <= 1:
        raise InputError(
            f"--threshold must be above 0 and at most 1. Received: {arguments.threshold:g}."
        )
    outputs = [p for p in (arguments.out, arguments.window_scores, arguments.events) if p]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("--out, --window-scores and --events must name different places.")
    if arguments.events:
        formats = arguments.format = arguments.format or ["csv"]
        in_one = [name for name in formats if writes_one_file(arguments.events, name)]
        if in_one and len(formats) > 1:
            raise InputError(
                "Events in several formats need a folder. Received: the file "
                f"{arguments.events} for {', '.join(formats)}."
            )
        for name in formats:
            check_events_out(arguments.events, name, recordings)
        check_writable(arguments.events if in_one else arguments.events / "events")
    for path in (arguments.out, arguments.window_scores):
        if path:
            check_writable(path)


def calibration_path(arguments: argparse.Namespace) -> Path | None:
    """The calibration that is named, or that of a single run."""
    if arguments.calibration or len(arguments.run) > 1:
        return arguments.calibration
    own = arguments.run[0] / "calibration.yaml"
    return own if own.exists() else None


def save_events(arguments, results, runs, models, grid, calibration, starts) -> None:
    """Finds and writes the events, and says what they are of."""
    import numpy as np

    from rfcx_tf.inference.events import EventRules
    from rfcx_tf.inference.window_tables import events_of_recordings
    from rfcx_tf.run_folder import RunFolder

    if arguments.threshold is not None or calibration is None:
        one = UNCALIBRATED_THRESHOLD if arguments.threshold is None else arguments.threshold
        thresholds, which = np.full(len(models[0].classes), one), f"{one:g}"
    else:
        thresholds, which = calibration.thresholds, f"its thresholds ({calibration.wanted})"
    own = [run.info for run in runs if isinstance(run, RunFolder)]
    events, recordings = events_of_recordings(
        results,
        calibration=calibration,
        rules=EventRules(thresholds),
        starts=starts,
        window_s=grid[0],
        hop_s=grid[1],
        classes=models[0].classes,
        mean_box_s=own[0].mean_box_s if own else {},
        box_hz=own[0].box_hz if own else {},
    )
    highest_hz = models[0].sample_rate_hz / 2
    for name in arguments.format:
        write_events(events, recordings, arguments.events, name, highest_hz=highest_hz)
    of = f"probabilities by {calibration_path(arguments)}" if calibration else "uncalibrated scores"
    print(f"Wrote {arguments.events}: {len(events)} events, of {of} from {which} on.")


if __name__ == "__main__":
    run_main(main)
