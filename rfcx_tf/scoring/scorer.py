"""THE way from sound to window scores: what a scorer is, and the one loop that uses it.

A `Scorer` has a `card` and opens a `ScoreStream` for a recording. Sound is pushed into the stream
as it is decoded, and window scores come out; nothing else scores sound. A detector of one fold or
of several, a listener, a baseline, an ensemble, a served model and a LiteRT file are scorers, so
that prediction, monitors, pseudo-labels, held-out windows, events and benchmarks are written once.

    scorer = load_scorer(open_run("runs/rfcx"))
    for name, result in score_recordings(scorer, {"a": Path("a.flac")}):
        ...

Memory does not grow with a recording's length, but for its window scores (about 2 MB an hour of 24
classes). A recording is decoded once, in blocks, at every rate that a member of an ensemble asks
for. Threads decode what comes next while the models work.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from rfcx_tf.audio.decode import (
    AudioError,
    AudioSource,
    SoundRemark,
    decode_blocks,
    duration_s,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.core.storage import StoredFile
from rfcx_tf.scoring.card import ModelCard

# Samples [samples] float32 in [-1, 1] of one stretch of time, by sample rate in Hz.
Sound = Mapping[int, np.ndarray]

# A GPU scores a recording faster than one core decodes it.
_DECODING_THREADS = os.cpu_count() or 1
_BLOCK_S = 60.0
# Blocks of one recording that lie decoded before they are asked for.
_BLOCKS_AHEAD = 2
# How often a thread that waits for another looks whether it is still wanted.
_LOOK_EVERY_S = 0.1


class ScoringError(UserError):
    """Why a recording could not be scored, in one line."""


@dataclass(frozen=True)
class RecordingScores:
    """What a scorer makes of a recording.

    Attributes:
        scores: float [classes].
        window_scores: float32 [windows, classes]; None from a model that does not give them.
        window_boxes: float32 [windows, classes, 4], where the call lies that a window hears:
            begin and end in seconds from the window's beginning, low and high in Hz; None from a
            model that does not say it. Whether there is a call, scores say.
    """

    scores: np.ndarray
    window_scores: np.ndarray | None
    window_boxes: np.ndarray | None = None


class ScoreStream(Protocol):
    """One recording on its way through a scorer."""

    def push(self, sound: Sound) -> None:
        """Takes the next stretch of sound, of any length."""

    def finish(self) -> RecordingScores:
        """Ends the recording, which has at least one sample."""


class Scorer(Protocol):
    """Anything that scores sound.

    Attributes:
        card: what the model is.
        sample_rates_hz: the rates at which streams want the sound.
        at_once: recordings that are worth scoring at the same time; more than one where the work
            is done elsewhere.
    """

    card: ModelCard
    sample_rates_hz: tuple[int, ...]
    at_once: int

    def stream(self, recording_id: str | None = None) -> ScoreStream:
        """A stream for one recording.

        Args:
            recording_id: its name in the shards that the model was trained on, under which a
                listener has kept what it heard; None if it is not one of these.
        """


@dataclass(frozen=True)
class RecordingResult:
    """What was found in one recording.

    Attributes:
        recording_id: its name.
        path: the file that it is in.
        duration_s: its length.
        scores: float [classes].
        window_scores: float32 [windows, classes]; None where there are none, or they were not
            wanted.
        window_boxes: float32 [windows, classes, 4], see `RecordingScores`; None likewise.
        remarks: what is to be said of its sound, such as that it was cut short.
    """

    recording_id: str
    path: Path
    duration_s: float
    scores: np.ndarray
    window_scores: np.ndarray | None = None
    window_boxes: np.ndarray | None = None
    remarks: tuple[SoundRemark, ...] = ()


def score_recordings(
    scorer: Scorer,
    recordings: Mapping[str, AudioSource | Path],
    *,
    known: bool = False,
    done: int = 0,
    progress: bool = True,
) -> Iterator[tuple[str, RecordingResult | UserError]]:
    """Scores recordings, in their order.

    Args:
        scorer: of any kind.
        recordings: audio by recording id.
        known: whether the ids are those of the shards that the model was trained on.
        done: recordings that the progress bar counts as scored before.
        progress: whether to show it.

    Yields:
        Recording id, and its result or why there is none (`AudioError`, `ScoringError`).
    """
    with _Progress(recordings, done, progress) as bar:
        # Nobody reads on: all threads end, whatever they wait for.
        ended = threading.Event()

        def score(name: str, blocks: _Blocks) -> RecordingResult | UserError:
            rate_hz, source, samples = scorer.sample_rates_hz[0], recordings[name], 0
            try:
                stream = scorer.stream(name if known else None)
                for sound in blocks:
                    stream.push(sound)
                    samples += len(sound[rate_hz])
                    bar.hear(name, samples / rate_hz, blocks.expected_s)
                found = stream.finish()
            except AudioError as error:
                return error
            except ScoringError as error:
                return ScoringError(f"The recording {source} could not be scored: {error}")
            finally:
                blocks.drop()
                bar.end(name)
            path = source.path if isinstance(source, AudioSource) else source
            heard_s, remarks = samples / rate_hz, tuple(blocks.remarks)
            return RecordingResult(
                name,
                path,
                heard_s,
                found.scores,
                found.window_scores,
                found.window_boxes,
                remarks,
            )

        pool = ThreadPoolExecutor(scorer.at_once, "score")
        waiting: deque[tuple[str, Future]] = deque()
        try:
            for name, blocks in _decoded_ahead(recordings, scorer, ended):
                if scorer.at_once == 1:
                    # In this thread, which Ctrl-C interrupts.
                    yield name, score(name, blocks)
                    continue
                waiting.append((name, pool.submit(score, name, blocks)))
                if len(waiting) == scorer.at_once:
                    name, future = waiting.popleft()
                    yield name, future.result()
            for name, future in waiting:
                yield name, future.result()
        finally:
            ended.set()
            # Whoever stops early need not wait for what a server may take long for.
            pool.shutdown(wait=False)


def score_blocks(scorer: Scorer, blocks: Iterable[Sound]) -> RecordingScores:
    """Scores one recording that comes in blocks."""
    stream = scorer.stream()
    for sound in blocks:
        stream.push(sound)
    return stream.finish()


class _Blocks:
    """The decoded blocks of one recording, filled by one thread and read by another.

    Attributes:
        expected_s: its length, as far as that shows before it is decoded; 0 until then, and for
            one in a store.
        remarks: on its sound, complete after the last block.
    """

    def __init__(
        self, source: AudioSource | Path, rates_hz: tuple[int, ...], all_ended: threading.Event
    ):
        self.expected_s = 0.0
        self.remarks: list[SoundRemark] = []
        self._source = source
        self._rates_hz = rates_hz
        self._queue: queue.Queue[Sound | Exception | None] = queue.Queue(_BLOCKS_AHEAD)
        self._all_ended = all_ended
        self._dropped = False

    def __iter__(self) -> Iterator[Sound]:
        while (item := self._take()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def fill(self) -> None:
        """Decodes the recording, as far as there is room for it."""
        if self._all_ended.is_set():
            return
        end = None
        try:
            path = self._source.path if isinstance(self._source, AudioSource) else self._source
            # One in a store would be fetched twice, for a bar.
            if not isinstance(path, StoredFile):
                self.expected_s = duration_s(self._source)
            for sound in decode_blocks(self._source, self._rates_hz, _BLOCK_S, self.remarks):
                if not self._put(sound):
                    return
        except Exception as error:
            # It is the reader's.
            end = error
        self._put(end)

    def drop(self) -> None:
        """Says that nobody reads on."""
        self._dropped = True

    def _take(self) -> Sound | Exception | None:
        while not self._all_ended.is_set():
            try:
                return self._queue.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
        return CancelledError()

    def _put(self, item: Sound | Exception | None) -> bool:
        while not (self._dropped or self._all_ended.is_set()):
            try:
                self._queue.put(item, timeout=_LOOK_EVERY_S)
                return True
            except queue.Full:
                continue
        return False


def _decoded_ahead(
    recordings: Mapping[str, AudioSource | Path], scorer: Scorer, all_ended: threading.Event
) -> Iterator[tuple[str, _Blocks]]:
    """The recordings in their order, decoded in threads before they are asked for."""
    # A thread waits where its recording's blocks are not read, so all that are read need one.
    threads = max(_DECODING_THREADS, scorer.at_once)
    pool = ThreadPoolExecutor(threads, "decode")
    waiting: deque[tuple[str, _Blocks]] = deque()
    try:
        for name, source in recordings.items():
            blocks = _Blocks(source, scorer.sample_rates_hz, all_ended)
            pool.submit(blocks.fill)
            waiting.append((name, blocks))
            if len(waiting) > threads:
                yield waiting.popleft()
        yield from waiting
    finally:
        # Recordings that are scored at this moment may still be read to their end.
        pool.shutdown(wait=False)


class _Progress:
    """A bar over the bytes of all recordings, since they may differ much in length."""

    def __init__(self, recordings: Mapping[str, AudioSource | Path], done: int, shown: bool):
        self._sizes = {name: _size(source) for name, source in recordings.items()}
        self._counted = dict.fromkeys(self._sizes, 0)
        self._heard_s = dict.fromkeys(self._sizes, 0.0)
        self._total_s = 0.0
        self._finished, self._of = done, done + len(self._sizes)
        # Recordings that are scored at the same time report from threads of their own.
        self._lock = threading.Lock()
        self._bar = progress_bar(
            total=sum(self._sizes.values()),
            desc="predict",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            # What was done before is seen at once.
            postfix=f"{self._finished}/{self._of} recordings",
            shown=bool(shown and recordings),
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def hear(self, name: str, heard_s: float, of_s: float) -> None:
        """So much of a recording is scored."""
        with self._lock:
            self._total_s += heard_s - self._heard_s[name]
            self._heard_s[name] = heard_s
            self._count(name, min(1.0, heard_s / of_s) if of_s else 0.0)

    def end(self, name: str) -> None:
        """A recording is scored, or cannot be."""
        with self._lock:
            self._finished += 1
            self._count(name, 1.0)

    def _count(self, name: str, part: float) -> None:
        counted = round(part * self._sizes[name])
        elapsed_s = self._bar.format_dict["elapsed"]
        rate = self._total_s / elapsed_s if elapsed_s else 0.0
        text = f"{self._finished}/{self._of} recordings, {rate:.0f} times real time"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(counted - self._counted[name])
        self._counted[name] = counted


def _size(source: AudioSource | Path) -> int:
    """Encoded bytes of a recording; 1 where that cannot be seen."""
    if isinstance(source, AudioSource) and source.length is not None:
        return source.length
    path = source.path if isinstance(source, AudioSource) else source
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1
