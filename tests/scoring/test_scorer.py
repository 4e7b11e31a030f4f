"""The one loop over recordings: order, what fails, and threads that end with it."""

import threading
import time

import numpy as np
import pytest
import soundfile

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.scoring import scorer as module
from rfcx_tf.scoring.scorer import RecordingScores, ScoringError, score_recordings

RATE_HZ = 1000


class Loudness:
    """A scorer of one class that gives the mean of the samples; `bad` samples cannot be scored."""

    card = None
    sample_rates_hz = (RATE_HZ,)

    def __init__(self, at_once=1):
        self.at_once = at_once
        self.streams = []
        self.takes_sound = threading.Event()
        self.takes_sound.set()

    def stream(self, recording_id=None):
        self.streams.append(LoudnessStream(self.takes_sound))
        return self.streams[-1]


class LoudnessStream:
    def __init__(self, takes_sound):
        self._takes_sound = takes_sound
        self._sounds = []
        self.pushed = 0

    def push(self, sound):
        self._takes_sound.wait()
        self.pushed += 1
        self._sounds.append(sound[RATE_HZ])
        if sound[RATE_HZ].min(initial=0) < 0:
            raise ScoringError("it is below zero.")

    def finish(self):
        return RecordingScores(np.concatenate(self._sounds).mean(keepdims=True), None)


@pytest.fixture
def make_recordings(tmp_path, monkeypatch):
    """A function from mean values to recordings of 20 blocks, more than lie decoded ahead."""
    monkeypatch.setattr(module, "_BLOCK_S", 0.5)
    monkeypatch.setattr(module, "_DECODING_THREADS", 2)

    def make(values):
        recordings = {}
        for number, value in enumerate(values):
            recordings[f"r{number}"] = tmp_path / f"r{number}.wav"
            soundfile.write(recordings[f"r{number}"], np.full(10 * RATE_HZ, value), RATE_HZ)
        return recordings

    return make


def check_that_threads_end():
    """A thread that does not end would keep the process from ending."""

    def still_there():
        return [
            t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon
        ]

    until = time.monotonic() + 300
    while still_there() and time.monotonic() < until:
        time.sleep(0.02)
    assert not still_there()


@pytest.mark.parametrize("at_once", [1, 3])
def test_results_come_in_order_past_what_fails(make_recordings, tmp_path, at_once):
    """One cannot be scored from its first block on, one cannot be read."""
    recordings = make_recordings([0.1, -0.1, 0.2, 0.3, 0.4, 0.5])
    recordings["r2"].write_bytes(b"no sound")
    found = dict(score_recordings(Loudness(at_once), recordings, progress=False))
    assert list(found) == list(recordings)
    assert isinstance(found["r1"], ScoringError) and str(recordings["r1"]) in str(found["r1"])
    assert isinstance(found["r2"], AudioError)
    for name, value in (("r0", 0.1), ("r3", 0.3), ("r4", 0.4), ("r5", 0.5)):
        assert found[name].duration_s == 10.0
        np.testing.assert_allclose(found[name].scores, value, atol=1e-4)
    check_that_threads_end()
    assert list(score_recordings(Loudness(at_once), {})) == []


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("where", ["stream", "push", "finish"])
def test_threads_end_where_ctrl_c_comes(make_recordings, monkeypatch, where, at_once):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loudness if where == "stream" else LoudnessStream, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(score_recordings(Loudness(at_once), make_recordings([0.1] * 6), progress=False))
    check_that_threads_end()


@pytest.mark.parametrize("at_once", [1, 3])
def test_threads_end_when_the_reader_stops(make_recordings, at_once):
    """What is under way is given up: no stream is fed the 20 blocks of a recording after that."""
    scorer = Loudness(at_once)
    results = score_recordings(scorer, make_recordings([0.1] * 12), progress=False)
    next(results)
    scorer.takes_sound.clear()
    pushed = [stream.pushed for stream in scorer.streams]
    results.close()
    scorer.takes_sound.set()
    check_that_threads_end()
    pushed += [0] * (len(scorer.streams) - len(pushed))
    assert all(s.pushed - n < 10 for s, n in zip(scorer.streams, pushed, strict=True))
