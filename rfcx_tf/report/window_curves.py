"""The window scores that `predict --window-scores` wrote -> curves of single species."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.calibration import Calibration, map_scores


@dataclass(frozen=True)
class Curve:
    """The windows of one species over a stretch of a recording.

    Attributes:
        times_s: float [windows], the windows' middles, seconds in the recording.
        values: float [windows], in [0, 1].
        threshold: from which a window is an event; None if unknown.
        is_probability: whether values are calibrated.
    """

    times_s: np.ndarray
    values: np.ndarray
    threshold: float | None
    is_probability: bool


class WindowCurves:
    """Curves of some recordings; scores become probabilities where there is a calibration."""

    def __init__(
        self, path: str | Path, recordings: Iterable[str], calibration: Calibration | None = None
    ):
        """Reads the windows of some recordings.

        Args:
            path: a Parquet table (`rfcx_tf.events.window_table`).
            recordings: recording_id of those that are wanted; others are not read.
            calibration: makes probabilities of the scores.

        Raises:
            UserError: if the table cannot be read or is something else.
        """
        import pyarrow

        try:
            # Of an empty list Arrow cannot tell the type.
            wanted = sorted(set(recordings)) or [""]
            table = pd.read_parquet(path, filters=[("recording_id", "in", wanted)])
        except (OSError, pyarrow.ArrowException) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"The window scores {path} cannot be read: {line}") from None
        lacking = {"start_s", "end_s"} - set(table)
        if lacking:
            raise UserError(
                f"A table of window scores has the columns recording_id, start_s and end_s. "
                f"{path} lacks {', '.join(sorted(lacking))}. Write it with rfcx-tf predict."
            )
        self._of = dict(list(table.groupby("recording_id", sort=False)))
        self._calibration = calibration

    def curve(self, recording: str, species_id: int, begin_s: float, end_s: float) -> Curve | None:
        """The windows whose middles lie in a stretch, and one on either side.

        None if the table has not that recording or species.
        """
        column = f"s{species_id}"
        if recording not in self._of or column not in self._of[recording]:
            return None
        rows = self._of[recording]
        times_s = ((rows["start_s"] + rows["end_s"]) / 2).to_numpy()
        first, last = np.searchsorted(times_s, [begin_s, end_s])
        part = slice(max(0, first - 1), last + 1)
        values = rows[column].to_numpy(float)[part]
        calibration = self._calibration
        if calibration is None or column not in calibration.columns:
            return Curve(times_s[part], values, None, False)
        c = calibration.columns.index(column)
        values = map_scores(values, calibration.score_logits[c], calibration.probability_logits[c])
        return Curve(times_s[part], values, float(calibration.thresholds[c]), True)
