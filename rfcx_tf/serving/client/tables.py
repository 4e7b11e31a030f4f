"""Scores of recordings from a server -> the tables that scripts/predict.py writes.

The arguments have the names and the meaning that they have there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.data.recording_time import read_start_times
from rfcx_tf.errors import InputError
from rfcx_tf.files import check_writable
from rfcx_tf.inference.calibration import Calibration, read_calibration
from rfcx_tf.inference.event_tables import (
    EVENT_FORMATS,
    check_events_out,
    write_events,
    writes_one_file,
)
from rfcx_tf.inference.events import EventRules
from rfcx_tf.inference.parts import RecordingResult
from rfcx_tf.inference.tables import blank_scores, order_like_submission, write_scores
from rfcx_tf.inference.window_tables import events_of_recordings, write_window_scores
from rfcx_tf.serving.client.served_model import ServedModel


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--out` and all that says which tables to write."""
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
        help="of calibrate.py, for events; default: that of the model, if it has one",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="from which a window starts an event, for all species; default: the model's own",
    )
    parser.add_argument(
        "--recording-times",
        type=Path,
        metavar="CSV",
        help="recording_id or file, and start_time; default: from the names of files",
    )


class Tables:
    """The tables that were asked for.

    Attributes:
        keep_windows: whether they need window scores.
    """

    def __init__(self, arguments: argparse.Namespace, recordings: int):
        """Checks the arguments before any work.

        Args:
            arguments: of `add_table_arguments`.
            recordings: how many there are.

        Raises:
            InputError: if they do not go together, or a place cannot be written.
        """
        self._arguments = arguments
        self._formats: Sequence[str] = arguments.format or ["csv"]
        self.keep_windows = bool(arguments.events or arguments.window_scores)
        if not arguments.events:
            for name in ("format", "calibration", "threshold", "recording_times"):
                if getattr(arguments, name) is not None:
                    raise InputError(
                        f"--{name.replace('_', '-')} is for events. Add --events PATH, or leave "
                        "it out."
                    )
        if arguments.threshold is not None and not 0 < arguments.threshold <= 1:
            raise InputError(
                f"--threshold must be above 0 and at most 1. Received: {arguments.threshold:g}."
            )
        outputs = [p for p in (arguments.out, arguments.window_scores, arguments.events) if p]
        if len({path.resolve() for path in outputs}) < len(outputs):
            raise InputError("--out, --window-scores and --events must name different places.")
        if arguments.events:
            self._check_events(recordings)
        for path in (arguments.out, arguments.window_scores):
            if path:
                check_writable(path)
        times = arguments.recording_times
        self._starts: Mapping[str, datetime] = read_start_times(times) if times else {}
        self._calibration: Calibration | None = None

    def check_model(self, model: ServedModel, recordings: Iterable[str]) -> None:
        """Checks that the tables can be made of a model's scores.

        Raises:
            InputError: if a class or recording is missing that an argument names, or the model
                does not say what events need.
        """
        arguments = self._arguments
        if self.keep_windows and model.grid is None:
            raise InputError(
                "Events and window scores need to know the model's windows. The model does not "
                "say them (no signature `about`); export it again, or leave --events and "
                "--window-scores out."
            )
        blank = self._shifted(blank_scores(recordings, model.classes))
        if arguments.like:
            order_like_submission(blank, arguments.like)
        if arguments.calibration:
            self._calibration = read_calibration(arguments.calibration, model.columns)
        elif model.grid:
            self._calibration = model.grid.calibration

    def write(
        self,
        model: ServedModel,
        scores: pd.DataFrame,
        results: Callable[[], Iterable[RecordingResult]],
        *,
        complete: bool,
    ) -> None:
        """Writes all tables and says what was written.

        Args:
            model: whose scores they are.
            scores: a row for every recording.
            results: gives the recordings in the same order, with window scores if they are kept.
            complete: whether no recording is missing; else `--like` is not kept to.
        """
        arguments = self._arguments
        if arguments.window_scores:
            write_window_scores(
                results(),
                arguments.window_scores,
                columns=model.columns,
                window_s=model.grid.window_samples / model.sample_rate_hz,
                hop_s=model.grid.hop_samples / model.sample_rate_hz,
            )
            print(f"Wrote {arguments.window_scores}.")
        if arguments.events:
            self._write_events(model, results())
        scores = self._shifted(scores)
        if arguments.like and complete:
            scores = order_like_submission(scores, arguments.like)
        write_scores(scores, arguments.out)
        print(f"Wrote {arguments.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")

    def _check_events(self, recordings: int) -> None:
        events = self._arguments.events
        in_one = [name for name in self._formats if writes_one_file(events, name)]
        if in_one and len(self._formats) > 1:
            raise InputError(
                "Events in several formats need a folder. Received: the file "
                f"{events} for {', '.join(self._formats)}."
            )
        for name in self._formats:
            check_events_out(events, name, recordings)
        check_writable(events if in_one else events / "events")

    def _shifted(self, scores: pd.DataFrame) -> pd.DataFrame:
        if not self._arguments.prior:
            return scores
        # It imports TensorFlow, which a client of a REST server can do without.
        from rfcx_tf.inference.prior_shift import apply_offsets, read_offsets

        return apply_offsets(scores, read_offsets(self._arguments.prior))

    def _write_events(self, model: ServedModel, results: Iterable[RecordingResult]) -> None:
        arguments, grid, calibration = self._arguments, model.grid, self._calibration
        if arguments.threshold is not None:
            thresholds = np.full(len(model.classes), arguments.threshold)
            which = f"{arguments.threshold:g}"
        elif arguments.calibration:
            thresholds, which = calibration.thresholds, f"its thresholds ({calibration.wanted})"
        else:
            thresholds, which = grid.thresholds, "the model's thresholds"
        events, recordings = events_of_recordings(
            results,
            calibration=calibration,
            rules=EventRules(thresholds),
            starts=self._starts,
            window_s=grid.window_samples / model.sample_rate_hz,
            hop_s=grid.hop_samples / model.sample_rate_hz,
            classes=model.classes,
            mean_box_s=grid.mean_box_s,
            box_hz=grid.box_hz,
        )
        highest_hz = model.sample_rate_hz / 2
        for name in self._formats:
            write_events(events, recordings, arguments.events, name, highest_hz=highest_hz)
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {arguments.calibration or 'the model'}"
        print(f"Wrote {arguments.events}: {len(events)} events, of {of} from {which} on.")
