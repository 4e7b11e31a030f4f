"""tensorflow-io inside tf.data: a second decoder that ours is held against, format by format."""

import sys

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from benchmarks.stages.decoding import tensorflow_io_decoder
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.errors import UserError

RATE_HZ = 48000


@pytest.fixture(scope="module")
def tf_data_samples():
    """A function that decodes a file inside tf.data: tf_data_samples(path, bits=16)."""
    try:
        tensorflow_io_decoder(".flac")
    except UserError as error:
        pytest.skip(str(error))

    def samples(path, bits=16):
        decode = tensorflow_io_decoder(path.suffix, bits)
        names = tf.data.Dataset.from_tensors(str(path))
        return next(iter(names.map(lambda name: decode(tf.io.read_file(name))))).numpy()

    return samples


def write(path, samples, channels=1, **kwargs):
    sound = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, sound, RATE_HZ, **kwargs)
    return path


@pytest.mark.parametrize("samples", [1, 2, 1001, 4802])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("name", "bits", "tolerance"),
    [
        ("a.flac", 16, 0),
        ("a.flac", 24, 0),
        ("a.wav", 16, 0),
        ("a.wav", 24, 0),
        ("a.mp3", 16, 2e-6),
        ("a.ogg", 16, 2e-6),
    ],
)
def test_both_decoders_give_the_same_samples(
    tmp_path, tf_data_samples, name, bits, tolerance, channels, samples
):
    if name == "a.wav" and bits == 24 and channels * samples % 2:
        pytest.skip("tensorflow-io refuses a WAV with an odd number of bytes of samples")
    subtype = f"PCM_{bits}" if tolerance == 0 else None
    path = write(tmp_path / name, samples, channels, subtype=subtype)
    found = tf_data_samples(path, bits)
    assert found.shape == (samples,) and found.any()
    np.testing.assert_allclose(found, read_audio(path, RATE_HZ), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "PCM_32"}),
        ("a.wav", {"subtype": "PCM_16", "format": "RF64"}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.ogg", {"subtype": "OPUS"}),
    ],
)
def test_tensorflow_io_refuses_what_we_read(tmp_path, tf_data_samples, name, kwargs):
    path = write(tmp_path / name, 1001, **kwargs)
    assert len(read_audio(path, RATE_HZ)) == 1001
    with pytest.raises(tf.errors.OpError):
        tf_data_samples(path)


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.mp3"])
def test_tensorflow_io_gives_nothing_of_a_file_that_was_cut_short(tmp_path, tf_data_samples, name):
    path = write(tmp_path / name, RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(tf.errors.OpError):
        tf_data_samples(path)


def test_tensorflow_io_does_not_notice_that_an_ogg_lacks_its_end(tmp_path, tf_data_samples):
    path = write(tmp_path / "a.ogg", RATE_HZ)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"OggS")])
    assert 0 < len(tf_data_samples(path)) < RATE_HZ


def test_without_tensorflow_io_the_stage_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(UserError, match=r"needs tensorflow-io.*Install requirements\.txt"):
        tensorflow_io_decoder(".flac")
