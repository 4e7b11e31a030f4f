"""Recordings -> a server -> their scores: decoded ahead in threads, few requests on their way.

Whatever the number and length of the recordings, memory holds a few pieces of sound for every
request at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rfcx_tf.audio.decode import AudioError, AudioSource, read_audio_blocks
from rfcx_tf.scoring.journal import RecordingResult
from rfcx_tf.scoring.served.pieces import (
    Cuts,
    Piece,
    PieceScores,
    cut_pieces,
    join_pieces,
    plan_cuts,
)
from rfcx_tf.scoring.served.retries import RequestError, RetryRules, call_with_retries
from rfcx_tf.scoring.served.served_model import ServedModel
from rfcx_tf.scoring.served.transport import Transport

# Names, quotes, a WAV file's header.
_REST_OF_REQUEST = 2000


def plan_pieces(
    model: ServedModel,
    transport: Transport,
    *,
    longest_s: float,
    overlap_s: float,
    request_bytes: float,
) -> Cuts | None:
    """How to cut long recordings for a model; None: not at all, as for one without `about`.

    Args:
        model, transport: the model and the connection to it.
        longest_s: longest piece; infinity: recordings stay whole, whatever their size.
        overlap_s: sound between a cut and the nearest window that is kept, at least.
        request_bytes: largest request.

    Raises:
        UserError: if a piece is too short for its overlap and a window.
    """
    if model.grid is None or math.isinf(longest_s):
        return None
    samples = (request_bytes - _REST_OF_REQUEST) / model.bytes_per_sample(transport)
    piece_s = min(longest_s, samples / model.sample_rate_hz)
    return plan_cuts(
        piece_s,
        overlap_s,
        sample_rate_hz=model.sample_rate_hz,
        hop_samples=model.grid.hop_samples,
        window_samples=model.grid.window_samples,
    )


class ScoringClient:
    """Scores recordings with a served model.

    Args:
        transport: connection to the model.
        model: what it is.
        cuts: of longer recordings; None: all are sent whole.
        rules: how often a request is sent again.
        concurrency: most requests at once.
    """

    def __init__(
        self,
        transport: Transport,
        model: ServedModel,
        cuts: Cuts | None,
        rules: RetryRules,
        concurrency: int,
    ):
        self._transport = transport
        self._model = model
        self._cuts = cuts
        self._rules = rules
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._bar: tqdm | None = None
        self._scored_pieces = 0

    async def score_all(
        self,
        recordings: Mapping[str, AudioSource | Path],
        use: Callable[[RecordingResult], None],
        *,
        done: int = 0,
        progress: bool = True,
    ) -> list[str]:
        """Scores recordings; goes on past those that cannot be read or scored.

        Args:
            recordings: audio by recording id.
            use: is given the scores of each recording as they come, in any order.
            done: recordings that the progress bar counts as scored before.
            progress: whether to show it.

        Returns:
            One line for every recording that failed, in the order of the recordings.
        """
        failed: dict[str, str] = {}
        todo = iter(recordings.items())
        self._bar = bar = tqdm(
            total=done + len(recordings),
            initial=done,
            unit="recording",
            disable=not progress,
            desc="query",
            # Also drawn anew where only pieces were added, though not more often than it draws.
            miniters=0,
        )

        async def work() -> None:
            for name, source in todo:
                try:
                    use(await self.score(name, source))
                except AudioError as error:
                    failed[name] = str(error)
                except RequestError as error:
                    failed[name] = f"The recording {source} could not be scored: {error}"
                bar.update()

        # As many again decode what comes next.
        workers = min(2 * self._concurrency, len(recordings))
        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        with bar:
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        return [failed[name] for name in recordings if name in failed]

    async def score(self, recording_id: str, source: AudioSource | Path) -> RecordingResult:
        """Scores one recording.

        Raises:
            AudioError: if it cannot be read.
            RequestError: if there is no reply, or none that can be used.
        """
        pieces = self._encoded_pieces(source)
        requests: list[asyncio.Task[PieceScores]] = []
        duration_s = 0.0
        try:
            while True:
                # Decoding and encoding release Python's lock for most of their time.
                step = await asyncio.to_thread(next, pieces, None)
                if step is None or any(task.done() and task.exception() for task in requests):
                    break
                piece_end_s, request = step
                duration_s = max(duration_s, piece_end_s)
                await self._slots.acquire()
                task = asyncio.create_task(self._send(request))
                # Not at the end of `_send`, which a cancelled task may never have begun.
                task.add_done_callback(lambda _: self._slots.release())
                requests.append(task)
            replies = await asyncio.gather(*requests)
        finally:
            for task in requests:
                task.cancel()
        joined = join_pieces(replies, self._cuts)
        path = source if isinstance(source, Path) else source.path
        return RecordingResult(recording_id, path, duration_s, joined.scores, joined.window_scores)

    def _encoded_pieces(self, source: AudioSource | Path) -> Iterator[tuple[float, Any]]:
        """End of each piece in seconds into the recording, and its request."""
        rate_hz = self._model.sample_rate_hz
        for piece in cut_pieces(read_audio_blocks(source, rate_hz), self._cuts):
            yield self._end_s(piece), self._model.encode(self._transport, piece.samples)

    def _end_s(self, piece: Piece) -> float:
        begin = piece.number * self._cuts.step_samples if self._cuts else 0
        return (begin + len(piece.samples)) / self._model.sample_rate_hz

    async def _send(self, request: Any) -> PieceScores:
        outputs = await call_with_retries(lambda: self._transport.predict(request), self._rules)
        scores = self._model.read_scores(outputs)
        self._scored_pieces += 1
        if self._bar is not None:
            # The bar counts recordings, of which one may last a day.
            self._bar.set_postfix(pieces=self._scored_pieces, refresh=False)
            self._bar.update(0)
        return scores
