"""Results of recordings -> the tables that were asked for: scores, window scores, events.

All ways of scoring share these checks and tables, so that it does not matter where a recording was
scored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.start_time import read_start_times
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable
from rfcx_tf.events.window_table import events_of_recordings, write_window_scores
from rfcx_tf.events.write import (
    check_events_out,
    write_events,
    writes_one_file,
)
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.card import UNCALIBRATED_THRESHOLD, ModelCard
from rfcx_tf.scoring.score_table import order_like_submission, write_scores
from rfcx_tf.scoring.scorer import RecordingResult


@dataclass(frozen=True)
class WantedTables:
    """The tables that are asked for.

    Attributes:
        out: CSV file for the scores.
        like: a sample_submission.csv to keep to.
        prior: YAML file of prior shifts, for the scores.
        window_scores: Parquet file for the scores of all windows.
        events: file or folder for the events.
        formats: of the events, one or more of `write.FORMATS`.
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

    def check_model(self, card: ModelCard, recordings: Iterable[str]) -> None:
        """Checks that the tables can be made of a model's scores.

        Raises:
            UserError: if a class or recording is missing that an argument names, or the model
                does not say what events need.
        """
        wanted = self._wanted
        if self.keep_windows and not card.hop_s:
            raise UserError(
                "Events and window scores need to know the model's windows. The model does not "
                "say them (no signature `about`); export it again, or leave --events and "
                "--window-scores out."
            )
        blank = pd.DataFrame(0.0, index=list(recordings), columns=card.columns)
        blank = self._shifted(blank.rename_axis("recording_id").reset_index())
        if wanted.like:
            order_like_submission(blank, wanted.like)
        self._with_calibration(card)

    def write(
        self,
        card: ModelCard,
        scores: pd.DataFrame,
        results: Callable[[], Iterable[RecordingResult]],
        *,
        complete: bool,
    ) -> None:
        """Writes all tables and says what was written.

        Args:
            card: of the model whose scores they are.
            scores: a row for every recording.
            results: gives the recordings in the same order, with window scores if they are kept.
            complete: whether no recording is missing; else `--like` is not kept to.
        """
        wanted = self._wanted
        if wanted.window_scores:
            write_window_scores(results(), wanted.window_scores, card)
            print(f"Wrote {wanted.window_scores}.")
        if wanted.events:
            self._write_events(card, results())
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

    def _with_calibration(self, card: ModelCard) -> ModelCard:
        """The card with the calibration that is named, or as it is."""
        path = self._wanted.calibration
        if not path:
            return card
        return card.replace(calibration=read_calibration(path, card.columns))

    def _write_events(self, card: ModelCard, results: Iterable[RecordingResult]) -> None:
        wanted = self._wanted
        card = self._with_calibration(card)
        calibration, one = card.calibration, wanted.threshold
        if one is not None:
            thresholds, which = one, f"{one:g}"
        elif calibration:
            chosen = f" ({calibration.wanted})" if calibration.wanted else ""
            thresholds, which = card.thresholds, f"its thresholds{chosen}"
        else:
            thresholds, which = card.thresholds, f"{UNCALIBRATED_THRESHOLD:g}"
        events, recordings = events_of_recordings(results, card, thresholds, self._starts)
        highest_hz = card.sample_rate_hz / 2
        for name in wanted.formats:
            write_events(events, recordings, wanted.events, name, highest_hz=highest_hz)
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {wanted.calibration or 'the calibration of ' + card.made_by}"
        print(f"Wrote {wanted.events}: {len(events)} events, of {of} from {which} on.")
