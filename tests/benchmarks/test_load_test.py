"""The load test against a real server of the tiny model."""

import asyncio
import json

import numpy as np
import pytest
import soundfile

from benchmarks.load_test import (
    Level,
    as_document,
    make_recording,
    markdown_table,
    measure_direct,
    measure_server,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.serving.server.model import ServedModel


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return ServedModel(tiny_model_folder / "1", 1)


def test_measures_a_server(model, tiny_model_folder):
    recording = make_recording(model, "serving_default", None, length_s=2, rate_hz=1000)
    assert recording.value.shape == (1, 2000)
    direct = measure_direct(model, recording, 0.2)
    assert direct.requests_per_s == pytest.approx(1 / direct.median_s, rel=0.9)
    levels = asyncio.run(
        measure_server(tiny_model_folder, recording, "grpc", [1, 4], 0.5, direct, [])
    )
    assert [level.clients for level in levels] == [1, 4]
    for level in levels:
        assert level.requests > 0
        assert level.errors == 0
        assert 0 < level.median_s <= level.p99_s
        # A process with TensorFlow in it.
        assert 100 < level.memory_mib[0] <= level.memory_mib[1] < 10_000
        ratio = direct.requests_per_s / level.requests_per_s
        assert level.overhead_percent == pytest.approx(100 * (ratio - 1))
    document = json.loads(as_document([direct, *levels], protocol="grpc"))
    assert [level["clients"] for level in document["levels"]] == [0, 1, 4]


def test_recordings(model, tmp_path):
    wav = make_recording(model, None, None, length_s=0.5, rate_hz=1000)
    assert (wav.signature, wav.name, wav.value.shape) == ("wav", "wav", ())
    waveform = np.float32([0.25, -0.5, 0.125] * 100)
    soundfile.write(tmp_path / "a.wav", np.stack([waveform, -waveform], axis=1), 1000)
    mixed = make_recording(model, "serving_default", tmp_path / "a.wav", 60, None)
    np.testing.assert_array_equal(mixed.value, np.zeros((1, 300)))
    with pytest.raises(UserError, match="--sample-rate"):
        make_recording(model, None, None, length_s=1, rate_hz=None)
    with pytest.raises(UserError, match="nothing; the model has average"):
        make_recording(model, "nothing", None, length_s=1, rate_hz=1000)
    with pytest.raises(UserError, match="nap takes count"):
        make_recording(model, "nap", None, length_s=1, rate_hz=1000)


def test_table():
    levels = [
        Level(0, 10, 0, 2.0, 0.5, 0.75, 0.0, None),
        Level(8, 40, 1, 1.6, 0.625, 0.875, 25.0, (900.4, 950.0, 910.0)),
    ]
    assert markdown_table(levels).splitlines()[2:] == [
        "| model called directly | 10 | 0 | 2.00 | 0.500 | 0.750 |  |  |",
        "| 8 | 40 | 1 | 1.60 | 0.625 | 0.875 | +25.0 % | 900, 950, 910 |",
    ]
