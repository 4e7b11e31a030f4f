"""Window scores of predicted recordings -> one Parquet table, or a table of events.

A table of window scores has the columns recording_id (string), start_s, end_s (double; seconds
from the beginning of the recording) and s<species_id> (float), and a row for every window, in the
order of recordings and time. Window lengths stand in the file's metadata too (rfcx_tf.window_s,
rfcx_tf.hop_s).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.start_time import recording_start
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.names import readable
from rfcx_tf.events.find import find_events
from rfcx_tf.events.table import EventRecording, empty_events
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingResult


def write_window_scores(
    results: Iterable[RecordingResult], path: str | Path, card: ModelCard
) -> None:
    """Writes the window scores of recordings as Parquet, in one step and one by one.

    Raises:
        UserError: if nothing can be written at `path`.
    """
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema(
        [("recording_id", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]
        + [(column, pa.float32()) for column in card.columns],
        metadata={
            "rfcx_tf.window_s": repr(card.window_s),
            "rfcx_tf.hop_s": repr(card.hop_s),
            "rfcx_tf.card": card.to_json(),
        },
    )
    with atomic_file(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for result in results:
            start_s = np.arange(len(result.window_scores)) * card.hop_s
            arrays = [[result.recording_id] * len(start_s), start_s, start_s + card.window_s]
            arrays += list(np.float32(result.window_scores).T)
            writer.write_table(
                pa.table(
                    [pa.array(a, field.type) for a, field in zip(arrays, schema, strict=True)],
                    schema=schema,
                )
            )


def events_of_recordings(
    results: Iterable[RecordingResult],
    card: ModelCard,
    thresholds: np.ndarray | float,
    starts: Mapping[str, datetime],
) -> tuple[pd.DataFrame, list[EventRecording]]:
    """Finds the events of recordings, one after the other.

    Args:
        results: with window scores.
        card: of the model.
        thresholds: as for `find_events`.
        starts: of recordings (`read_start_times`); others as `recording_start` finds them.

    Returns:
        The events (`EVENT_COLUMNS`), in the order of the recordings, and all recordings.
    """
    tables, recordings = [empty_events()], []
    for result in results:
        recording = EventRecording(
            result.recording_id,
            readable(result.path),
            result.duration_s,
            recording_start(result.recording_id, result.path, starts),
        )
        recordings.append(recording)
        tables.append(find_events(recording, result.window_scores, card, thresholds))
    return pd.concat(tables, ignore_index=True), recordings
