"""Results of recordings -> the tables that were asked for: scores, window scores, events.

All ways of scoring share these checks and tables, so that it does not matter where a recording was
scored.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class WantedTables:
    """The tables that are asked for.

    Attributes:
        out: CSV file for the scores.
        like: a sample_submission.csv to keep to.
        prior: YAML file of prior shifts, for the scores.
        window_scores: Parquet file for the scores of all windows.
        events: file or folder for the events.
        formats: of the events, one or more of `EVENT_FORMATS`.
        calibration: YAML file, for events; None: the model's own.
        threshold: from which a window starts an event; None: those of the calibration.
        recording_times: CSV file of recordings' start times; None: from the names of files.
    """

    out: Path
    like: Path | None = None
    prior: Path | None = None
    window_scores: Path | None = None
    events: Path | None = None
    formats: Sequence[str] = ("csv",)
    calibration: Path | None = None
    threshold: float | None = None
    recording_times: Path | None = None


class Tables:
    """The tables that were asked for.

    Attributes:
        keep_windows: whether they need window scores.
    """

    def __init__(self, wanted: WantedTables, recordings: int):
        """Checks what is wanted before any work.

        Args:
            wanted: the tables.
            recordings: how many there are.

        Raises:
            UserError: if they do not go together, or a place cannot be written.
        """
        self._wanted = wanted
        self.keep_windows = bool(wanted.events or wanted.window_scores)
        if wanted.threshold is not None and not 0 < wanted.threshold <= 1:
            raise UserError(
                f"--threshold must be above 0 and at most 1. Received: {wanted.threshold:g}."
            )
        outputs = [p for p in (wanted.out, wanted.window_scores, wanted.events) if p]
        if len({path.resolve() for path in outputs}) < len(outputs):
            raise UserError("--out, --window-scores and --events must name different places.")
        if wanted.events:
            self._check_events(recordings)
        for path in (wanted.out, wanted.window_scores):
            if path:
                check_writable(path)
        times = wanted.recording_times
        self._starts: Mapping[str, datetime] = read_start_times(times) if times else {}

    def check_model(self, model: ScoredBy, recordings: Iterable[str]) -> None:
        """Checks that the tables can be made of a model's scores.

        Raises:
            UserError: if a class or recording is missing that an argument names, or the model
                does not say what events need.
        """
        wanted = self._wanted
        if self.keep_windows and model.windows is None:
            raise UserError(
                "Events and window scores need to know the model's windows. The model does not "
                "say them (no signature `about`); export it again, or leave --events and "
                "--window-scores out."
            )
        blank = self._shifted(blank_scores(recordings, model.classes))
        if wanted.like:
            order_like_submission(blank, wanted.like)
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
        wanted, windows = self._wanted, model.windows
        if wanted.window_scores:
            write_window_scores(
                results(),
                wanted.window_scores,
                columns=model.columns,
                window_s=windows.window_s,
                hop_s=windows.hop_s,
            )
            print(f"Wrote {wanted.window_scores}.")
        if wanted.events:
            self._write_events(model, results())
        scores = self._shifted(scores)
        if wanted.like and complete:
            scores = order_like_submission(scores, wanted.like)
        write_scores(scores, wanted.out)
        print(f"Wrote {wanted.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")

    def report_failures(self, failed: Sequence[str], misnamed: Sequence[Path]) -> int:
        """Lists on stderr what is not in the tables; returns the exit status, 0 or 1.

        Args:
            failed: one line for every recording that has no result.
            misnamed: files with sound in them that were not looked at (`misnamed_recordings`).
        """
        wanted = self._wanted
        lines = list(failed)
        lines += [
            f"The file {path} holds sound, but is not named like a sound file. Rename it."
            for path in misnamed
        ]
        if lines:
            print(f"Could not be scored, {len(lines)} in all:", *lines, sep="\n  ", file=sys.stderr)
        if failed:
            print(
                f"  The same command tries these again; {wanted.out}.parts has the others.",
                file=sys.stderr,
            )
            if wanted.like:
                print(f"  {wanted.out} is not in the order of {wanted.like}.", file=sys.stderr)
        return 1 if lines else 0

    def _check_events(self, recordings: int) -> None:
        events = self._wanted.events
        in_one = [name for name in self._wanted.formats if writes_one_file(events, name)]
        if in_one and len(self._wanted.formats) > 1:
            raise UserError(
                "Events in several formats need a folder. Received: the file "
                f"{events} for {', '.join(self._wanted.formats)}."
            )
        for name in self._wanted.formats:
            check_events_out(events, name, recordings)
        check_writable(events if in_one else events / "events")

    def _shifted(self, scores: pd.DataFrame) -> pd.DataFrame:
        if not self._wanted.prior:
            return scores
        # It imports TensorFlow, which a client of a REST server can do without.
        from rfcx_tf.evaluation.prior_shift import apply_offsets, read_offsets

        return apply_offsets(scores, read_offsets(self._wanted.prior))

    def _with_calibration(self, model: ScoredBy) -> WindowsOfModel | None:
        """The windows with the calibration that is named, or the model's own."""
        path = self._wanted.calibration
        if not path:
            return model.windows
        calibration = read_calibration(path, model.columns)
        return replace(model.windows, calibration=calibration, calibration_from=str(path))

    def _write_events(self, model: ScoredBy, results: Iterable[RecordingResult]) -> None:
        wanted, windows = self._wanted, self._with_calibration(model)
        calibration = windows.calibration
        if wanted.threshold is None and calibration:
            chosen = f" ({calibration.wanted})" if calibration.wanted else ""
            thresholds, which = calibration.thresholds, f"its thresholds{chosen}"
        else:
            one = wanted.threshold
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
        for name in self._wanted.formats:
            write_events(events, recordings, wanted.events, name, highest_hz=highest_hz)
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {windows.calibration_from}"
        print(f"Wrote {wanted.events}: {len(events)} events, of {of} from {which} on.")
