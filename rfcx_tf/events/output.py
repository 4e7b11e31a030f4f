"""Results of recordings -> the tables that were asked for: scores, window scores, events.

All ways of scoring share these checks and tables, so that it does not matter where a recording was
scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.start_time import read_start_times
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable
from rfcx_tf.events.window_table import events_of_recordings, write_window_scores
from rfcx_tf.events.write import check_events_out, write_events, writes_one_file
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.card import UNCALIBRATED_THRESHOLD, ModelCard
from rfcx_tf.scoring.score_table import order_like_submission, write_scores
from rfcx_tf.scoring.scorer import RecordingResult


@dataclass(frozen=True)
class OutputTables:
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
        recording_times: CSV file of recordings' start times; None: from the files and their names.
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

    @property
    def keep_windows(self) -> bool:
        """Whether the tables need window scores."""
        return bool(self.events or self.window_scores)

    def check(self, recordings: int) -> None:
        """Checks before any work that so many recordings can have these tables.

        Raises:
            UserError: if they do not go together, or a place cannot be written.
        """
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(
                f"--threshold must be above 0 and at most 1. Received: {self.threshold:g}."
            )
        outputs = [path for path in (self.out, self.window_scores, self.events) if path]
        if len({path.resolve() for path in outputs}) < len(outputs):
            raise UserError("--out, --window-scores and --events must name different places.")
        if self.events:
            self._check_events(recordings)
        for path in (self.out, self.window_scores):
            if path:
                check_writable(path)
        _ = self._starts  # Unreadable times show now, not after the work.

    def check_model(self, card: ModelCard, recordings: Iterable[str]) -> None:
        """Checks that the tables can be made of a model's scores.

        Raises:
            UserError: if a class or recording is missing that an argument names, or the model
                does not say what events need.
        """
        if self.keep_windows and not card.hop_s:
            raise UserError(
                "Events and window scores need to know the model's windows. The model does not "
                "say them (no signature `about`); export it again, or leave --events and "
                "--window-scores out."
            )
        blank = pd.DataFrame(0.0, index=list(recordings), columns=card.columns)
        blank = self._shifted(blank.rename_axis("recording_id").reset_index())
        if self.like:
            order_like_submission(blank, self.like)
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
        if self.window_scores:
            write_window_scores(results(), self.window_scores, card)
            print(f"Wrote {self.window_scores}.")
        if self.events:
            self._write_events(card, results())
        scores = self._shifted(scores)
        if self.like and complete:
            scores = order_like_submission(scores, self.like)
        write_scores(scores, self.out)
        print(f"Wrote {self.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")

    @cached_property
    def _starts(self) -> Mapping[str, datetime]:
        return read_start_times(self.recording_times) if self.recording_times else {}

    def _check_events(self, recordings: int) -> None:
        in_one = [name for name in self.formats if writes_one_file(self.events, name)]
        if in_one and len(self.formats) > 1:
            raise UserError(
                "Events in several formats need a folder. Received: the file "
                f"{self.events} for {', '.join(self.formats)}."
            )
        for name in self.formats:
            check_events_out(self.events, name, recordings)
        check_writable(self.events if in_one else self.events / "events")

    def _shifted(self, scores: pd.DataFrame) -> pd.DataFrame:
        if not self.prior:
            return scores
        # It imports TensorFlow, which a client of a REST server can do without.
        from rfcx_tf.evaluation.prior_shift import apply_offsets, read_offsets

        return apply_offsets(scores, read_offsets(self.prior))

    def _with_calibration(self, card: ModelCard) -> ModelCard:
        """The card with the calibration that is named, or as it is."""
        path = self.calibration
        if not path:
            return card
        return card.replace(calibration=read_calibration(path, card.columns))

    def _write_events(self, card: ModelCard, results: Iterable[RecordingResult]) -> None:
        card = self._with_calibration(card)
        calibration, one = card.calibration, self.threshold
        if one is not None:
            thresholds, which = one, f"{one:g}"
        elif calibration:
            chosen = f" ({calibration.wanted})" if calibration.wanted else ""
            thresholds, which = card.thresholds, f"its thresholds{chosen}"
        else:
            thresholds, which = card.thresholds, f"{UNCALIBRATED_THRESHOLD:g}"
        events, recordings = events_of_recordings(results, card, thresholds, self._starts)
        highest_hz = card.sample_rate_hz / 2
        for name in self.formats:
            write_events(events, recordings, self.events, name, highest_hz=highest_hz)
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {self.calibration or 'the calibration of ' + card.made_by}"
        print(f"Wrote {self.events}: {len(events)} events, of {of} from {which} on.")
