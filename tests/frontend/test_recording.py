"""Spectrograms of parts of a recording: what they cost, and that they are those of the whole."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from rfcx_tf.core.config import Config, FrontEndConfig
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.frontend.recording import RecordingTransform, spans, warm_up_frames

RATE_HZ, HOP = 8000, 128
PIECES = [(0, 50), (1000, 1100), (1050, 1160), (1180, 1190), (1816, 1876)]


def config_of(compression="pcen", **pcen):
    frontend = {
        "sample_rate_hz": RATE_HZ,
        "n_fft": 512,
        "win_length": 512,
        "hop_length": HOP,
        "n_mels": 32,
        "compression": compression,
        "pcen": pcen,
    }
    return Config.model_validate({"frontend": frontend})


@pytest.fixture(scope="module")
def forest():
    """30 s, 1876 frames: pink noise whose level wanders by 20 dB, with calls 30 dB above it."""
    random = np.random.default_rng(11)
    time_s = np.arange(30 * RATE_HZ) / RATE_HZ
    noise = scipy.signal.lfilter([1], [1, -0.9], random.standard_normal(time_s.size))
    level = 10 ** np.sin(2 * np.pi * time_s / 9)
    calls = (time_s % 1.7 < 0.2) * np.sin(2 * np.pi * 1500 * time_s)
    return (0.001 * level * noise + 0.3 * calls).astype(np.float32)


@pytest.mark.parametrize(
    "config",
    [
        config_of(),
        config_of(initial="first_frame"),
        config_of(time_constant_s=0.1, gain=0.8, bias=10.0, power=0.25),
        config_of("pcen_log"),
        config_of("log"),
    ],
    ids=["one", "first frame", "bioacoustic", "both", "log"],
)
def test_pieces_are_those_of_the_whole_recording(forest, config):
    whole = FrontEnd(config.frontend)(forest[np.newaxis])[0].numpy()
    transform = RecordingTransform(config)
    found = transform.around(forest, PIECES)
    assert found.shape == whole.shape
    for first, end in PIECES:
        np.testing.assert_allclose(found[first:end], whole[first:end], rtol=1e-4, atol=1e-6)
    # Between the first two pieces there was nothing to compute.
    assert not found[50 : 1000 - warm_up_frames(config.frontend)].any()
    if config.frontend.compression == "log":
        for first, end in PIECES:
            np.testing.assert_array_equal(found[first:end], whole[first:end])
    np.testing.assert_array_equal(found[:50], whole[:50])
    np.testing.assert_array_equal(transform(forest), whole)


@pytest.mark.parametrize("compression", ["pcen", "log"])
def test_samples_around_pieces_are_all_that_they_need(forest, compression):
    transform = RecordingTransform(config_of(compression))
    pieces = [*PIECES[1:4], (1875, 1876)]
    needed = transform.samples_around(pieces, len(forest))
    known = np.full_like(forest, np.nan)
    for begin, end in needed:
        known[begin:end] = forest[begin:end]
    assert np.isnan(known).any()
    expected = transform.around(forest, pieces)
    np.testing.assert_array_equal(transform.around(known, pieces), expected)
    for begin, end in needed:
        for sample in (begin, end - 1):
            unknown = known.copy()
            unknown[sample] = np.nan
            assert np.isnan(transform.around(unknown, pieces)).any()


def test_samples_around_pieces_by_hand():
    transform = RecordingTransform(config_of("log"))
    # Frame k reaches from 128 k - 256 to 128 k + 255.
    found = transform.samples_around([(1000, 1100), (0, 3), (1105, 1106)], 141_500)
    assert found == [(0, 512), (127_744, 140_928), (141_184, 141_500)]
    assert transform.samples_around([], 1000) == []
    assert transform.samples_around([(1, 120)], 0) == [(0, 0)]


def test_without_a_warm_up_the_smoother_would_show(forest, monkeypatch):
    config = config_of()
    whole = FrontEnd(config.frontend)(forest[np.newaxis])[0].numpy()
    monkeypatch.setattr("rfcx_tf.frontend.recording._FORGOTTEN", 0.5)
    found = RecordingTransform(config).around(forest, PIECES)
    assert np.abs(found / whole - 1)[1000:1100].max() > 0.01


@pytest.mark.parametrize("samples", [1, 127, 128, 300, 5000])
def test_short_recordings_and_their_last_frame(forest, samples):
    config = config_of()
    whole = FrontEnd(config.frontend)(forest[np.newaxis, :samples])[0].numpy()
    transform = RecordingTransform(config)
    np.testing.assert_array_equal(transform(forest[:samples]), whole)
    frames = 1 + samples // HOP
    last = transform.around(forest[:samples], [(frames - 1, frames)])
    np.testing.assert_array_equal(last[-1], whole[-1])


def test_the_warm_up_is_as_long_as_the_smoother_remembers():
    # By hand: 0.4 s are 37.5 frames, b = 0.026313, 0.973687 ** 519 = 0.98e-6.
    assert warm_up_frames(FrontEndConfig()) == 519
    assert warm_up_frames(FrontEndConfig(compression="log")) == 0
    assert warm_up_frames(config_of(time_constant_s=1e-12).frontend) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=6),
    st.integers(0, 80),
)
def test_spans_hold_every_piece_after_a_warm_up_and_nothing_else(places, warm_up):
    pieces = [(first, first + length) for first, length in places]
    found = spans(pieces, warm_up)
    wanted, needed = set(), set()
    for first, end in pieces:
        wanted.update(range(first, end))
        needed.update(range(max(first - warm_up, 0), end))
    computed = [frame for start, _, end in found for frame in range(start, end)]
    assert len(computed) == len(set(computed)), "a frame is computed twice"
    assert set(computed) == needed
    good = {frame for _, first, end in found for frame in range(first, end)}
    assert wanted <= good
    assert all(first - start == min(warm_up, first) for start, first, _ in found)
