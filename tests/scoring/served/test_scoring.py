"""Recordings through a scripted server: scores, failures, retries, how much at once."""

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_serving import HOP, NAMES, RATE_HZ, SPECIES_IDS, WINDOW, window_scores
from hypothesis import given
from hypothesis import strategies as st

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.served.pieces import plan_cuts
from rfcx_tf.scoring.served.retries import RetryRules
from rfcx_tf.scoring.served.scoring import ScoringClient
from rfcx_tf.scoring.served.served_model import ask_model, read_classes, wav_bytes
from rfcx_tf.scoring.served.transport import open_transport, split_server

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


def query(server, paths, *, rules=QUICK, piece_s=None, concurrency=3, timeout_s=10, **known):
    """The model, the recordings' scores by name, and the lines about those that failed."""

    async def run():
        transport = open_transport(server, "fake", timeout_s)
        try:
            model = await ask_model(transport, rules, **known)
            cuts = None
            if piece_s is not None:
                cuts = plan_cuts(
                    piece_s,
                    0.1,
                    sample_rate_hz=model.sample_rate_hz,
                    hop_samples=model.grid.hop_samples,
                    window_samples=model.grid.window_samples,
                )
            client = ScoringClient(transport, model, cuts, rules, concurrency)
            results = {}

            def use(result):
                results[result.recording_id] = result

            recordings = {path.stem: path for path in paths}
            return model, results, await client.score_all(recordings, use, progress=False)
        finally:
            await transport.close()

    return asyncio.run(run())


@BOTH
def test_scores_are_those_of_the_sounds(serving, protocol, sounds):
    model, results, failed = query(getattr(serving, protocol), sounds)
    assert failed == []
    assert [(c.species_id, c.name) for c in model.classes] == list(
        zip(SPECIES_IDS, NAMES, strict=True)
    )
    assert (model.grid.hop_samples, model.grid.window_samples) == (HOP, WINDOW)
    assert model.grid.mean_box_s == {4: pytest.approx(0.2)}
    assert model.grid.box_hz == {4: (100, 200)}
    assert model.grid.calibration is None
    assert sorted(results) == sorted(path.stem for path in sounds)
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
    _, results, failed = query(getattr(serving, protocol), [path], piece_s=0.7)
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
    begin_s = time.monotonic()
    path = next(iter(sounds))
    _, results, failed = query(getattr(serving, protocol), [path], timeout_s=0.5)
    assert failed == [] and "r00" in results
    assert 0.5 < time.monotonic() - begin_s < 5
    assert len(serving.requests) == 2


def test_a_connection_that_breaks_is_made_again(serving, sounds):
    serving.script = ["close"]
    _, results, failed = query(serving.rest, [next(iter(sounds))])
    assert failed == [] and "r00" in results


def test_a_server_is_left_alone_as_long_as_it_asks(serving, sounds):
    serving.script, serving.retry_after = [503], "1"
    begin_s = time.monotonic()
    query(serving.rest, [next(iter(sounds))], rules=RetryRules(first_wait_s=0.01))
    assert time.monotonic() - begin_s > 1


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
    query(getattr(serving, protocol), sounds, concurrency=3, piece_s=0.7)
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


def test_a_full_disk_is_no_failed_recording(serving, sounds):
    """What cannot be kept stops the work, with its own words."""

    async def run():
        transport = open_transport(serving.rest, "fake", 5)
        try:
            model = await ask_model(transport, QUICK)
            client = ScoringClient(transport, model, None, QUICK, 2)

            def use(_):
                raise UserError("No space left.")

            await client.score_all({p.stem: p for p in sounds}, use, progress=False)
        finally:
            await transport.close()

    assert refused(asyncio.run, run()) == "No space left."
    assert len(serving.requests) < 12


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    model, results, failed = query(server, [path], sample_rate_hz=RATE_HZ, classes=classes)
    assert failed == [] and model.classes == classes and model.grid is None
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


def test_a_calibration_comes_along(serving):
    knots = np.float32([[-20, 0, 20], [-20, 1, 20]])
    serving.about |= {
        "calibrated": np.bool_(True),
        "calibration_score_logits": knots,
        "calibration_probability_logits": knots - 1,
        "thresholds": np.float32([0.25, 0.75]),
    }
    model, _, _ = query(serving.rest, [])
    calibration = model.grid.calibration
    assert calibration.columns == ["s4", "s7"]
    np.testing.assert_array_equal(calibration.thresholds, np.float32([0.25, 0.75]))
    # Both maps take 1 off the logit of 0.5, which is 0.
    expected = 1 / (1 + np.exp([1.0, 1.0]))
    np.testing.assert_allclose(calibration.probabilities([0.5, 0.5]), expected, rtol=1e-6)


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=50),
    st.lists(st.floats(-1, 1, width=32), max_size=5),
)
def test_wav_files_lose_nothing(steps, others):
    """16 bits where these hold every sample, floats where one does not fit."""
    import io

    samples = np.concatenate([np.float32(steps) / 32768, np.float32(others)]).astype(np.float32)
    content = io.BytesIO(wav_bytes(samples, RATE_HZ))
    decoded, rate_hz = soundfile.read(content, dtype="float32")
    np.testing.assert_array_equal(decoded, samples)
    assert rate_hz == RATE_HZ
    if not others:
        assert soundfile.info(io.BytesIO(wav_bytes(samples, RATE_HZ))).subtype == "PCM_16"


def test_classes_of_a_file(tmp_path):
    path: Path = tmp_path / "classes.csv"
    path.write_text("column,species_id,name\ns7,7,owl\ns4,4,frog\n")
    assert read_classes(path) == [SpeciesClass(7, "owl"), SpeciesClass(4, "frog")]
    path.write_text("species_id,name\nx,owl\n")
    assert "species_id must be a finite number" in refused(read_classes, path)
