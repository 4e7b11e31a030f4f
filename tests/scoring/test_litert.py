"""Recordings in pieces of a fixed length, with a stand-in for the network."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring import litert
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.litert import LiteRtScorer

RATE_HZ, SAMPLES = 1000, 2300


def stand_in() -> LiteRtScorer:
    """Its windows, 20 a piece and 100 samples apart, say where in the recording they begin."""
    scorer = LiteRtScorer.__new__(LiteRtScorer)
    scorer.metadata = {"samples": SAMPLES, "windows": 20, "window_hops": 4, "hop_samples": 100}
    scorer.metadata["running_mean_windows"] = 2
    unknown = (math.nan,)
    one = (SpeciesClass(0, "s0"),)
    scorer.card = ModelCard(one, RATE_HZ, 0.4, 0.1, (0.2,), unknown, (unknown * 2,))

    def score_piece(piece):
        assert piece.shape == (SAMPLES,)
        return {"window_scores": piece[:2000:100, np.newaxis]}

    scorer.score_piece = score_piece
    return scorer


@given(samples=st.integers(1, 40_000), cuts=st.lists(st.integers(0, 40_000), max_size=8))
def test_windows_of_pieces_follow_each_other(samples, cuts):
    stream = stand_in().stream()
    waveform = np.arange(samples, dtype=np.float32)
    for block in np.split(waveform, np.minimum(sorted(cuts), samples)):
        stream.push({RATE_HZ: block})
    found = stream.finish()
    windows = max(1, samples // 100 + 1 - 4 + 1)
    np.testing.assert_array_equal(found.window_scores[:, 0], 100 * np.arange(windows))
    # Of the last window the mean is over itself alone.
    assert found.scores == [100 * (windows - 1)]


def test_a_long_recording_is_not_kept():
    stream = stand_in().stream()
    for _ in range(100):
        stream.push({RATE_HZ: np.zeros(1000, np.float32)})
        # A piece, the windows of another one, and what was pushed last.
        assert stream._waiting.nbytes <= 4 * (SAMPLES + 2000 + 1000)
    assert len(stream.finish().window_scores) == 998


def test_a_file_of_an_earlier_version_is_refused(monkeypatch):
    monkeypatch.setattr(litert, "read_metadata", lambda content: {"samples": SAMPLES})
    assert "earlier version of rfcx-tf. Export it again." in refused(LiteRtScorer, b"")
