"""WAV files in a graph, against libsndfile."""

import io
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.serving.wav_decoder import decode_wav_batch

RATE_HZ = 24000


@pytest.fixture(scope="module")
def decode():
    return tf.function(
        lambda files: decode_wav_batch(files, RATE_HZ), [tf.TensorSpec(None, tf.string)]
    )


def wav(samples, coding="PCM_16", form="WAV", rate_hz=RATE_HZ) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate_hz, coding, format=form)
    return stream.getvalue()


def noise(channels=1, samples=801):
    return np.random.default_rng(0).uniform(-1, 1, [samples, channels])


def with_length(content: bytes, length: int) -> bytes:
    """The chunk of samples says this length; the header has 44 bytes, as of PCM_16."""
    return content[:40] + struct.pack("<I", length) + content[44:]


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("coding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_codings_are_read_as_libsndfile_reads_them(decode, coding, form):
    for channels in (1, 2, 3):
        content = wav(noise(channels), coding, form)
        waveform = decode(content)
        assert waveform.shape == (1, 801)
        np.testing.assert_allclose(waveform[0], read_audio(content, RATE_HZ), atol=1e-7)


def test_chunks_that_are_not_needed_are_skipped(decode):
    content = wav(noise())
    expected = read_audio(content, RATE_HZ)
    before = content[:12] + b"bext" + struct.pack("<I", 6) + b"fmt da" + content[12:]
    odd = content[:36] + b"LIST" + struct.pack("<I", 5) + b"abcde\0" + content[36:]
    behind = content + b"LIST" + struct.pack("<I", 4) + b"data"
    for other in (before, odd, behind):
        np.testing.assert_array_equal(decode(other)[0], expected)


def test_a_file_may_have_a_hundred_chunks(decode):
    content = CONTENT[:36] + JUNK * 98 + CONTENT[36:]
    np.testing.assert_array_equal(decode(content), decode(CONTENT))


def test_a_length_that_is_unknown_means_to_the_end(decode):
    content = wav(noise())
    for length in (0xFFFFFFFF, 0x7FFFF000):
        np.testing.assert_array_equal(decode(with_length(content, length)), decode(content))


def test_several_files_of_one_length(decode):
    one, other = wav(noise(1)), wav(noise(2), "PCM_24")
    both = decode([one, other]).numpy()
    np.testing.assert_array_equal(both, [decode(one)[0], decode(other)[0]])
    assert (both[0] != both[1]).any()


def test_loud_samples_are_clipped(decode):
    content = wav(np.array([0.5, -1.5, 7.9]), "FLOAT")
    np.testing.assert_array_equal(decode(content), [[0.5, -1, 1]])


CONTENT = wav(noise())
WAVEX = wav(noise(), form="WAVEX")
JUNK = b"junk" + bytes(4)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (b"", "must be a WAV file. Found something else, of bytes:] [0]"),
        (b"fLaC" + bytes(60), "must be a WAV file. Found something else, of bytes:] [64]"),
        (CONTENT[:12], "must say what it holds. Found no chunk `fmt `"),
        (CONTENT[:12] + CONTENT[36:], "must say what it holds. Found no chunk `fmt `"),
        (CONTENT[:36], "must hold samples. Found no chunk `data`"),
        (CONTENT[:-100], "cut short: bytes of samples there, and promised:] [1502] [1602]"),
        (with_length(CONTENT, 3_000_000_000), "promised:] [1602] [3000000000]"),
        (wav(np.zeros([0, 1])), "must have at least one sample. Found shape:] [0]"),
        (with_length(CONTENT, 0), "bytes that are none, from byte:] [44]"),
        (with_length(CONTENT, 44), "bytes that are none, from byte:] [88]"),
        (CONTENT + b"junk\0", "bytes that are none, from byte:] [1646]"),
        (CONTENT[:36] + JUNK * 99 + CONTENT[36:], "at most 100. Found bytes that are none"),
        (CONTENT[:36] + CONTENT[12:], "one chunk `fmt ` and one `data`. Found more."),
        (CONTENT + CONTENT[36:], "one chunk `fmt ` and one `data`. Found more."),
        (
            CONTENT[:16] + b"\x0e" + CONTENT[17:34] + CONTENT[36:],
            "must have 16 bytes. Found:] [14]",
        ),
        (WAVEX.replace(b"\x10\0\x80", b"\x10\1\x80"), "Found coding and bits:] [65534] [16]"),
        (wav(noise(), rate_hz=48000), "at 24000 Hz. Resample it. Found Hz:] [48000]"),
        (wav(noise(), "ULAW"), "Convert it. Found coding and bits:] [7] [8]"),
        (wav(noise(), "IMA_ADPCM"), "Convert it. Found coding and bits:] [17] [4]"),
        (CONTENT[:22] + bytes(2) + CONTENT[24:], "1 to 64 channels. Found:] [0]"),
        (CONTENT[:34] + bytes(2) + CONTENT[36:], "Found coding and bits:] [1] [0]"),
        (wav(np.array([0, np.nan]), "FLOAT"), "Found others, so many:] [1]"),
        (wav(np.array([9.0, 9.0]), "DOUBLE"), "Found others, so many:] [2]"),
        ([CONTENT, wav(noise(1, 9))], "must be equally long. Send each by itself"),
        (CONTENT + b"LIST" + bytes([200, 0, 0, 0]), "bytes that are none, from byte:] [1854]"),
        (np.empty([0], object), "must hold a WAV file. Found files:] [0]"),
        ([CONTENT] * 65, "may hold 64 recordings. Found:] [65]"),
    ],
    # Not the bytes: libsndfile writes the time into a float WAV, and every worker has its own.
    ids=range(27),
)
def test_the_graph_says_what_is_wrong(decode, files, message):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(tf.constant(files, tf.string))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("second", "left", "cancels"),
    [
        (0, RATE_HZ, True),
        (2, RATE_HZ // 4, True),
        # Too few samples to tell.
        (2, RATE_HZ // 10, False),
    ],
)
def test_channels_that_cancel_each_other_are_refused(decode, second, left, cancels):
    """Where the reader of files takes another channel than the mean, and only there."""
    sound = noise(2, second * RATE_HZ + left)
    sound[second * RATE_HZ :, 1] = -0.9 * sound[second * RATE_HZ :, 0]
    content = wav(sound)
    if not cancels:
        np.testing.assert_allclose(decode(content)[0], sound.mean(axis=1), atol=1e-4)
        return
    whole = read_audio(content, RATE_HZ)
    np.testing.assert_allclose(whole[second * RATE_HZ :], sound[second * RATE_HZ :, 0], atol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must not cancel each other"):
        decode(content)
