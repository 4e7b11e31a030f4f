"""Recordings in pieces against recordings whole, with windows that hear nothing else."""

import numpy as np
import pytest
from fake_serving import HOP, RATE_HZ, WINDOW, window_scores
from hypothesis import given
from hypothesis import strategies as st

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.pieces import Cuts, Cutter, join_pieces, plan_cuts
from rfcx_tf.scoring.scorer import RecordingScores, ScoringError

CARD = ModelCard(
    classes=(),
    sample_rate_hz=RATE_HZ,
    window_s=WINDOW / RATE_HZ,
    hop_s=HOP / RATE_HZ,
    window_centre_s=(),
    mean_box_s=(),
    box_hz=(),
)


def pieces_of(blocks, cuts) -> list[np.ndarray]:
    cutter = Cutter(cuts)
    pieces = [piece for block in blocks for piece in cutter.push(block)]
    return [*pieces, cutter.finish()]


def scored(samples, spoil=0) -> RecordingScores:
    """Scores of a sound whose first and last `spoil` windows are wrong: 9."""
    windows = window_scores(samples)
    windows[:spoil] = windows[len(windows) - spoil :] = 9
    return RecordingScores(windows.max(axis=0), windows)


@given(
    samples=st.integers(1, 5000),
    blocks=st.lists(st.integers(0, 1500), max_size=8),
    piece_ms=st.integers(460, 2000),
    overlap_ms=st.integers(0, 150),
)
def test_windows_of_pieces_are_those_of_the_whole(samples, blocks, piece_ms, overlap_ms):
    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    cuts = plan_cuts(CARD, piece_ms / 1000, overlap_ms / 1000)
    bounds = np.minimum(np.cumsum(blocks), samples)
    pieces = pieces_of(np.split(sound, bounds.astype(int)), cuts)
    assert all(len(piece) <= piece_ms for piece in pieces)
    assert (len(pieces) == 1) == (samples <= piece_ms)
    joined = join_pieces([scored(piece) for piece in pieces], cuts)
    whole = scored(sound)
    np.testing.assert_array_equal(joined.window_scores, whole.window_scores)
    np.testing.assert_array_equal(joined.scores, whole.scores)


def test_windows_near_a_cut_are_not_kept():
    """0.15 s of overlap are three hops: the three windows at each cut may be anything."""
    sound = np.random.default_rng(0).uniform(-1, 1, 3000).astype(np.float32)
    cuts = plan_cuts(CARD, 1.0, 0.15)
    assert (cuts.before_windows, cuts.step_windows) == (3, 12)
    pieces = pieces_of([sound], cuts)
    assert len(pieces) > 3
    replies = [scored(piece, spoil=3) for piece in pieces]
    joined, whole = join_pieces(replies, cuts), scored(sound)
    # The recording's own ends are no cuts.
    inside = slice(3, len(whole.window_scores) - 3)
    np.testing.assert_array_equal(joined.window_scores[inside], whole.window_scores[inside])
    assert (joined.window_scores[:3] == 9).all()


def test_a_sound_at_a_border_does_not_reach_the_score():
    """The middle piece has its highest window at a border, the others among those they keep."""
    cuts = Cuts(piece_samples=0, step_windows=2, before_windows=1, hop_samples=HOP)

    def piece(windows, score):
        return RecordingScores(np.float32([score]), np.float32(windows)[:, None])

    pieces = [
        piece([0.1, 0.2, 0.1, 0.1], 0.25),
        piece([0.9, 0.3, 0.4, 0.1], 0.95),
        piece([0.1, 0.2, 0.1], 0.3),
    ]
    joined = join_pieces(pieces, cuts)
    np.testing.assert_allclose(joined.window_scores[:, 0], [0.1, 0.2, 0.1, 0.3, 0.4, 0.2, 0.1])
    # Of the middle one only the highest kept window counts.
    np.testing.assert_allclose(joined.scores, [0.4])
    np.testing.assert_allclose(join_pieces([pieces[0], pieces[2]], cuts).scores, [0.3])


@pytest.mark.parametrize(("piece_s", "fits"), [(0.449, False), (0.45, True)])
def test_a_piece_must_be_longer_than_what_overlaps(piece_s, fits):
    """Two overlaps of 0.15 s, a window of 0.1 s and a step of 0.05 s."""
    if fits:
        assert plan_cuts(CARD, piece_s, 0.15).step_windows == 1
        return
    with pytest.raises(UserError, match=r"longer than .* 0\.45 s\. Received: --chunk-s 0\.449"):
        plan_cuts(CARD, piece_s, 0.15)


def test_a_model_with_too_few_windows_is_noticed():
    def piece(windows):
        return RecordingScores(np.zeros(1, np.float32), np.zeros((windows, 1), np.float32))

    cuts = Cuts(piece_samples=0, step_windows=3, before_windows=2, hop_samples=HOP)
    assert len(join_pieces([piece(5), piece(3)], cuts).window_scores) == 6
    with pytest.raises(ScoringError, match=r"must have 5 windows or more.* with 4"):
        join_pieces([piece(4), piece(3)], cuts)
    with pytest.raises(ScoringError, match=r"must have 3 windows or more.* with 2"):
        join_pieces([piece(5), piece(2)], cuts)
