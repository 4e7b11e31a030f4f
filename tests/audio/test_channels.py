"""Which channel is listened to: the mean, the louder one where the mean is silence, or a choice."""

import numpy as np
import pytest
import soundfile

from rfcx_tf.audio.decode import (
    AudioError,
    AudioSource,
    decode_blocks,
    read_audio,
    read_audio_parts,
)
from rfcx_tf.audio.excerpt import read_excerpt

RATE_HZ = 8000


def noise(seconds=4.0, seed=0, amplitude=0.2):
    return amplitude * np.random.default_rng(seed).normal(0, 1, round(seconds * RATE_HZ))


def stereo(folder, *channels, rate_hz=RATE_HZ):
    path = folder / "a.wav"
    soundfile.write(path, np.stack(channels, 1), rate_hz, subtype="FLOAT")
    return path


def heard(path, channel="mean"):
    """The recording whole, which its blocks and parts must be too; and what is told of it."""
    source, remarks = AudioSource(path, channel=channel), []
    samples = read_audio(source, RATE_HZ, remarks)
    for block_s in (0.3, 1.0, 2.5):
        of_blocks = []
        blocks = [b[RATE_HZ] for b in decode_blocks(source, [RATE_HZ], block_s, of_blocks)]
        np.testing.assert_array_equal(np.concatenate(blocks), samples)
        assert of_blocks == remarks
    part = (len(samples) - 6000, len(samples) - 1000)
    parts = read_audio_parts(source, RATE_HZ, lambda n: [part], [])
    np.testing.assert_array_equal(parts[slice(*part)], samples[slice(*part)])
    return samples, [remark.text for remark in remarks]


def test_two_channels_out_of_phase_are_heard_by_the_first(tmp_path):
    left = noise()
    samples, (told,) = heard(stereo(tmp_path, left, -left))
    np.testing.assert_array_equal(samples, np.float32(left))
    assert "cancel each other from 0 s on. Channel 0" in told and "--channel" in told


def test_the_louder_one_is_taken_where_gains_and_noise_differ(tmp_path):
    sound = noise()
    channels = sound + noise(seed=1, amplitude=0.005), -1.1 * sound + noise(seed=2, amplitude=0.005)
    samples, (told,) = heard(stereo(tmp_path, *channels))
    np.testing.assert_array_equal(samples, np.float32(channels[1]))
    assert "Channel 1" in told


def test_silence_before_the_sound_hides_nothing(tmp_path):
    left = np.concatenate([np.zeros(2 * RATE_HZ), noise()])
    samples, (told,) = heard(stereo(tmp_path, left, -left))
    np.testing.assert_array_equal(samples, np.float32(left))
    assert "from 2 s on" in told


def test_a_plug_that_was_turned_on_the_way(tmp_path):
    left, right = noise(6, 0), noise(6, 1)
    turned = np.concatenate([right[: 3 * RATE_HZ], -left[3 * RATE_HZ :]])
    samples, (told,) = heard(stereo(tmp_path, left, turned))
    expected = np.concatenate([(left + turned)[: 3 * RATE_HZ] / 2, left[3 * RATE_HZ :]])
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    assert "from 3 s on" in told


def test_two_pairs_out_of_phase(tmp_path):
    one, other = noise(seed=1), noise(seed=2, amplitude=0.1)
    samples, (told,) = heard(stereo(tmp_path, other, one, -other, -one))
    np.testing.assert_array_equal(samples, np.float32(one))
    assert "Channel 1" in told


@pytest.mark.parametrize(
    "right",
    [noise(seed=7), 0 * noise(), noise(), 0.5 * noise() - 0.2 * noise(seed=3), -0.5 * noise()],
    ids=["another", "dead", "the same", "akin", "half of it turned"],
)
def test_other_channels_are_averaged_and_nothing_is_told(tmp_path, right):
    samples, told = heard(stereo(tmp_path, noise(), right))
    np.testing.assert_allclose(samples, (noise() + right) / 2, atol=1e-7)
    assert told == []


def test_silence_is_silence(tmp_path):
    lowest = np.full(RATE_HZ * 2, 1 / 32768)
    samples, told = heard(stereo(tmp_path, lowest, -lowest))
    assert not samples.any() and told == []


def test_a_channel_by_its_number(tmp_path):
    channels = [noise(seed=seed) for seed in range(3)]
    path = stereo(tmp_path, *channels)
    for number, channel in enumerate(channels):
        samples, told = heard(path, str(number))
        np.testing.assert_array_equal(samples, np.float32(channel))
        assert told == []
    with pytest.raises(AudioError, match=r"must have a channel 3, counted from 0. It has 3"):
        read_audio(AudioSource(path, channel="3"), RATE_HZ)


def test_a_broken_channel_beside_the_one_that_is_taken(tmp_path):
    path = stereo(tmp_path, noise(), np.full(4 * RATE_HZ, np.nan))
    with pytest.raises(AudioError, match="not finite"):
        read_audio(path, RATE_HZ)
    for channel in ("0", "loudest"):
        np.testing.assert_array_equal(heard(path, channel)[0], np.float32(noise()))


def test_the_loudest_of_a_recording_and_of_one_channel(tmp_path):
    # Loud at the end only; the other is louder at first.
    quiet, late = noise(15, 1, 0.02), noise(15, 2, 0.001)
    late[12 * RATE_HZ :] = noise(3, 3, 0.15)
    samples, told = heard(stereo(tmp_path, quiet, late), "loudest")
    np.testing.assert_array_equal(samples, np.float32(late))
    assert told == []
    np.testing.assert_array_equal(heard(stereo(tmp_path, quiet), "loudest")[0], np.float32(quiet))


def test_an_excerpt_of_what_cancels(tmp_path):
    left = noise()
    excerpt = read_excerpt(stereo(tmp_path, left, -left), 1.25, 3.0)
    np.testing.assert_array_equal(excerpt.samples, np.float32(left[10_000:24_000]))
