"""Recordings through a scripted server: scores, failures, retries, how much at once."""

import gc
import io
import json
import threading
import time

import numpy as np
import pytest
import soundfile
from fake_serving import NAMES, RATE_HZ, SPECIES_IDS, window_scores
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.journal import Journal
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.scoring.scorer import RecordingResult, ScoringError, score_recordings
from rfcx_tf.scoring.served.connection import split_server
from rfcx_tf.scoring.served.function import wav_bytes
from rfcx_tf.scoring.served.retries import RetryRules
from rfcx_tf.scoring.served.scorer import open_served

QUICK = RetryRules(retries=2, first_wait_s=0.01)
BOTH = pytest.mark.parametrize("protocol", ["rest", "grpc"])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Twelve recordings of 2.5 s in 16 bits at the model's rate: samples by path."""
    folder, random = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    sounds = {}
    for number in range(12):
        path = folder / f"r{number:02d}.wav"
        steps = random.integers(-20000, 20000, 2500).astype(np.int16)
        soundfile.write(path, steps, RATE_HZ)
        sounds[path] = steps.astype(np.float32) / 32768
    return sounds


def connect(server, **options):
    return open_served(
        server, "fake", **({"rules": QUICK, "overlap_s": 0.1, "timeout_s": 600} | options)
    )


def query(server, paths, *, concurrency=3, **options):
    """The model's card, the recordings' scores by name, and the lines about those that failed."""
    with connect(server, concurrency=concurrency, **options) as scorer:
        recordings = {path.stem: path for path in paths}
        found = dict(score_recordings(scorer, recordings, progress=False))
    scored = {name: own for name, own in found.items() if isinstance(own, RecordingResult)}
    return scorer.card, scored, [str(own) for name, own in found.items() if name not in scored]


@BOTH
def test_scores_are_those_of_the_sounds(serving, protocol, sounds):
    server = getattr(serving, protocol)
    card, results, failed = query(server, sounds)
    assert failed == []
    assert [(c.species_id, c.name) for c in card.classes] == list(
        zip(SPECIES_IDS, NAMES, strict=True)
    )
    assert (card.sample_rate_hz, card.hop_s, card.window_s) == (RATE_HZ, 0.05, 0.1)
    assert card.mean_box_s[0] == 0.2 and card.box_hz[0] == (100, 200)
    assert card.made_by.startswith(server) and card.made_by.endswith("/fake")
    assert list(results) == [path.stem for path in sounds]
    for path, samples in sounds.items():
        result, expected = results[path.stem], window_scores(samples)
        assert (result.path, result.duration_s) == (path, 2.5)
        np.testing.assert_allclose(result.window_scores, expected, rtol=1e-6)
        np.testing.assert_allclose(result.scores, expected.max(axis=0), rtol=1e-6)
        assert result.scores.dtype == result.window_scores.dtype == np.float32
    # JSON has no compact floats, so over REST a sound travels as a WAV file.
    assert {name for name, _ in serving.requests} == {
        "wav" if protocol == "rest" else "serving_default"
    }


@BOTH
def test_long_recordings_are_sent_in_pieces(serving, protocol, sounds):
    path, samples = next(iter(sounds.items()))
    _, results, failed = query(getattr(serving, protocol), [path], longest_s=0.7)
    assert failed == []
    assert len(serving.requests) == 6
    np.testing.assert_allclose(results["r00"].window_scores, window_scores(samples), rtol=1e-6)
    assert results["r00"].duration_s == 2.5


@BOTH
def test_a_busy_server_is_asked_again(serving, protocol, sounds):
    serving.script = [503, 503, None, 429]
    path, samples = next(iter(sounds.items()))
    _, results, failed = query(getattr(serving, protocol), [path, list(sounds)[1]], concurrency=1)
    assert failed == []
    assert len(serving.requests) == 5
    np.testing.assert_allclose(results["r00"].window_scores, window_scores(samples), rtol=1e-6)


@BOTH
def test_a_wrong_request_is_not_repeated_and_the_others_go_on(serving, protocol, sounds):
    serving.script = [None, 400]
    _, results, failed = query(getattr(serving, protocol), sounds, concurrency=1)
    assert len(serving.requests) == 12
    assert len(results) == 11
    (line,) = failed
    assert "could not be scored" in line and "scripted 400" in line and "\n" not in line
    assert any(str(path) in line for path in sounds if path.stem not in results)


@BOTH
def test_a_server_that_stays_busy_is_given_up(serving, protocol, sounds):
    serving.script = [503] * 3
    path = next(iter(sounds))
    _, results, (line,) = query(getattr(serving, protocol), [path])
    assert results == {}
    assert "scripted 503" in line and "Tried 3 times." in line


@BOTH
def test_a_server_that_hangs_is_asked_again(serving, protocol, sounds):
    serving.script = ["hang"]
    path = next(iter(sounds))
    # On a busy machine other replies may be late, too.
    rules = RetryRules(retries=100, first_wait_s=0.01, longest_wait_s=1)
    _, results, failed = query(getattr(serving, protocol), [path], timeout_s=0.5, rules=rules)
    assert failed == [] and "r00" in results
    assert len(serving.requests) >= 2


def test_a_connection_that_breaks_is_made_again(serving, sounds):
    serving.script = ["close"]
    _, results, failed = query(serving.rest, [next(iter(sounds))])
    assert failed == [] and "r00" in results


def test_a_server_is_left_alone_as_long_as_it_asks(serving, sounds, monkeypatch):
    asked_s = []
    monkeypatch.setattr(RetryRules, "wait_s", lambda self, _, asked: asked_s.append(asked) or 0)
    serving.script, serving.retry_after = [503, 503], "7"
    query(serving.rest, [next(iter(sounds))])
    assert asked_s == [7.0, 7.0]


def without(name):
    return lambda outputs: {key: value for key, value in outputs.items() if key != name}


def spoiled(outputs):
    outputs["scores"] = np.float32([[np.nan, 0.5]])
    return outputs


def of_another_shape(outputs):
    outputs["scores"] = np.float32([[0.1, 0.2, 0.3]])
    return outputs


@BOTH
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (without("window_scores"), "must reply with scores, window_scores"),
        (spoiled, "of finite numbers"),
        (of_another_shape, "scores [1, 2] of finite numbers. Received: float"),
    ],
)
def test_replies_that_cannot_be_used_are_named(serving, protocol, step, words, sounds):
    serving.script = [step]
    _, results, (line,) = query(getattr(serving, protocol), [next(iter(sounds))])
    assert results == {} and len(serving.requests) == 1
    assert words in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>Welcome to the proxy", "must reply with JSON. Received: '<html>Welcome"),
        (json.dumps({"predictions": [1]}).encode(), "must reply with scores"),
        (b"[1, 2]", "must reply with scores"),
        (b'{"outputs": {"scores": [[1, 2], [3]], "window_scores": 1}}', "must reply with scores"),
    ],
)
def test_rubbish_is_named(serving, content, words, sounds):
    serving.script = [content]
    _, _, (line,) = query(serving.rest, [next(iter(sounds))])
    assert words in line and "\n" not in line and len(line) < 500


@BOTH
def test_requests_at_once_are_few(serving, protocol, sounds):
    serving.delay_s = 0.05
    query(getattr(serving, protocol), sounds, concurrency=3, longest_s=0.7)
    assert serving.most_at_once == 3
    assert len(serving.requests) == 72


def test_a_bad_file_does_not_stop_the_others(serving, sounds, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF and then nothing")
    first, second, *_ = sounds
    _, results, failed = query(serving.rest, [first, bad, second])
    assert list(results) == ["r00", "r01"] or list(results) == ["r01", "r00"]
    (line,) = failed
    assert str(bad) in line


def test_a_full_disk_is_no_failed_recording(serving, sounds, tmp_path, monkeypatch):
    """What cannot be kept stops the work, with its own words."""

    def write(*_):
        raise UserError("No space left.")

    monkeypatch.setattr(Journal, "write", write)
    journal = Journal(tmp_path / "parts", "a")
    recordings = {path.stem: path for path in sounds}
    with connect(serving.rest, concurrency=2) as scorer:
        text = refused(predict_recordings, scorer, recordings, journal=journal, progress=False)
    assert text == "No space left."
    assert len(serving.requests) < 12


@BOTH
def test_a_connection_that_nobody_holds_is_closed(serving, protocol):
    server = getattr(serving, protocol)

    def is_open():
        return any(thread.name == f"connection to {server}" for thread in threading.enumerate())

    scorer = connect(server)
    assert is_open()
    del scorer
    gc.collect()
    assert not is_open()


@BOTH
def test_few_pieces_of_a_long_recording_are_on_their_way(serving, protocol):
    """While none is answered, sound is taken for as many and no more."""
    serving.script = ["hang"] * 3
    pushed, failed = [], []
    with connect(getattr(serving, protocol), concurrency=3, longest_s=1.0) as scorer:

        def push():
            stream = scorer.stream()
            try:
                while True:
                    stream.push({RATE_HZ: np.zeros(1000, np.float32)})
                    pushed.append(1)
            except ScoringError as error:
                failed.append(str(error))

        thread = threading.Thread(target=push)
        thread.start()
        until = time.monotonic() + 300
        while len(serving.requests) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(serving.requests) == 3 and len(pushed) <= 4
    # The end of the scorer is the end of what is on its way.
    thread.join(300)
    assert not thread.is_alive()
    assert failed == ["the connection to the server was closed."]


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "grpc://127.0.0.1:1"])
def test_no_server_is_said_in_one_line(server):
    text = refused(query, server, [])
    assert "127.0.0.1:1" in text and "Tried 3 times." in text


@pytest.mark.parametrize(
    "server", ["127.0.0.1:8501", "ftp://h:1", "http://", "grpc://h", "grpc://"]
)
def test_addresses_of_another_form_are_refused(server):
    assert f"Received: {server!r}" in refused(split_server, server)


def test_addresses():
    assert split_server("http://h:8501/") == ("http", "h:8501")
    assert split_server("https://h/serving") == ("https", "h/serving")
    assert split_server("grpc://[::1]:8500") == ("grpc", "[::1]:8500")


@BOTH
def test_a_model_that_says_nothing_of_itself(serving, protocol, sounds):
    """Its only other signature has the waveform as JSON numbers."""
    del serving.signatures["about"], serving.signatures["wav"]
    serving.signatures["serving_default"] = (["waveform"], ["scores"])
    server, (path, samples) = getattr(serving, protocol), next(iter(sounds.items()))
    text = refused(query, server, [path])
    assert "--sample-rate" in text and "--classes" in text
    classes = [SpeciesClass(1, "a"), SpeciesClass(2, "b")]
    card, results, failed = query(server, [path], sample_rate_hz=RATE_HZ, classes=classes)
    assert failed == [] and list(card.classes) == classes and card.hop_s == 0
    expected = window_scores(samples).max(axis=0)
    np.testing.assert_allclose(results["r00"].scores, expected, rtol=1e-6)
    assert results["r00"].window_scores is None
    _, inputs = serving.requests[-1]
    np.testing.assert_array_equal(inputs["waveform"][0], samples)


def test_what_the_model_says_is_not_said_twice(serving):
    text = refused(query, serving.rest, [], sample_rate_hz=RATE_HZ)
    assert "Leave --sample-rate and --classes out" in text


@BOTH
def test_a_model_of_another_kind_is_refused(serving, protocol):
    serving.signatures = {"serving_default": (["text"], ["sentiment"])}
    assert "('text',) -> ('sentiment',)" in refused(query, getattr(serving, protocol), [])


def test_a_model_of_an_earlier_version_is_refused(serving):
    serving.signatures["about"] = (["samples"], ["windows", "class_names", "species_ids"])
    assert "earlier version of rfcx-tf. Export it again." in refused(query, serving.rest, [])


@BOTH
def test_the_whole_card_comes_along(serving, protocol):
    knots = np.float32([[-20, 0, 20], [-20, 1, 20]])
    rows = [{"name": "x", "method": "platt", "present": 1, "absent": 1, "note": ""}] * 2
    calibration = Calibration(["s4", "s7"], knots, knots - 1, np.float32([0.25, 0.75]), rows, "F1")
    card = ModelCard.from_json(json.dumps(serving.card)).replace(calibration=calibration)
    serving.card = json.loads(card.to_json())
    found, _, _ = query(getattr(serving, protocol), [])
    assert found.replace(made_by="runs/here").to_json() == card.to_json()


def test_predictions_of_other_models_or_cuts_differ(serving):
    def fingerprints(**options):
        with connect(serving.rest, **options) as scorer:
            return {scorer.fingerprint(windows) for windows in (False, True)}

    first = fingerprints()
    assert len(first) == 2 and fingerprints(concurrency=9) == first
    assert not first & fingerprints(longest_s=2.0)
    serving.card["hop_s"] = 0.1
    assert not first & fingerprints()


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    st.lists(st.floats(-1, 1, width=32), max_size=5),
)
def test_wav_files_lose_nothing(steps, others):
    """16 bits where these hold every sample, floats where one does not fit."""
    samples = np.concatenate([np.float32(steps) / 32768, np.float32(others)]).astype(np.float32)
    content = io.BytesIO(wav_bytes(samples, RATE_HZ))
    decoded, rate_hz = soundfile.read(content, dtype="float32")
    np.testing.assert_array_equal(decoded, samples)
    assert rate_hz == RATE_HZ
    if not others:
        assert soundfile.info(io.BytesIO(wav_bytes(samples, RATE_HZ))).subtype == "PCM_16"
