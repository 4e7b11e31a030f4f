"""Recordings -> embeddings of their windows, kept in one file a recording.

A file holds the windows of the whole recording, as at prediction, and one window centred on each
of its annotated rows. What is there is not computed again, so an interrupted run goes on. What is
damaged is not there, and told.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rfcx_tf.audio.decode import AudioError, AudioSource, SoundRemark, decode_blocks
from rfcx_tf.core.arrays import DamagedArrays, read_arrays
from rfcx_tf.core.files import atomic_file
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.model.embedding import EmbeddingModel, EmbeddingStream

_BLOCK_S = 60.0


@dataclass(frozen=True)
class RecordingEmbeddings:
    """Embeddings of one recording.

    Attributes:
        window_start_s: float32 [windows], begin of the windows in seconds.
        windows: float32 [windows, size].
        row_start_s: float32 [rows], begin of the windows that are centred on rows.
        rows: float32 [rows, size].
        cut: one line if the sound is missing from some second on, else empty.
    """

    window_start_s: np.ndarray
    windows: np.ndarray
    row_start_s: np.ndarray
    rows: np.ndarray
    cut: str = ""


class EmbeddingStore:
    """A folder of embeddings, `RECORDING.npz`.

    Attributes:
        boxes_s: begin and end in seconds of the rows of each recording, float64 [rows, 2].
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        boxes_s: dict[str, np.ndarray],
        extra: Mapping[str, AudioSource] | None = None,
    ):
        """Takes a folder.

        Args:
            folder: of the files.
            key: what identifies model and config.
            boxes_s: rows of all recordings, by recording id.
            extra: those of the recordings that are not in the shards. What is kept of one is of
                the file at that place: recorders give many files the same name.
        """
        self._folder = folder
        self._key = key
        self.boxes_s = boxes_s
        self._places = {name: str(source.path.resolve()) for name, source in (extra or {}).items()}

    def read(self, recording_id: str) -> RecordingEmbeddings | None:
        """The embeddings of a recording; None if they are not there.

        Those of another model, config or other rows are not there either.
        """
        arrays = _read(self._path(recording_id))
        if arrays is None:
            return None
        same_key = str(arrays.pop("key", "")) == self._key_of(recording_id)
        same_boxes = np.array_equal(arrays.pop("boxes_s", None), self.boxes_s[recording_id])
        # Earlier versions did not listen to recordings that were cut short.
        cut = str(arrays.pop("cut", ""))
        return RecordingEmbeddings(**arrays, cut=cut) if same_key and same_boxes else None

    def write(self, recording_id: str, found: RecordingEmbeddings) -> None:
        """Keeps the embeddings of a recording."""
        boxes_s = self.boxes_s[recording_id]
        with atomic_file(self._path(recording_id)) as temporary:
            key = self._key_of(recording_id)
            np.savez(temporary, key=key, boxes_s=boxes_s, **vars(found))

    def _key_of(self, recording_id: str) -> str:
        place = self._places.get(recording_id)
        return self._key if place is None else f"{self._key} {place}"

    def _path(self, recording_id: str) -> Path:
        return self._folder / f"{recording_id}.npz"


def read_windows(folder: Path, key: str, recording_id: str) -> np.ndarray | None:
    """The embeddings of the windows of a recording, [windows, size].

    Args:
        folder, key: of an `EmbeddingStore`.
        recording_id: of the recording.

    Returns:
        None if they are not there.
    """
    arrays = _read(folder / f"{recording_id}.npz") or {}
    return arrays["windows"] if str(arrays.get("key")) == key else None


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        return read_arrays(path)
    except OSError:
        return None
    except DamagedArrays as error:
        tqdm.write(f"{path} is damaged ({error}): that recording is heard again.", sys.stderr)
        return None


def embed_recordings(
    model: EmbeddingModel,
    sources: dict[str, AudioSource],
    store: EmbeddingStore,
    *,
    progress: bool = True,
) -> tuple[list[str], list[str]]:
    """Sees to it that the embeddings of all recordings are in the store.

    Args:
        model: listens.
        sources: recordings by id.
        store: where the embeddings are kept; knows the rows.
        progress: whether to show a progress bar over the recordings.

    Returns:
        One line for every recording that could not be read, and for every one that was listened
        to as far as it goes.
    """
    failed, cut = [], []
    with progress_bar(total=len(sources), unit="recording", shown=progress, desc="listen") as bar:
        for name in sources:
            found = store.read(name)
            try:
                if found is None:
                    found = _embed(model, sources[name], store.boxes_s[name])
                    store.write(name, found)
                cut += [found.cut] if found.cut else []
            except AudioError as error:
                failed.append(str(error))
            bar.update()
    return failed, cut


def _embed(model: EmbeddingModel, source: AudioSource, boxes_s: np.ndarray) -> RecordingEmbeddings:
    """In the memory of a block of sound and of the embeddings."""
    rate_hz, length, samples = model.config.sample_rate_hz, model.config.window_samples, 0
    # As crops are: centred on the box, and moved into the recording at its ends.
    centred = np.round(boxes_s.mean(axis=1) * rate_hz - length / 2).astype(np.int64)
    starts = np.maximum(centred, 0)
    by_time = np.argsort(starts, kind="stable")
    windows, rows = EmbeddingStream(model), EmbeddingStream(model, starts[by_time])
    embedded: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    remarks: list[SoundRemark] = []
    for sound in decode_blocks(source, [rate_hz], _BLOCK_S, remarks):
        samples += len(sound[rate_hz])
        for stream, parts in zip((windows, rows), embedded, strict=True):
            parts.append(stream.push(sound[rate_hz]))
    of_windows = np.concatenate([*embedded[0], windows.finish()])
    of_rows = np.empty((len(starts), model.size), np.float32)
    of_rows[by_time] = np.concatenate([*embedded[1], rows.finish()])
    return RecordingEmbeddings(
        (np.arange(len(of_windows)) * model.config.hop_samples / rate_hz).astype(np.float32),
        of_windows,
        (np.minimum(starts, max(0, samples - length)) / rate_hz).astype(np.float32),
        of_rows,
        next((remark.text for remark in remarks if remark.is_cut), ""),
    )
