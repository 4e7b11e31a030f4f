"""Files whose headers say something else than what is there: all that is there is heard.

The lies are made by hand, byte by byte. What must be heard is what was written, or what other
programs (flac, SoX, where they are installed) decode.
"""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from rfcx_tf.audio.decode import AudioError, decode_blocks, duration_s, read_audio, read_audio_parts

RATE_HZ = 24000
SOUND = np.random.default_rng(5).integers(-9000, 9000, 5 * RATE_HZ).astype("<i2")
PCM = SOUND.tobytes()
SIZE = len(PCM)
FMT = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
METADATA = (
    b"LIST" + struct.pack("<I", 14) + b"INFOICMT" + struct.pack("<I", 2) + b"x\0"
    b"guan" + struct.pack("<I", 19) + b"GUANO|Version: 1.0\n" + b"\0"
)


def wav(size=SIZE, *, pcm=PCM, riff_size=None, before=b"", behind=b"", fmt=FMT, ds64=None):
    form = b"RIFF" if ds64 is None else b"RF64"
    head = b"WAVE" + (b"" if ds64 is None else b"ds64" + struct.pack("<IQQQI", 28, *ds64, 0))
    head += b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    body = head + b"data" + struct.pack("<I", size) + pcm + behind
    return form + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def heard(source):
    remarks = []
    samples = read_audio(source, RATE_HZ, remarks)
    return samples, remarks


def assert_all_is_heard(source, told, sound=SOUND):
    """Every sample, whole, in blocks and in parts; what is told has these words, or is nothing."""
    samples, remarks = heard(source)
    np.testing.assert_array_equal(samples, sound / np.float32(32768))
    assert [told in remark.text for remark in remarks] == ([True] if told else [])
    assert not any(remark.is_cut for remark in remarks)
    of_blocks, of_parts = [], []
    blocks = [b[RATE_HZ] for b in decode_blocks(source, [RATE_HZ], 0.7, of_blocks)]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)
    parts = read_audio_parts(source, RATE_HZ, lambda n: [(n - 500, n)], of_parts)
    np.testing.assert_array_equal(parts[-500:], samples[-500:])
    assert of_blocks == of_parts == remarks
    assert duration_s(source) == len(sound) / RATE_HZ


@pytest.mark.parametrize("size", [0, 1, 2, 44, 1000, len(PCM) // 2, len(PCM) - 20])
def test_a_size_that_is_too_small(size):
    assert_all_is_heard(wav(size, riff_size=36 + size), f"counts {size // 2} samples, 120000 are")


@pytest.mark.parametrize("behind", [44, 36, 8])
def test_a_size_that_counts_the_header(behind):
    source = wav(len(PCM) + behind, riff_size=len(PCM) + 44)
    assert_all_is_heard(source, f"counts {120000 + behind // 2} samples, 120000 are")


def test_a_size_that_counts_a_long_header():
    before = b"LIST" + struct.pack("<I", 436) + b"INFO" + bytes(432)
    assert_all_is_heard(wav(len(PCM) + 488, before=before), "counts 120244 samples")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_size_that_means_unknown(size):
    assert_all_is_heard(wav(size), "" if size == 0xFFFFFFFF else "120000 are there")


@pytest.mark.parametrize("size", [0xB2D05E00, 0x7FFF0000, 4 * len(PCM), len(PCM) + 200])
def test_a_file_cut_short_says_so_however_long_it_was_to_be(size):
    source = wav(size)
    samples, (remark,) = heard(source)
    assert len(samples) == len(SOUND)
    assert remark.is_cut and f"cut short at 5.000 s of {size / 2 / RATE_HZ:.3f} s" in remark.text
    with pytest.raises(AudioError, match="cut short"):
        read_audio(source, RATE_HZ)


@pytest.mark.parametrize("size_of", [len(PCM), 0])
def test_what_lies_behind_the_samples_is_not_heard(size_of):
    if size_of:
        assert_all_is_heard(wav(behind=METADATA), "")
        # Without the byte behind an odd size, cut short, and after the zeros of a cluster.
        assert_all_is_heard(wav(behind=METADATA[:-1] + METADATA), "")
        assert_all_is_heard(wav(behind=METADATA[:-6]), "")
        assert_all_is_heard(wav(behind=bytes(4096)), "")
        assert_all_is_heard(wav(behind=b"SensorUid=0 Temperature=21.5\r\n" * 9), "")
    else:
        for empty in (wav(0, pcm=b""), wav(0, pcm=b"", behind=METADATA), wav(900, pcm=b"")):
            with pytest.raises(AudioError, match="no samples") as caught:
                read_audio(empty, RATE_HZ, [])
            assert "emove" not in str(caught.value)


def test_an_odd_chunk_before_the_samples():
    odd = b"guan" + struct.pack("<I", 19) + b"GUANO|Version: 1.0\n"
    for before in (odd, odd + b"\0"):
        assert_all_is_heard(wav(before=before), "")
        assert_all_is_heard(wav(0, before=before), "counts 0 samples")


def test_a_size_that_went_round_beyond_4_gib(tmp_path):
    path = tmp_path / "night.wav"
    with path.open("wb") as stream:
        stream.write(wav())
        stream.truncate(44 + (1 << 32) + len(PCM))
    seconds = (len(PCM) + (1 << 32)) / 2 / RATE_HZ
    assert duration_s(path) == seconds
    blocks = decode_blocks(path, [RATE_HZ], 10.0, [])
    first = next(blocks)[RATE_HZ]
    np.testing.assert_array_equal(first[: len(SOUND)], SOUND / np.float32(32768))
    assert len(first) == 10 * RATE_HZ
    last = (1 << 31) + len(SOUND)
    end = read_audio_parts(path, RATE_HZ, lambda n: [(last - 10, last)] * (n == last), told := [])
    assert len(end) == last
    assert f"counts 120000 samples, {last} are there" in told[0].text


@pytest.mark.parametrize("count", [len(SOUND), 0, 7, 2 * len(SOUND)])
def test_rf64_is_as_long_as_its_data(count):
    ds64 = (len(PCM) + 72, len(PCM), count)
    assert_all_is_heard(wav(0xFFFFFFFF, riff_size=0xFFFFFFFF, ds64=ds64), "")
    bw64 = b"BW64" + wav(0xFFFFFFFF, riff_size=0xFFFFFFFF, ds64=ds64)[4:]
    assert_all_is_heard(bw64, "")


def test_rf64_whose_size_is_wrong():
    too_small = wav(0xFFFFFFFF, riff_size=0xFFFFFFFF, ds64=(0, 0, 0))
    assert_all_is_heard(too_small, "counts 0 samples")
    too_large = wav(0xFFFFFFFF, riff_size=0xFFFFFFFF, ds64=(0, 3 * len(PCM), 0))
    samples, (remark,) = heard(too_large)
    assert len(samples) == len(SOUND) and remark.is_cut and "of 15.000 s" in remark.text


def test_big_endian_with_size_0():
    fmt = struct.pack(">HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    source = b"RIFX" + struct.pack(">I", 36) + b"WAVEfmt " + struct.pack(">I", 16) + fmt
    source += b"data" + bytes(4) + SOUND.astype(">i2").tobytes()
    assert_all_is_heard(source, "counts 0 samples")


@pytest.mark.parametrize(
    ("channels", "rate_hz"),
    [(1, 1), (1, 999), (1, 0), (1, 2_000_001), (1, 1 << 31), (0, 24000), (65, 24000)],
)
def test_impossible_headers_are_refused_in_one_line(channels, rate_hz):
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * rate_hz & 0xFFFFFFFF, 2 * channels, 16)
    for read in (read_audio, lambda s, r, m: read_audio_parts(s, r, lambda n: [], m)):
        with pytest.raises(AudioError) as caught:
            read(wav(fmt=fmt), RATE_HZ, [])
        text = str(caught.value)
        assert f"{rate_hz} Hz" in text and f"{channels} channel(s)" in text and "\n" not in text


def flac(**kwargs):
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, RATE_HZ, format="FLAC", subtype="PCM_16", **kwargs)
    return stream.getvalue()


def flac_that_counts(samples, data=None):
    # The last 36 bits before the 16-byte checksum in STREAMINFO count the samples.
    data = data or flac()
    assert int.from_bytes(flac()[22:26], "big") == len(SOUND)
    high = bytes([data[21] & 0xF0 | samples >> 32])
    return data[:21] + high + (samples & 0xFFFFFFFF).to_bytes(4, "big") + data[26:]


@pytest.mark.parametrize("times", [2, 3, 0.5, 1.0001, 0.999, 500_000])
def test_a_flac_that_counts_wrong(times):
    counted = round(times * len(SOUND))
    assert_all_is_heard(flac_that_counts(counted), f"counts {counted} samples, 120000 are")


def test_a_flac_that_does_not_count():
    assert_all_is_heard(flac_that_counts(0), "")


def test_a_flac_behind_and_before_tags_of_other_kinds():
    id3v2 = b"ID3\4\0\0" + bytes([0, 0, 2, 0]) + bytes(256)
    id3v1 = b"TAG" + bytes(125)
    assert_all_is_heard(id3v2 + flac(), "")
    assert_all_is_heard(flac_that_counts(7, flac() + id3v1), "counts 7 samples")
    assert_all_is_heard(flac_that_counts(7, flac() + bytes(5000)), "counts 7 samples")


@pytest.mark.parametrize("counted", [len(SOUND), 0, 10 * len(SOUND)])
@pytest.mark.parametrize("zeros", [0, 300_000])
def test_a_flac_cut_short_is_heard_up_to_its_last_whole_frame(counted, zeros):
    source = flac_that_counts(counted)[: len(flac()) // 2] + bytes(zeros)
    samples, (remark,) = heard(source)
    assert remark.is_cut and f"cut short at {len(samples) / RATE_HZ:.3f} s" in remark.text
    assert 2.3 * RATE_HZ < len(samples) <= 2.5 * RATE_HZ and len(samples) % 4096 == 0
    np.testing.assert_array_equal(samples, SOUND[: len(samples)] / np.float32(32768))


@pytest.mark.skipif(not shutil.which("flac"), reason="the program flac is not installed")
def test_flac_in_ogg(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav())
    command = ["flac", "--silent", "--ogg", "-o", tmp_path / "a.oga", tmp_path / "a.wav"]
    subprocess.run(command, check=True)
    assert_all_is_heard(tmp_path / "a.oga", "")
    cut = (tmp_path / "a.oga").read_bytes()
    samples, (remark,) = heard(cut[: len(cut) // 2])
    assert remark.is_cut and 2 * RATE_HZ < len(samples) < 2.6 * RATE_HZ
    np.testing.assert_array_equal(samples, SOUND[: len(samples)] / np.float32(32768))


def ogg_page(payload, flags, serial, number):
    """A page whose checksum is right: CRC-32, polynomial 0x04C11DB7, not reflected."""
    lacing = bytes([255] * (len(payload) // 255) + [len(payload) % 255])
    head = b"OggS\0" + struct.pack("<BQIII", flags, 0, serial, number, 0)
    page = bytearray(head + bytes([len(lacing)]) + lacing + payload)
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 1 << 31 else 0)) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", crc)
    return bytes(page)


def test_flac_in_ogg_made_by_hand():
    native = flac()
    first = b"\x7fFLAC\1\0\0\1" + native[:42]
    rest = [native[i : i + 20_000] for i in range(42, len(native), 20_000)]
    pages = [ogg_page(first, 2, 9, 0)]
    pages += [ogg_page(p, 4 * (p is rest[-1]), 9, n) for n, p in enumerate(rest, 1)]
    assert_all_is_heard(b"".join(pages), "")


def ogg(subtype="VORBIS", seconds=5):
    stream = io.BytesIO()
    sound = SOUND[: seconds * RATE_HZ]
    soundfile.write(stream, sound, RATE_HZ, format="OGG", subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize("subtypes", [("VORBIS", "VORBIS"), ("OPUS",) * 3, ("VORBIS", "OPUS")])
def test_chained_ogg_is_heard_link_by_link(subtypes):
    links = [ogg(subtype, n + 1) for n, subtype in enumerate(subtypes)]
    expected = np.concatenate(
        [np.clip(soundfile.read(io.BytesIO(link), dtype="float32")[0], -1, 1) for link in links]
    )
    samples, remarks = heard(b"".join(links))
    np.testing.assert_array_equal(samples, expected)
    assert remarks == []
    cut, (remark,) = heard(b"".join(links)[: -len(links[-1]) // 2])
    assert remark.is_cut and len(cut) >= sum(range(len(links))) * RATE_HZ


def test_one_ogg_twice_is_heard_twice():
    """Both links then have the same serial number."""
    samples, _ = heard(ogg() * 2)
    np.testing.assert_array_equal(samples, np.tile(heard(ogg())[0], 2))


def mp3(**kwargs):
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, RATE_HZ, format="MP3", **kwargs)
    return stream.getvalue()


PICTURE = (
    b"ID3\3\0\0"
    + bytes([0, 20, 0, 10])
    + bytes(np.tile(np.arange(256, dtype="u1"), 1281)[: 20 * 128 * 128 + 10])
)
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_mp3_between_tags(bitrate_mode):
    plain = mp3(bitrate_mode=bitrate_mode)
    expected, remarks = heard(plain)
    assert len(expected) == len(SOUND) and remarks == []
    small = b"ID3\4\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    ape = b"APETAGEX" + struct.pack("<III", 2000, 40_032, 0) + bytes(8)
    for tagged in (
        small + plain,
        PICTURE + plain,
        plain + ID3V1,
        small + PICTURE + plain + ID3V1,
        plain + bytes(40_000) + ape,
    ):
        samples, remarks = heard(tagged)
        np.testing.assert_array_equal(samples, expected)
        assert remarks == []
    cut, (remark,) = heard(PICTURE + plain[: len(plain) // 2] + ID3V1)
    assert remark.is_cut and ("of 5.0" in remark.text or "of 4.9" in remark.text)
    assert 2.4 * RATE_HZ < len(cut) < 2.6 * RATE_HZ
    np.testing.assert_allclose(cut[:50_000], expected[:50_000], atol=1e-5)


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_mp3_that_lacks_its_last_frame_is_whole_enough(bitrate_mode):
    whole = mp3(bitrate_mode=bitrate_mode)
    expected, _ = heard(whole)
    samples, remarks = heard(whole[: -len(whole) // 1000])
    assert len(samples) > len(expected) - 3 * 1152
    np.testing.assert_allclose(samples[:100_000], expected[:100_000], atol=1e-5)
    assert not any(remark.is_cut for remark in remarks)


def mp3_that_counts(times, size_times=1.0):
    data = bytearray(mp3(bitrate_mode="CONSTANT"))
    frames_at = data.find(b"Xing") + 8
    for at, factor in ((frames_at, times), (frames_at + 4, size_times)):
        (counted,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, round(factor * counted))
    return bytes(data)


@pytest.mark.parametrize(("times", "size_times"), [(2, 1), (0.5, 0.5), (0.1, 0.1)])
def test_mp3_that_counts_wrong(times, size_times):
    samples, (remark,) = heard(mp3_that_counts(times, size_times))
    assert abs(len(samples) - len(SOUND)) < 3 * 1152
    assert not remark.is_cut and "were used" in remark.text


def test_mp3_that_counts_too_few_frames_is_not_heard_in_silence():
    samples, (remark,) = heard(mp3_that_counts(0.2))
    assert remark.is_cut and len(samples) < len(SOUND) / 2


def test_two_mp3_behind_each_other_are_both_heard():
    samples, (remark,) = heard(mp3() * 2)
    assert abs(len(samples) - 2 * len(SOUND)) < 4 * 1152
    assert not remark.is_cut


@pytest.mark.skipif(not shutil.which("sox"), reason="the program sox is not installed")
def test_sox_hears_as_much(tmp_path):
    for name, data in {"a.mp3": PICTURE + mp3() + ID3V1, "b.ogg": ogg() + ogg("VORBIS", 3)}.items():
        (tmp_path / name).write_bytes(data)
        command = ["sox", tmp_path / name, "-t", "raw", "-e", "float", "-b", "32", "-"]
        done = subprocess.run(command, capture_output=True, check=True)
        samples, _ = heard(tmp_path / name)
        # SoX leaves the delay of encoder and decoder in.
        assert abs(len(samples) - len(done.stdout) // 4) < 6 * 1152


def test_gsm_is_heard():
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, RATE_HZ, format="WAV", subtype="GSM610")
    samples, remarks = heard(stream.getvalue())
    assert abs(len(samples) - len(SOUND)) <= 320 and remarks == []
    cut, (remark,) = heard(stream.getvalue()[: len(stream.getvalue()) // 2])
    assert remark.is_cut and abs(len(cut) - len(SOUND) / 2) <= 640


def test_an_ogg_without_a_page_in_its_middle_is_listed():
    pages = ogg().split(b"OggS")[1:]
    holed = b"".join(b"OggS" + page for page in pages[:4] + pages[5:])
    samples, (remark,) = heard(holed)
    assert remark.is_cut and "damaged or cut short" in remark.text and "of 5.000 s" in remark.text
    assert 3.5 * RATE_HZ < len(samples) < 4.6 * RATE_HZ


# Where the size of the samples stands behind a name, how it is written, and what it counts beside.
SIZES = {
    "AIFF": (b"SSND", 4, ">I", 8),
    "AU": (b".snd", 8, ">I", 0),
    "W64": (b"data\xf3\xac", 16, "<q", 24),
    "CAF": (b"data", 4, ">q", 4),
}


def other_kind(format, size):
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, RATE_HZ, format=format, subtype="PCM_16")
    name, behind, coding, beside = SIZES[format]
    data = bytearray(stream.getvalue())
    at = data.find(name) + behind
    assert struct.unpack_from(coding, data, at) == (SIZE + beside,)
    struct.pack_into(coding, data, at, size + beside)
    return bytes(data)


@pytest.mark.parametrize("format", SIZES)
def test_other_kinds_with_wrong_sizes(format):
    assert_all_is_heard(other_kind(format, SIZE), "")
    for size in (0, 1000, SIZE // 2, SIZE + 24):
        assert_all_is_heard(other_kind(format, size), f"counts {size // 2} samples, 120000 are")
    samples, (remark,) = heard(other_kind(format, 2 * SIZE))
    assert len(samples) == len(SOUND) and remark.is_cut and "of 10.000 s" in remark.text


def test_what_lies_behind_the_samples_of_aiff_and_caf_is_not_heard():
    name = b"NAME" + struct.pack(">I", 6) + b"a name"
    assert_all_is_heard(other_kind("AIFF", SIZE) + name, "")
    info = b"info" + struct.pack(">q", 4) + bytes(4)
    assert_all_is_heard(other_kind("CAF", SIZE) + info, "")
