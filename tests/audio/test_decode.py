"""read_audio against sines, scipy and damaged files, its parts and blocks against the whole;
where .tfrec audio lies.
"""

import functools
import io
import os
import struct

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.audio.decode import (
    AudioError,
    AudioSource,
    decode_blocks,
    duration_s,
    read_audio,
    read_audio_parts,
)
from rfcx_tf.audio.find import find_recordings
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.kaggle_tfrec import index_tfrec

RATE_HZ = 48000


def sine(frequency_hz, rate_hz, samples, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz)


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


def write(path, samples, rate_hz=RATE_HZ, **kwargs):
    soundfile.write(path, samples, rate_hz, **kwargs)
    return path


def snr_db(expected, found):
    error = max(np.sum((expected - found) ** 2), 1e-30)
    return 10 * np.log10(np.sum(expected**2) / error)


def write_cut(path, fraction=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("a.wav", "PCM_16", 2.0**-15),
        ("a.flac", "PCM_16", 2.0**-15),
        ("a.FLAC", "PCM_24", 2.0**-23),
        ("a.wav", "PCM_24", 2.0**-23),
        ("a.wav", "FLOAT", 2.0**-24),
        ("a.Wav", "DOUBLE", 2.0**-24),
        ("a.wav", "PCM_U8", 2.0**-7),
    ],
)
def test_lossless_formats_keep_every_sample(tmp_path, name, subtype, step):
    expected = noise(4801)
    found = read_audio(write(tmp_path / name, expected, subtype=subtype), RATE_HZ)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() <= step


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_keep_length_and_waveform(tmp_path, name):
    expected = sine(1000, RATE_HZ, RATE_HZ)
    found = read_audio(write(tmp_path / name, expected), RATE_HZ)
    assert found.shape == expected.shape
    assert snr_db(expected[4800:-4800], found[4800:-4800]) > 25


def test_channels_are_averaged(tmp_path):
    left, right = noise(1000, seed=1), noise(1000, seed=2)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path, RATE_HZ), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("file_rate_hz", "rate_hz"),
    [(24000, 48000), (32000, 48000), (44100, 48000), (96000, 48000), (48000, 24000)],
)
def test_resampled_sine_is_the_sine_at_the_new_rate(tmp_path, file_rate_hz, rate_hz):
    path = write(
        tmp_path / "a.wav", sine(3000, file_rate_hz, file_rate_hz), file_rate_hz, subtype="FLOAT"
    )
    expected = sine(3000, rate_hz, rate_hz)
    found = read_audio(path, rate_hz)
    assert found.dtype == np.float32 and found.shape == expected.shape
    inner = slice(rate_hz // 20, -rate_hz // 20)
    assert snr_db(expected[inner], found[inner]) > 100


def test_resampling_agrees_with_scipy(tmp_path):
    # Fourier resampling is exact for a signal without energy above the new Nyquist frequency
    # that fades to zero at both ends.
    low_pass = scipy.signal.firwin(511, 8000, fs=RATE_HZ)
    signal = np.convolve(noise(RATE_HZ), low_pass, "same") * np.hanning(RATE_HZ)
    found = read_audio(write(tmp_path / "a.wav", signal, subtype="FLOAT"), 22050)
    assert snr_db(scipy.signal.resample(signal, 22050), found) > 80


def test_resampling_removes_what_the_new_rate_cannot_hold(tmp_path):
    path = write(tmp_path / "a.wav", sine(15000, RATE_HZ, RATE_HZ), subtype="FLOAT")
    assert np.abs(read_audio(path, 24000)[1200:-1200]).max() < 1e-4


@pytest.mark.parametrize("samples", [3, 7, 100, 1001, 12345])
@pytest.mark.parametrize(
    ("file_rate_hz", "rate_hz"), [(16000, 24000), (44100, 48000), (96000, 48000), (48000, 22050)]
)
def test_resampled_length_is_rounded_half_up(tmp_path, samples, file_rate_hz, rate_hz):
    path = write(tmp_path / "a.wav", noise(samples), file_rate_hz)
    expected = (2 * samples * rate_hz + file_rate_hz) // (2 * file_rate_hz)
    assert len(read_audio(path, rate_hz)) == expected


def test_result_stays_within_full_scale(tmp_path):
    square = np.sign(sine(440, RATE_HZ, RATE_HZ) + 1e-9)
    path = write(tmp_path / "a.ogg", square)
    assert np.abs(soundfile.read(path)[0]).max() > 1.05, "the case must overshoot"
    assert np.abs(read_audio(path, RATE_HZ)).max() == 1.0


def test_bytes_and_part_of_a_file_read_like_the_file(tmp_path):
    path = write(tmp_path / "a.wav", noise(500))
    encoded = path.read_bytes()
    (tmp_path / "container").write_bytes(b"before" + encoded + b"after")
    source = AudioSource(tmp_path / "container", offset=6, length=len(encoded))
    expected = read_audio(path, RATE_HZ)
    np.testing.assert_array_equal(read_audio(encoded, RATE_HZ), expected)
    np.testing.assert_array_equal(read_audio(source, RATE_HZ), expected)
    np.testing.assert_array_equal(read_audio(str(path), RATE_HZ), expected)


def assert_refused(source, *parts):
    with pytest.raises(AudioError) as caught:
        read_audio(source, RATE_HZ)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    return text


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "no.flac", "no.flac", "No such file")


def test_directory(tmp_path):
    assert_refused(tmp_path, str(tmp_path), "directory")


def test_file_without_permission(tmp_path):
    path = write(tmp_path / "locked.wav", noise(10))
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root reads everything, so step down for the moment
        os.seteuid(65534)
    try:
        assert_refused(path, "locked.wav", "Permission denied")
    finally:
        if root:
            os.seteuid(0)


def test_empty_file(tmp_path):
    (tmp_path / "empty.flac").touch()
    assert_refused(tmp_path / "empty.flac", "empty.flac", "0 bytes")


CUT = [
    ("a.flac", {}),
    ("a.wav", {}),
    ("a.wav", {"subtype": "FLOAT"}),
    ("a.wav", {"format": "RF64"}),
    ("a.aiff", {}),
    ("a.au", {}),
    ("a.w64", {}),
    ("a.mp3", {}),
    ("a.mp3", {"bitrate_mode": "CONSTANT"}),
    ("a.ogg", {}),
    ("a.ogg", {"subtype": "OPUS"}),
]


@pytest.mark.parametrize(("name", "kwargs"), CUT)
def test_what_is_there_of_a_file_cut_short(tmp_path, name, kwargs):
    path = write(tmp_path / name, noise(3 * RATE_HZ), **kwargs)
    remarks = []
    whole = read_audio(path, RATE_HZ, remarks)
    assert len(whole) == 3 * RATE_HZ and remarks == []
    text = assert_refused(write_cut(path), name, "cut short at ", "Copy it again")
    cut = read_audio(path, RATE_HZ, remarks)
    # A page of OGG holds about a second.
    assert (0.9 if name == "a.ogg" else 1.4) * RATE_HZ < len(cut) <= 1.52 * RATE_HZ
    inner = slice(4800, len(cut) - 4800)
    assert snr_db(whole[inner], cut[inner]) > 60
    (remark,) = remarks
    assert remark.is_cut and f"cut short at {len(cut) / RATE_HZ:.3f} s" in remark.text
    if ".ogg" not in name:
        assert "of 3.0" in text or "of 2.9" in text
    blocks = list(blocks_of(path, RATE_HZ, 0.25, again := []))
    np.testing.assert_allclose(np.concatenate(blocks), cut, atol=1e-6)
    assert again == remarks


def test_flac_damaged_inside_is_used_up_to_the_damage(tmp_path):
    path = write(tmp_path / "a.flac", noise(4 * RATE_HZ))
    whole, content = read_audio(path, RATE_HZ), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    assert_refused(path, "a.flac", "damaged at")
    found = read_audio(path, RATE_HZ, remarks := [])
    # Noise takes as many bytes everywhere; frames have 4096 samples here, steps 64.
    assert -len(found) % 4096 <= 64 and 0 <= len(whole) / 2 - len(found) < 3 * 4096
    np.testing.assert_array_equal(found, whole[: len(found)])
    (remark,) = remarks
    assert remark.is_cut and f"damaged at {len(found) / RATE_HZ:.3f} s of 4.000 s" in remark.text
    for block_s in (0.03, 0.7, 10.0):
        blocks = list(blocks_of(path, RATE_HZ, block_s, again := []))
        np.testing.assert_array_equal(np.concatenate(blocks), found)
        assert again == remarks
    parts = read_audio_parts(path, RATE_HZ, lambda n: [(1000, n - 1000)], again := [])
    np.testing.assert_array_equal(parts, found)
    assert again == remarks


def test_flac_damaged_from_the_first_sample_on(tmp_path):
    path = write(tmp_path / "a.flac", noise(RATE_HZ))
    content = bytearray(path.read_bytes())
    begin = content.index(b"\xff\xf8")
    content[begin + 100 : begin + 200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="damaged from its first sample on"):
        read_audio(path, RATE_HZ, [])


def test_mp3_without_a_length_tag_is_read():
    # Variable bit rate: libsndfile's guess at the length is then far too high.
    sound = np.concatenate([np.zeros(2 * RATE_HZ), noise(RATE_HZ), np.zeros(2 * RATE_HZ)])
    encoded = mp3_without_length(sound)
    assert soundfile.info(io.BytesIO(encoded)).frames > 1.2 * len(sound)
    assert abs(len(read_audio(encoded, RATE_HZ)) - len(sound)) < 3 * 1152


def blocks_of(source, rate_hz, block_s=10.0, remarks=None):
    return (sound[rate_hz] for sound in decode_blocks(source, [rate_hz], block_s, remarks))


def mp3_without_length(sound) -> bytes:
    encoded = io.BytesIO()
    soundfile.write(encoded, sound, RATE_HZ, format="MP3")
    # The first frame holds the tag alone.
    return encoded.getvalue()[encoded.getvalue().find(encoded.getvalue()[:2], 10) :]


def test_mp3_that_is_longer_than_its_bit_rate_makes_likely_is_read_to_its_end():
    """Its beginning has a high bit rate, so libsndfile would stop long before the end."""
    encoded = mp3_without_length(np.concatenate([noise(5 * RATE_HZ), np.zeros(25 * RATE_HZ)]))
    assert soundfile.info(io.BytesIO(encoded)).duration < 10
    remarks = []
    assert abs(len(read_audio(encoded, RATE_HZ, remarks)) - 30 * RATE_HZ) < 3 * 1152
    assert remarks == []


@pytest.mark.parametrize("block_s", [0.01, 0.2371, 10.0])
@pytest.mark.parametrize(
    ("name", "file_rate_hz", "channels"),
    [
        ("a.flac", 48000, 1),
        ("a.wav", 48000, 2),
        ("a.flac", 44100, 2),
        ("a.ogg", 44100, 1),
        ("a.wav", 22050, 1),
        ("a.wav", 96000, 1),
    ],
)
def test_blocks_put_together_are_the_recording(tmp_path, name, file_rate_hz, channels, block_s):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (30011, channels))
    path = write(tmp_path / name, sound, file_rate_hz)
    blocks = list(decode_blocks(path, [RATE_HZ, 32000], block_s))
    for rate_hz in (RATE_HZ, 32000):
        own = [block[rate_hz] for block in blocks]
        # The resampler holds back some milliseconds, then gives them all. Of several channels
        # whole seconds are judged.
        judged_s = 1.0 if channels > 1 else 0.0
        assert max(map(len, own)) <= (max(block_s, judged_s) + 0.05) * rate_hz
        np.testing.assert_array_equal(np.concatenate(own), read_audio(path, rate_hz))
    assert duration_s(path) == 30011 / file_rate_hz


def test_mp3_in_blocks_is_the_recording_but_for_rounding(tmp_path):
    path = write(tmp_path / "a.mp3", noise(3 * RATE_HZ))
    blocks = list(blocks_of(path, RATE_HZ, 0.5))
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path, RATE_HZ), atol=1e-6)


def test_blocks_are_clipped_to_full_scale(tmp_path):
    path = write(tmp_path / "a.wav", 1.5 * noise(5000) / 0.5, subtype="FLOAT")
    found = np.concatenate(list(blocks_of(path, 24000, 0.02)))
    np.testing.assert_array_equal(found, read_audio(path, 24000))
    assert np.abs(found).max() == 1


def cut_flac(folder):
    return write_cut(write(folder / "a.flac", noise(3 * RATE_HZ)))


def cut_wav(folder):
    return write_cut(write(folder / "a.wav", noise(3 * RATE_HZ)))


def text_file(folder):
    (folder / "a.wav").write_text("<html>404 not found</html>")
    return folder / "a.wav"


def not_finite(folder):
    samples = noise(3 * RATE_HZ)
    samples[2 * RATE_HZ + 1000] = np.nan
    return write(folder / "a.wav", samples, subtype="FLOAT")


def no_samples(folder):
    return write(folder / "a.wav", np.zeros(0), 44100)


def too_loud(folder):
    return write(folder / "a.wav", noise(1000) * 32768, subtype="FLOAT")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (cut_flac, "cut short"),
        (cut_wav, "cut short"),
        (text_file, "not readable as FLAC, MP3, OGG, WAV, AIFF, AU, CAF, W64:"),
        (not_finite, "not finite: the first at 2.021 s"),
        (no_samples, "no samples"),
        (too_loud, "within +-1. Received: a peak of 16"),
    ],
)
def test_what_no_sound_has_is_refused_as_a_whole_and_in_blocks(tmp_path, bad, words):
    path = bad(tmp_path)
    text = assert_refused(path, "a.", words)
    with pytest.raises(AudioError) as caught:
        list(blocks_of(path, RATE_HZ, 0.1))
    assert str(caught.value) == text


def test_blocks_before_a_defect_are_given(tmp_path):
    blocks = blocks_of(not_finite(tmp_path), RATE_HZ, 1.0)
    assert [len(next(blocks)) for _ in range(2)] == [RATE_HZ, RATE_HZ]
    with pytest.raises(AudioError, match=r"the first at 2\.021 s"):
        next(blocks)


def read_parts(source, parts, rate_hz=RATE_HZ):
    return read_audio_parts(source, rate_hz, lambda samples: parts)


def assert_parts_of_the_whole(source, parts):
    """The parts are those of read_audio to the bit; nothing else was decoded but the end."""
    expected = np.zeros_like(whole := read_audio(source, RATE_HZ))
    for begin, end in [*parts, (len(whole) - 1, len(whole))]:
        expected[begin:end] = whole[begin:end]
    found = read_parts(source, parts)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@functools.cache
def encoded(format, subtype, channels=1, samples=100_000, **kwargs) -> bytes:
    # Coloured, as in a forest: a FLAC frame then has a length of its own. Some is beyond +-1.
    sound = np.random.default_rng(3).normal(0, 0.2, (samples, channels))
    sound = scipy.signal.lfilter([1], [1, -0.8], sound, axis=0)
    stream = io.BytesIO()
    soundfile.write(stream, sound, RATE_HZ, subtype=subtype, format=format, **kwargs)
    return stream.getvalue()


SEEKABLE = [
    ("FLAC", "PCM_16", 1),
    ("FLAC", "PCM_24", 2),
    ("WAV", "PCM_16", 2),
    ("WAV", "PCM_24", 1),
    ("WAV", "FLOAT", 1),
    ("WAVEX", "PCM_U8", 3),
    ("RF64", "DOUBLE", 2),
]


@pytest.mark.parametrize(("format", "subtype", "channels"), SEEKABLE)
@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 100_000) | st.integers(99_000, 100_000),
            st.integers(0, 9000) | st.integers(0, 3),
        ),
        max_size=5,
    )
)
def test_parts_are_those_of_the_whole_recording(format, subtype, channels, places):
    parts = [(begin, min(begin + length, 100_000)) for begin, length in places]
    assert_parts_of_the_whole(encoded(format, subtype, channels), parts)


def test_parts_depend_on_the_length_and_most_of_a_recording_is_read_whole():
    source = encoded("FLAC", "PCM_16")
    found = read_audio_parts(source, RATE_HZ, lambda samples: [(samples - 10, samples)])
    np.testing.assert_array_equal(np.flatnonzero(found), np.arange(99_990, 100_000))
    assert_parts_of_the_whole(source, [(0, 40_000), (65_000, 100_000)])
    most = read_parts(source, [(0, 40_000), (64_000, 100_000)])
    np.testing.assert_array_equal(most, read_audio(source, RATE_HZ))


@pytest.mark.parametrize(
    ("format", "subtype", "rate_hz"),
    [
        ("OGG", "VORBIS", RATE_HZ),
        ("MP3", "MPEG_LAYER_III", RATE_HZ),
        ("WAV", "IMA_ADPCM", RATE_HZ),
        ("FLAC", "PCM_16", 32000),
    ],
)
def test_what_cannot_be_sought_through_is_read_whole(format, subtype, rate_hz):
    source = encoded(format, subtype)
    whole = read_audio(source, rate_hz)
    np.testing.assert_array_equal(read_parts(source, [(500, 600)], rate_hz), whole)
    assert whole[:500].any()


def wav_with_other_chunks() -> bytes:
    wav = encoded("WAV", "PCM_24")
    data = wav.find(b"data")
    junk = b"junk" + struct.pack("<I", 501) + bytes(502)
    after = b"LIST" + struct.pack("<I", 5000) + b"x" * 5000
    chunks = wav[12:data] + junk + wav[data:] + after
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def wav_from_a_pipe() -> bytes:
    wav = bytearray(encoded("WAV", "PCM_16", 2))
    data = wav.find(b"data")
    wav[4:8] = wav[data + 4 : data + 8] = b"\xff" * 4
    return bytes(wav)


def flac_with_tags_and_seek_table(offset: int) -> bytes:
    """A picture's worth of tags, and a seek point for sample 40960 at a byte of the frames."""
    flac = encoded("FLAC", "PCM_16")
    points = struct.pack(">QQH", 0, 0, 4096) + struct.pack(">QQH", 40_960, offset, 4096)
    blocks = b"\x03" + len(points).to_bytes(3, "big") + points
    blocks += b"\x01" + (70_000).to_bytes(3, "big") + bytes(70_000)
    # After "fLaC" and STREAMINFO.
    return flac[:42] + blocks + flac[42:]


def flac_frame_offset(sample: int) -> int:
    """Where the frame of a sample begins, in bytes after the first frame's begin."""
    flac = encoded("FLAC", "PCM_16")
    # A frame of a fixed length begins with FFF8, two bytes, and its number as UTF-8.
    first = flac.find(b"\xff\xf8")
    return flac.find(flac[first : first + 4] + chr(sample // 4096).encode(), first) - first


@pytest.mark.parametrize(
    "make",
    [
        wav_with_other_chunks,
        wav_from_a_pipe,
        lambda: encoded("WAV", "PCM_16", endian="BIG"),
        lambda: flac_with_tags_and_seek_table(flac_frame_offset(40_960)),
    ],
    ids=["other chunks", "pipe", "big endian", "seek table"],
)
def test_parts_of_files_with_unusual_headers(tmp_path, make):
    source = make()
    assert len(read_audio(source, RATE_HZ)) == 100_000
    assert_parts_of_the_whole(source, [(0, 1), (40_000, 50_000), (99_999, 100_000)])
    # As in a TFRecord file.
    (tmp_path / "container").write_bytes(b"before" + source + b"after")
    place = AudioSource(tmp_path / "container", offset=6, length=len(source))
    assert_parts_of_the_whole(place, [(70_000, 80_000)])


def test_a_flac_with_a_false_seek_table_is_read_whole():
    source = flac_with_tags_and_seek_table(17)
    with soundfile.SoundFile(io.BytesIO(source)) as sound, pytest.raises(soundfile.SoundFileError):
        sound.seek(30_000)
    found = read_parts(source, [(30_000, 31_000)])
    np.testing.assert_array_equal(found, read_audio(source, RATE_HZ))


def assert_parts_refused_as_the_whole(source, parts):
    with pytest.raises(AudioError) as whole:
        read_audio(source, RATE_HZ)
    with pytest.raises(AudioError) as caught:
        read_parts(source, parts)
    assert str(caught.value) == str(whole.value)


@pytest.mark.parametrize(("format", "subtype", "channels"), SEEKABLE)
@pytest.mark.parametrize("left", [0.3, 0.7, 0.99, -3000])
def test_a_file_cut_short_is_known_wherever_its_parts_are(format, subtype, channels, left):
    whole = encoded(format, subtype, channels)
    cut = whole[: left if left < 0 else int(left * len(whole))]
    samples = read_audio(cut, RATE_HZ, remarks := [])
    assert remarks[0].is_cut
    for part in ([], [(0, 1000)], [(20_000, 25_000)], [(len(samples) - 1000, len(samples))]):
        assert_parts_refused_as_the_whole(cut, part)
        found = read_audio_parts(cut, RATE_HZ, lambda n, part=part: part, of_parts := [])
        for begin, end in part:
            np.testing.assert_array_equal(found[begin:end], samples[begin:end])
        assert len(found) == len(samples) and of_parts == remarks


def test_damage_is_refused_in_the_parts_and_not_seen_outside():
    flac = bytearray(encoded("FLAC", "PCM_16"))
    whole = read_audio(bytes(flac), RATE_HZ)
    middle = len(flac) // 2
    flac[middle] ^= 0x55
    source = bytes(flac)
    assert_parts_refused_as_the_whole(source, [(45_000, 55_000)])
    found = read_parts(source, [(10_000, 20_000), (80_000, 100_000)])
    np.testing.assert_array_equal(found[10_000:20_000], whole[10_000:20_000])
    np.testing.assert_array_equal(found[80_000:], whole[80_000:])


@pytest.mark.parametrize("bad", [text_file, not_finite, no_samples, too_loud])
def test_parts_are_refused_for_what_the_whole_is_refused_for(tmp_path, bad):
    source = bad(tmp_path)
    # `not_finite` is so at 97,000; `too_loud` has a thousand samples.
    parts = [(0, 500), (96_500, 97_500)] if bad is not too_loud else [(0, 500)]
    assert_parts_refused_as_the_whole(source, parts)


def test_infinite_samples(tmp_path):
    samples = noise(RATE_HZ)
    samples[RATE_HZ // 4 :: 1000] = np.inf
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert_refused(path, "a.wav", "not finite", "0.250 s")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x10", "cut short or no TFRecord file"),
        (b"this is no TFRecord file at all", "cut short or no TFRecord file"),
        (b"\x02" + bytes(11) + b"\x08\x01" + bytes(4), "record 1: wire type 0"),
        (b"\x02" + bytes(11) + b"\x0a\x50" + bytes(4), "record 1: a field reaches beyond"),
        (bytes(16), "recording_id and audio_wav. Record 1 lacks 'audio_wav'"),
    ],
)
def test_index_tfrec_refuses_other_files(tmp_path, content, reason):
    path = tmp_path / "00.tfrec"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        index_tfrec(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)


@pytest.mark.parametrize("name", ["rfcx-sample", "fieldmix"])
def test_real_recordings_are_one_minute(real_data, name):
    for path in list(find_recordings([real_data / name / "train"]).values())[:3]:
        samples = read_audio(path, RATE_HZ)
        assert len(samples) == 60 * RATE_HZ
        assert 0 < np.abs(samples).max() <= 1
