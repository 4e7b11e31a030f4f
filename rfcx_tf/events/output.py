"""Results of recordings -> the tables that were asked for: scores, window scores, events.

predict.py, query_server.py and predict_bulk.py share these arguments, checks and tables, so that
it does not matter where a recording was scored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.start_time import read_start_times
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.find import EventRules
from rfcx_tf.events.window_table import events_of_recordings, write_window_scores
from rfcx_tf.events.write import (
    EVENT_FORMATS,
    check_events_out,
    write_events,
    writes_one_file,
)
from rfcx_tf.scoring.calibration import Calibration, read_calibration
from rfcx_tf.scoring.journal import RecordingResult
from rfcx_tf.scoring.score_table import blank_scores, order_like_submission, write_scores

UNCALIBRATED_THRESHOLD = 0.5


@dataclass(frozen=True)
class WindowsOfModel:
    """The windows of a model and what else events need.

    Attributes:
        window_s, hop_s: length and distance of the windows.
        mean_box_s: mean box length by species id, for those that have one.
        box_hz: lower and upper bound of the boxes by species id, for those that have one.
        calibration: None where the model is not calibrated.
        calibration_from: where it comes from, in words.
    """

    window_s: float
    hop_s: float
    mean_box_s: Mapping[int, float]
    box_hz: Mapping[int, tuple[float, float]]
    calibration: Calibration | None = None
    calibration_from: str = ""


@dataclass(frozen=True)
class ScoredBy:
    """What tables need to know of the model that scored the recordings.

    Attributes:
        classes: the species, in the order of the scores.
        sample_rate_hz: of the waveforms that it takes.
        windows: None where they are not known, or not needed.
    """

    classes: Sequence[SpeciesClass]
    sample_rate_hz: int
    windows: WindowsOfModel | None = None

    @property
    def columns(self) -> list[str]:
        """Of a table of scores: s<species_id>."""
        return [f"s{c.species_id}" for c in self.classes]


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
        help="of calibrate.py, for events; default: the model's own (of a single run: "
        "calibration.yaml in it), if it has one",
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
            UserError: if they do not go together, or a place cannot be written.
        """
        self._arguments = arguments
        self._formats: Sequence[str] = arguments.format or ["csv"]
        self.keep_windows = bool(arguments.events or arguments.window_scores)
        if not arguments.events:
            for name in ("format", "calibration", "threshold", "recording_times"):
                if getattr(arguments, name) is not None:
                    raise UserError(
                        f"--{name.replace('_', '-')} is for events. Add --events PATH, or leave "
                        "it out."
                    )
        if arguments.threshold is not None and not 0 < arguments.threshold <= 1:
            raise UserError(
                f"--threshold must be above 0 and at most 1. Received: {arguments.threshold:g}."
            )
        outputs = [p for p in (arguments.out, arguments.window_scores, arguments.events) if p]
        if len({path.resolve() for path in outputs}) < len(outputs):
            raise UserError("--out, --window-scores and --events must name different places.")
        if arguments.events:
            self._check_events(recordings)
        for path in (arguments.out, arguments.window_scores):
            if path:
                check_writable(path)
        times = arguments.recording_times
        self._starts: Mapping[str, datetime] = read_start_times(times) if times else {}

    def check_model(self, model: ScoredBy, recordings: Iterable[str]) -> None:
        """Checks that the tables can be made of a model's scores.

        Raises:
            UserError: if a class or recording is missing that an argument names, or the model
                does not say what events need.
        """
        arguments = self._arguments
        if self.keep_windows and model.windows is None:
            raise UserError(
                "Events and window scores need to know the model's windows. The model does not "
                "say them (no signature `about`); export it again, or leave --events and "
                "--window-scores out."
            )
        blank = self._shifted(blank_scores(recordings, model.classes))
        if arguments.like:
            order_like_submission(blank, arguments.like)
        self._with_calibration(model)

    def write(
        self,
        model: ScoredBy,
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
        arguments, windows = self._arguments, model.windows
        if arguments.window_scores:
            write_window_scores(
                results(),
                arguments.window_scores,
                columns=model.columns,
                window_s=windows.window_s,
                hop_s=windows.hop_s,
            )
            print(f"Wrote {arguments.window_scores}.")
        if arguments.events:
            self._write_events(model, results())
        scores = self._shifted(scores)
        if arguments.like and complete:
            scores = order_like_submission(scores, arguments.like)
        write_scores(scores, arguments.out)
        print(f"Wrote {arguments.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")

    def report_failures(self, failed: Sequence[str], misnamed: Sequence[Path]) -> int:
        """Lists on stderr what is not in the tables; returns the exit status, 0 or 1.

        Args:
            failed: one line for every recording that has no result.
            misnamed: files with sound in them that were not looked at (`misnamed_recordings`).
        """
        arguments = self._arguments
        lines = list(failed)
        lines += [
            f"The file {path} holds sound, but is not named like a sound file. Rename it."
            for path in misnamed
        ]
        if lines:
            print(f"Could not be scored, {len(lines)} in all:", *lines, sep="\n  ", file=sys.stderr)
        if failed:
            print(
                f"  The same command tries these again; {arguments.out}.parts has the others.",
                file=sys.stderr,
            )
            if arguments.like:
                print(
                    f"  {arguments.out} is not in the order of {arguments.like}.", file=sys.stderr
                )
        return 1 if lines else 0

    def _check_events(self, recordings: int) -> None:
        events = self._arguments.events
        in_one = [name for name in self._formats if writes_one_file(events, name)]
        if in_one and len(self._formats) > 1:
            raise UserError(
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
        from rfcx_tf.evaluation.prior_shift import apply_offsets, read_offsets

        return apply_offsets(scores, read_offsets(self._arguments.prior))

    def _with_calibration(self, model: ScoredBy) -> WindowsOfModel | None:
        """The windows with the calibration that is named, or the model's own."""
        path = self._arguments.calibration
        if not path:
            return model.windows
        calibration = read_calibration(path, model.columns)
        return replace(model.windows, calibration=calibration, calibration_from=str(path))

    def _write_events(self, model: ScoredBy, results: Iterable[RecordingResult]) -> None:
        arguments, windows = self._arguments, self._with_calibration(model)
        calibration = windows.calibration
        if arguments.threshold is None and calibration:
            wanted = f" ({calibration.wanted})" if calibration.wanted else ""
            thresholds, which = calibration.thresholds, f"its thresholds{wanted}"
        else:
            one = arguments.threshold
            one = UNCALIBRATED_THRESHOLD if one is None else one
            thresholds, which = np.full(len(model.classes), one), f"{one:g}"
        events, recordings = events_of_recordings(
            results,
            calibration=calibration,
            rules=EventRules(thresholds),
            starts=self._starts,
            window_s=windows.window_s,
            hop_s=windows.hop_s,
            classes=model.classes,
            mean_box_s=windows.mean_box_s,
            box_hz=windows.box_hz,
        )
        highest_hz = model.sample_rate_hz / 2
        for name in self._formats:
            write_events(events, recordings, arguments.events, name, highest_hz=highest_hz)
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {windows.calibration_from}"
        print(f"Wrote {arguments.events}: {len(events)} events, of {of} from {which} on.")
