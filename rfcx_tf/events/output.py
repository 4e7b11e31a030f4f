"""Results of recordings -> the tables that were asked for: scores, window scores, events.

All ways of scoring share these checks and tables, so that it does not matter where a recording was
scored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from rfcx_tf.audio.start_time import read_start_times
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable
from rfcx_tf.events.rules import EventRules, ModelRules
from rfcx_tf.events.window_table import RecordingWindows, event_recordings, write_window_scores
from rfcx_tf.events.write import check_events_out, write_events, writes_one_file
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.named_scores import tidy_scores, write_named_scores, write_tidy_scores
from rfcx_tf.scoring.score_table import order_like_submission, write_scores
from rfcx_tf.scoring.scorer import RecordingResult


@dataclass(frozen=True)
class OutputTables:
    """The tables that are asked for.

    Attributes:
        out: CSV file for the scores.
        like: a sample_submission.csv to keep to.
        names: whether columns of scores are called by the species' names.
        tidy: CSV file with a row for every recording and species.
        prior: YAML file of prior shifts, for the scores.
        window_scores: Parquet file for the scores of all windows.
        events: file or folder for the events.
        formats: of the events, one or more of `write.FORMATS`.
        rules: of the events.
        recording_times: CSV file of recordings' start times; None: from the files and their names.
    """

    out: Path
    like: Path | None = None
    names: bool = False
    tidy: Path | None = None
    prior: Path | None = None
    window_scores: Path | None = None
    events: Path | None = None
    formats: Sequence[str] = ("csv",)
    rules: EventRules = field(default_factory=EventRules)
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
        self.rules.check()
        if self.names and self.like:
            raise UserError(
                "A submission has the columns of --like. Leave --names out, or take --tidy FILE, "
                "which has names too."
            )
        outputs = [p for p in (self.out, self.tidy, self.window_scores, self.events) if p]
        if len({os.path.realpath(path) for path in outputs}) < len(outputs):
            raise UserError(
                "--out, --tidy, --window-scores and --events must name different places."
            )
        if self.events:
            check_events(self.events, self.formats, recordings)
        for path in (self.out, self.tidy, self.window_scores):
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
        self.rules.of_model(card)

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
            found = event_recordings(results(), self._starts)
            hours = write_window_scores(found, self.window_scores, card)
            print(f"Wrote {self.window_scores}: {size_of_windows(self.window_scores, hours)}.")
        if self.events:
            found = event_recordings(results(), self._starts)
            write_found_events(self.events, self.formats, self.rules.of_model(card), found)
        scores = self._shifted(scores)
        if self.tidy:
            calibration = self.rules.of_model(card).card.calibration
            write_tidy_scores(tidy_scores(scores, card.classes, calibration), self.tidy)
            print(f"Wrote {self.tidy}.")
        if self.like and complete:
            scores = order_like_submission(scores, self.like)
        if self.names:
            write_named_scores(scores, card.classes, self.out)
        else:
            write_scores(scores, self.out)
        print(f"Wrote {self.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")

    @cached_property
    def _starts(self) -> Mapping[str, datetime]:
        return read_start_times(self.recording_times) if self.recording_times else {}

    def _shifted(self, scores: pd.DataFrame) -> pd.DataFrame:
        if not self.prior:
            return scores
        # It imports TensorFlow, which a client of a REST server can do without.
        from rfcx_tf.evaluation.prior_shift import apply_offsets, read_offsets

        return apply_offsets(scores, read_offsets(self.prior))


def check_events(out: Path, formats: Sequence[str], recordings: int) -> None:
    """Checks before any work that events of so many recordings can be written like this.

    Raises:
        UserError: if formats and place do not go together, or it cannot be written.
    """
    in_one = [name for name in formats if writes_one_file(out, name)]
    if in_one and len(formats) > 1:
        raise UserError(
            "Events in several formats need a folder. Received: the file "
            f"{out} for {', '.join(formats)}."
        )
    for name in formats:
        check_events_out(out, name, recordings)
    check_writable(out if in_one else out / "events")


def write_found_events(
    out: Path,
    formats: Sequence[str],
    rules: ModelRules,
    results: Iterable[RecordingWindows],
) -> None:
    """Finds the events of recordings with their window scores, writes them and says so."""
    events, recordings = rules.events(results)
    highest_hz = rules.card.sample_rate_hz / 2
    for name in formats:
        write_events(events, recordings, out, name, highest_hz=highest_hz)
    print(f"Wrote {out}: {len(events)} events, {rules.said}.")


def size_of_windows(path: Path, hours: float) -> str:
    """The size of a table of window scores, and what 1,000 hours take, in words."""
    size_mb = path.stat().st_size / 1e6
    text = f"{size_mb:.1f} MB of {hours:.1f} hours"
    return f"{text}, {size_mb / hours:.2g} GB per 1,000 hours" if hours else text
