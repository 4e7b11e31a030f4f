"""A served model as a scorer: sound goes to a server in requests, window scores come back."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import numpy as np

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.pieces import Cuts, Cutter, join_pieces, plan_cuts
from rfcx_tf.scoring.scorer import RecordingScores, ScoringError, Sound
from rfcx_tf.scoring.served.connection import Connection
from rfcx_tf.scoring.served.function import ScoringFunction, find_function
from rfcx_tf.scoring.served.retries import RetryRules

# Names, quotes, a WAV file's header.
_REST_OF_REQUEST = 2000


class ServedScorer:
    """Scores by a model behind a server.

    At most `concurrency` requests are on their way, however long recordings are and however many
    are scored at once. As a context manager it gives up at its end what is on its way.

    Attributes:
        card, sample_rates_hz, at_once: see `Scorer`.
        cuts: where longer recordings are cut; None: they are sent whole.
    """

    def __init__(
        self, connection: Connection, function: ScoringFunction, cuts: Cuts | None, concurrency: int
    ):
        """Takes the parts of `open_served`, which has the arguments."""
        self.card = function.card
        self.sample_rates_hz = (self.card.sample_rate_hz,)
        # As many again are decoded and encoded meanwhile.
        self.at_once = 2 * concurrency
        self.cuts = cuts
        self._connection = connection
        self._function = function
        self._places = threading.Semaphore(concurrency)

    def __enter__(self) -> ServedScorer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; streams that wait for the server raise `ScoringError`."""
        self._connection.close()

    def stream(self, recording_id: str | None = None) -> ServedStream:
        """See `Scorer`."""
        return ServedStream(self)

    def fingerprint(self, windows: bool) -> str:
        """Differs between predictions whose results differ, as far as a server tells.

        `windows` says whether window scores are kept.
        """
        address, version = self._connection.transport.address, self._function.version
        # Scores of a recording in pieces depend on the cuts.
        identity = [address, version, self.card.to_json(), self.cuts, windows]
        return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]

    def send(self, waveform: np.ndarray) -> Future[RecordingScores]:
        """Sends a waveform, float32 [samples], as soon as there is a place for it."""
        function, transport = self._function, self._connection.transport
        request = function.encode(transport, waveform)

        async def ask() -> RecordingScores:
            return function.read_scores(await transport.predict(request))

        self._places.acquire()
        try:
            reply = self._connection.send(ask)
        except BaseException:
            self._places.release()
            raise
        reply.add_done_callback(lambda _: self._places.release())
        return reply


class ServedStream:
    """One recording on its way to a server and back."""

    def __init__(self, scorer: ServedScorer):
        self._scorer = scorer
        self._cutter = Cutter(scorer.cuts)
        self._replies: list[Future[RecordingScores]] = []

    def push(self, sound: Sound) -> None:
        """See `ScoreStream`."""
        for piece in self._cutter.push(sound[self._scorer.card.sample_rate_hz]):
            self._send(piece)

    def finish(self) -> RecordingScores:
        """See `ScoreStream`."""
        self._send(self._cutter.finish())
        return join_pieces([self._result(reply) for reply in self._replies], self._scorer.cuts)

    def _send(self, piece: np.ndarray) -> None:
        self._replies.append(self._scorer.send(piece))
        for reply in self._replies:
            if reply.done():
                self._result(reply)

    def _result(self, reply: Future[RecordingScores]) -> RecordingScores:
        try:
            return reply.result()
        except (ScoringError, CancelledError) as error:
            # Without this piece the others are of no use.
            for other in self._replies:
                other.cancel()
            if isinstance(error, CancelledError):
                raise ScoringError("the connection to the server was closed.") from None
            raise


def open_served(
    server: str,
    model: str,
    *,
    longest_s: float = 300.0,
    overlap_s: float = 10.0,
    request_bytes: float = 64 * 2**20,
    concurrency: int = 4,
    timeout_s: float = 120.0,
    rules: RetryRules | None = None,
    sample_rate_hz: int | None = None,
    classes: Sequence[SpeciesClass] | None = None,
) -> ServedScorer:
    """Connects to a served model.

    Args:
        server, model, timeout_s, rules: as for `Connection`.
        longest_s: longest piece of a recording; infinity: recordings stay whole, whatever their
            size.
        overlap_s: sound between a cut and the nearest window that is kept, at least.
        request_bytes: largest request; it may shorten pieces further.
        concurrency: most requests on their way at once.
        sample_rate_hz, classes: of a model that does not say them; its recordings stay whole.

    Raises:
        UserError: as `Connection`, `find_function` and `plan_cuts`.
    """
    connection = Connection(server, model, timeout_s, rules or RetryRules())
    try:
        function = find_function(connection, sample_rate_hz, classes)
        card, cuts = function.card, None
        if card.hop_s and not math.isinf(longest_s):
            per_sample = function.bytes_per_sample(connection.transport)
            largest_s = (request_bytes - _REST_OF_REQUEST) / per_sample / card.sample_rate_hz
            cuts = plan_cuts(card, min(longest_s, largest_s), overlap_s)
        return ServedScorer(connection, function, cuts, concurrency)
    except BaseException:
        connection.close()
        raise
