"""Window scores of predicted recordings <-> one Parquet table, from which events are made again.

    recording_id   name of the recording
    start_s, end_s of the window, seconds from the beginning of the recording
    s<species_id>  score, a column a class
    s<species_id>_begin_s, _end_s, _low_hz, _high_hz  where the call lies that the window hears,
                   in seconds from the window's beginning and in Hz, to 10 ms and 10 Hz; empty where
                   the score is below 0.01, or the model does not say it
    file           path of the recording's sound file
    duration_s     its length
    start_time     when it began, ISO 8601, with the offset from UTC where it is known, or empty

There is a row for every window, in the order of recordings and time. The metadata hold the model's
card (rfcx_tf.card), the species' names of the columns (rfcx_tf.names, JSON), and the windows'
length and distance (rfcx_tf.window_s, rfcx_tf.hop_s).

Scores are rounded so that the table is small: to steps of 1/64 of their logit, by which
probabilities move by 0.002 at most, and alike near 0, near 1 and in between.
Parquet then keeps few distinct numbers and where they are.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, logit

from rfcx_tf.audio.start_time import recording_start
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.names import readable
from rfcx_tf.events.table import EventRecording
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingResult

if TYPE_CHECKING:
    import pyarrow.parquet

# Of logits, and where they end: a score of 1e-7 or less is 0 to any use.
_STEPS_A_LOGIT, _LARGEST_LOGIT = 64, 16
# Rows are written and read so many at a time: some MB, and enough for dictionaries to pay.
_ROWS_AT_ONCE = 1 << 16
_BOX_SIDES = ("begin_s", "end_s", "low_hz", "high_hz")
_BOX_STEPS = np.array([0.01, 0.01, 10.0, 10.0])
# Most windows hear nothing. Below, events are found as those of models without boxes.
_LEAST_SCORE_WITH_BOX = 0.01
_OF_RECORDING = ("recording_id", "file", "duration_s", "start_time")


class RecordingWindows(NamedTuple):
    """What events are made of.

    Attributes:
        recording: what tables say of it.
        scores: float32 [windows, classes].
        boxes: float32 [windows, classes, 4], see `RecordingScores`; NaN, or None, where unknown.
    """

    recording: EventRecording
    scores: np.ndarray
    boxes: np.ndarray | None


def event_recordings(
    results: Iterable[RecordingResult], starts: Mapping[str, datetime]
) -> Iterator[RecordingWindows]:
    """What tables say of scored recordings, and of their windows.

    Args:
        results: with window scores.
        starts: of recordings (`read_start_times`); others as `recording_start` finds them.
    """
    for result in results:
        recording = EventRecording(
            result.recording_id,
            readable(result.path),
            result.duration_s,
            recording_start(result.recording_id, result.path, starts),
        )
        yield RecordingWindows(recording, result.window_scores, result.window_boxes)


def write_window_scores(
    results: Iterable[RecordingWindows], path: str | Path, card: ModelCard
) -> float:
    """Writes the window scores of recordings as Parquet, in one step and little by little.

    Returns:
        Hours of sound in it.

    Raises:
        UserError: if nothing can be written at `path`.
    """
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema(
        [("recording_id", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]
        + [(column, pa.float32()) for column in card.columns]
        + [(name, pa.float32()) for name in _box_columns(card)]
        + [("file", pa.string()), ("duration_s", pa.float64()), ("start_time", pa.string())],
        metadata={
            "rfcx_tf.window_s": repr(card.window_s),
            "rfcx_tf.hop_s": repr(card.hop_s),
            "rfcx_tf.names": json.dumps({c.column: c.name for c in card.classes}),
            "rfcx_tf.card": card.to_json(),
        },
    )
    seconds = 0.0
    with (
        atomic_file(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        waiting: list[pa.Table] = []
        for recording, window_scores, boxes in results:
            seconds += recording.duration_s
            for begin in range(0, len(window_scores), _ROWS_AT_ONCE):
                part = window_scores[begin : begin + _ROWS_AT_ONCE]
                start_s = (begin + np.arange(len(part))) * card.hop_s
                start_time = recording.start.isoformat() if recording.start else ""
                once = (recording.file, float(recording.duration_s), start_time)
                own_boxes = _stored_boxes(boxes, window_scores, slice(begin, begin + len(part)))
                arrays = [
                    pa.repeat(recording.recording_id, len(part)),
                    *(start_s, start_s + card.window_s, *rounded_scores(part).T, *own_boxes),
                    *(pa.repeat(value, len(part)) for value in once),
                ]
                arrays = [pa.array(array, from_pandas=True) for array in arrays]
                waiting.append(pa.table(arrays, schema=schema))
                if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    return seconds / 3600


def rounded_scores(scores: np.ndarray) -> np.ndarray:
    """Scores as the table holds them, float32 of the same shape."""
    logits = logit(np.clip(np.asarray(scores, np.float64), 0, 1))
    logits = np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return expit(np.round(logits * _STEPS_A_LOGIT) / _STEPS_A_LOGIT).astype(np.float32)


def _box_columns(card: ModelCard) -> list[str]:
    return [f"{column}_{side}" for column in card.columns for side in _BOX_SIDES]


def _stored_boxes(boxes: np.ndarray | None, scores: np.ndarray, part: slice) -> np.ndarray:
    """Boxes of some windows as the table holds them, float32 [columns, windows]; NaN: none."""
    scores = scores[part]
    if boxes is None:
        return np.full((scores.shape[1] * len(_BOX_SIDES), len(scores)), np.nan, np.float32)
    rounded = np.round(boxes[part] / _BOX_STEPS) * np.float32(_BOX_STEPS)
    rounded[scores < _LEAST_SCORE_WITH_BOX] = np.nan
    return rounded.reshape(len(scores), -1).T.astype(np.float32)


@dataclass(frozen=True)
class WindowTable:
    """An open table.

    Attributes:
        path: of the file.
        card: of the model that gave the scores.
        starts: start times that go before those of the table.
    """

    path: Path
    card: ModelCard
    starts: Mapping[str, datetime]
    _file: pyarrow.parquet.ParquetFile

    @property
    def has_recordings(self) -> bool:
        """Whether it says of recordings what events need; tables of earlier versions do not."""
        return set(_OF_RECORDING) <= set(self._file.schema_arrow.names)

    @property
    def windows(self) -> int:
        """Rows in it."""
        return self._file.metadata.num_rows

    def count_recordings(self) -> int:
        """How many recordings are in it."""
        count, last = 0, None
        for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=["recording_id"]):
            ids = np.array([last, *batch.column(0).to_pylist()], object)
            count += int((ids[1:] != ids[:-1]).sum())
            last = ids[-1]
        return count

    def recordings(self) -> Iterator[RecordingWindows]:
        """Recordings and their windows, one after the other.

        Of a table of an earlier version the file is empty, the length is the end of the last
        window, and the start is what the name says.

        Raises:
            UserError: if the file is damaged.
        """
        import pyarrow as pa

        names = [*_OF_RECORDING] if self.has_recordings else ["recording_id", "end_s"]
        box_columns = _box_columns(self.card)
        if not set(box_columns) <= set(self._file.schema_arrow.names):
            box_columns = []
        parts: list[np.ndarray] = []
        now: tuple | None = None
        try:
            columns = [*names, *self.card.columns, *box_columns]
            batches = self._file.iter_batches(_ROWS_AT_ONCE, columns=columns)
            for batch in batches:
                table = batch.to_pandas()
                values = table[[*self.card.columns, *box_columns]].to_numpy(np.float32)
                ids = table["recording_id"].to_numpy()
                begins = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1), len(ids)]
                for begin, end in itertools.pairwise(begins):
                    last = tuple(table.loc[end - 1, names])
                    if now is not None and now[0] != last[0]:
                        yield self._windows(now, parts)
                        parts = []
                    now = last
                    parts.append(values[begin:end])
        except (OSError, pa.ArrowException) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"The window scores {self.path} cannot be read: {line}") from None
        if now is not None:
            yield self._windows(now, parts)

    def _windows(self, values: tuple, parts: list[np.ndarray]) -> RecordingWindows:
        table, classes = np.concatenate(parts), len(self.card.classes)
        boxes = table[:, classes:].reshape(len(table), classes, -1)
        return RecordingWindows(
            self._recording(values), table[:, :classes], boxes if boxes.size else None
        )

    def _recording(self, values: tuple) -> EventRecording:
        name = values[0]
        if not self.has_recordings:
            return EventRecording(
                name, "", float(values[1]), recording_start(name, Path(name), self.starts)
            )
        _, file, duration_s, start_time = values
        start = datetime.fromisoformat(start_time) if start_time else None
        if self.starts:
            start = recording_start(name, Path(file), self.starts) or start
        return EventRecording(name, file, float(duration_s), start)


@contextmanager
def open_window_table(
    path: str | Path, starts: Mapping[str, datetime] | None = None
) -> Iterator[WindowTable]:
    """Opens a table of window scores.

    Args:
        path: of `write_window_scores`, of this version or an earlier one.
        starts: start times by recording, which go before those of the table.

    Raises:
        UserError: if it cannot be read, is something else, or does not say its model.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"The window scores {path} cannot be read: {line}") from None
    with file:
        card = (file.schema_arrow.metadata or {}).get(b"rfcx_tf.card")
        if card is None:
            raise UserError(
                f"A table of window scores says what model it is of (rfcx_tf.card). {path} does "
                "not; write it with rfcx-tf predict --window-scores."
            )
        card = ModelCard.from_json(card.decode())
        lacking = {"recording_id", "end_s", *card.columns} - set(file.schema_arrow.names)
        if lacking:
            raise UserError(
                f"A table of window scores has the columns recording_id, end_s and those of its "
                f"model. {path} lacks {', '.join(sorted(lacking))}."
            )
        yield WindowTable(Path(path), card, starts or {}, file)
