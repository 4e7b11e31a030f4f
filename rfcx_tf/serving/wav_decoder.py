"""The bytes of WAV files -> mono waveforms [batch, samples], inside a TensorFlow graph.

A served model must read a recording without Python. `tf.audio.decode_wav` takes 16 bits only, and
neither the extended header that often comes with 24 bits nor a chunk of odd length. So this module
walks through the chunks with `tf.strings.substr` and `tf.io.decode_raw`.

A WAV file is `RIFF`, 4 bytes, `WAVE`, and chunks: four letters, a length as uint32, so many bytes,
and one more where the length is odd. Numbers are little-endian. Reference: Microsoft, "Multiple
Channel Audio Data and WAVE Files" (2007).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from rfcx_tf.audio.channels import CANCELLED, EVERY, SILENT
from rfcx_tf.audio.decode import HIGHEST_PEAK
from rfcx_tf.audio.headers.wav import PLACEHOLDERS

# A step of the walk takes a tenth of a millisecond; files have ten chunks or fewer.
MAX_CHUNKS = 100
# Of one request. Every one of them is filled up to a window, however short it is.
MAX_RECORDINGS = 64

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")


def decode_wav_batch(files: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Waveforms of WAV files that are equally long.

    Integers of 8, 16, 24 or 32 bits and floats of 32 or 64; any number of channels.

    Args:
        files: their bytes, string [] or [batch].
        sample_rate_hz: the rate that they must have.

    Returns:
        float32 [batch, samples] in [-1, 1]: like `rfcx_tf.audio.decode.read_audio`, the mean of
        the channels, clipped to full scale.

    Raises:
        InvalidArgumentError: when the graph runs, if there is no file, the files differ in length,
            or one is no WAV, is cut short, or has another rate or coding or samples that
            `check_waveform` refuses.
    """
    files = check_number(tf.reshape(files, [-1]))
    check(tf.size(files) > 0, "A request must hold a WAV file. Found files:", tf.size(files))
    # Ragged, since only after decoding is it known whether the lengths agree.
    waveforms = tf.map_fn(
        lambda file: _decode_wav(file, sample_rate_hz),
        files,
        fn_output_signature=tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
    )
    lengths = waveforms.row_lengths()
    check(
        tf.reduce_min(lengths) == tf.reduce_max(lengths),
        "Recordings of one request must be equally long. Send each by itself. Found samples:",
        lengths,
    )
    return waveforms.to_tensor()


def check_waveform(waveform: tf.Tensor) -> None:
    """Stops the running graph at a waveform that cannot be scored.

    Raises:
        InvalidArgumentError: when the graph runs, if there is no sample, or one that is not
            finite or so large that the scale is not +-1.
    """
    check(
        tf.size(waveform) > 0,
        "A waveform must have at least one sample. Found shape:",
        tf.shape(waveform),
    )
    # `a <= NaN` is false, but its negation is too: TensorFlow rewrites `~(a <= b)` as `a > b`.
    usable = tf.math.count_nonzero(tf.abs(waveform) <= HIGHEST_PEAK)
    unusable = tf.size(waveform, tf.int64) - usable
    check(
        unusable == 0,
        "Samples must be finite and scaled to +-1. Found others, so many:",
        unusable,
    )


def check_number(recordings: tf.Tensor) -> tf.Tensor:
    """The recordings [batch, ...] of a request, which stop the graph where they are too many.

    Other operations wait for it, since they could ask for any amount of memory.

    Raises:
        InvalidArgumentError: when the graph runs, if there are more than `MAX_RECORDINGS`.
    """
    number = tf.shape(recordings)[0]
    message = f"A request may hold {MAX_RECORDINGS} recordings. Found:"
    with tf.control_dependencies([check(number <= MAX_RECORDINGS, message, number)]):
        return tf.identity(recordings)


def check(condition: tf.Tensor, message: str, *found: tf.Tensor) -> tf.Operation | None:
    """Stops the running graph with a message and what was found, unless the condition holds.

    XLA leaves checks out: what it compiles cannot stop.
    """
    return tf.debugging.Assert(condition, [message, *found])


def _decode_wav(file: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """One file, string [] -> float32 [samples].

    A check keeps only those operations from running that `_after` has wait for it, and the first
    to fail gives the message. So nothing else here fails at bytes that a check refuses.
    """
    is_wav = tf.logical_and(_bytes(file, 0, 4) == b"RIFF", _bytes(file, 8, 4) == b"WAVE")
    file = _after(
        file,
        check(
            is_wav, "A recording must be a WAV file. Found something else, of bytes:", _size(file)
        ),
    )
    chunks = _walk(file)
    header, begin, length = chunks.header, chunks.begin, chunks.length
    # Behind samples that a header does not count comes no chunk, or one beyond the end.
    file = _after(
        file,
        check(
            tf.logical_and(
                chunks.end >= _size(file),
                # One that is cut short is no chunk, but for the samples.
                tf.logical_or(
                    chunks.end <= _size(file) + 1, chunks.begin + chunks.length > _size(file)
                ),
            ),
            f"A WAV file must be chunks from its header to its end, at most {MAX_CHUNKS}. Found "
            "bytes that are none, from byte:",
            chunks.end,
        ),
    )
    there = _size(file) - begin
    unknown = [tf.logical_and(length >= s.start, length < s.stop) for s in PLACEHOLDERS]
    cut = tf.logical_and(length > there, tf.logical_not(tf.reduce_any(unknown)))
    file = _after(
        file,
        check(
            header > 0,
            "A WAV file must say what it holds. Found no chunk `fmt ` before the samples.",
        ),
        check(begin > 0, "A WAV file must hold samples. Found no chunk `data`."),
        check(
            tf.logical_not(cut),
            "A WAV file must be whole. Found one cut short: bytes of samples there, and promised:",
            there,
            length,
        ),
        check(
            tf.logical_and(chunks.headers <= 1, chunks.data <= 1),
            "A WAV file must have one chunk `fmt ` and one `data`. Found more.",
        ),
        check(
            tf.logical_or(chunks.header_length >= 16, header == 0),
            "A WAV file's chunk `fmt ` must have 16 bytes. Found:",
            chunks.header_length,
        ),
    )
    coding, channels = _number(file, header, 2), _number(file, header + 2, 2)
    rate_hz, bits = _number(file, header + 4, 4), _number(file, header + 14, 2)
    # The extended header says the coding at the beginning of a GUID, the rest of which is fixed.
    extended = tf.logical_and(coding == _EXTENSIBLE, _bytes(file, header + 26, 14) == _GUID)
    coding = tf.where(extended, _number(file, header + 24, 2), coding)
    check(
        rate_hz == sample_rate_hz,
        f"A recording must be sampled at {sample_rate_hz} Hz. Resample it. Found Hz:",
        rate_hz,
    )
    check(
        tf.logical_and(channels > 0, channels <= 64),
        "A WAV file must have 1 to 64 channels. Found:",
        channels,
    )
    channels = tf.maximum(channels, 1)
    frame = tf.maximum(channels * bits // 8, 1)
    # libsndfile too leaves out a last frame that is not whole.
    data = _bytes(file, begin, tf.minimum(length, there) // frame * frame)
    samples = tf.reshape(_decode_samples(data, coding, bits), [-1, channels])
    _check_channels(samples, sample_rate_hz)
    waveform = tf.reduce_mean(samples, axis=1)
    check_waveform(waveform)
    return tf.clip_by_value(waveform, -1.0, 1.0)


def _check_channels(samples: tf.Tensor, rate_hz: int) -> None:
    """Stops the graph where the mean of the channels [samples, channels] is silence.

    `rfcx_tf.audio.channels` then takes one of them, and judges second by second, as here.
    """
    number = tf.shape(samples)[0]
    seconds = -(-number // rate_hz)
    padded = tf.pad(samples, [[0, seconds * rate_hz - number], [0, 0]])
    parts = tf.reshape(padded, [seconds, rate_hz, tf.shape(samples)[1]])[:, ::EVERY]
    # Sums instead of means, since the last second may be shorter.
    parts = tf.cast(parts, tf.float64)
    of_channels = tf.reduce_max(tf.reduce_sum(tf.square(parts), axis=1), axis=1)
    of_mean = tf.reduce_sum(tf.square(tf.reduce_mean(parts, axis=2)), axis=1)
    lengths = tf.minimum(number - tf.range(seconds) * rate_hz, rate_hz)
    silent = SILENT * tf.cast(-(-lengths // EVERY), tf.float64)
    cancels = tf.logical_and(of_channels > silent, of_mean < CANCELLED * of_channels)
    cancels = tf.logical_and(cancels, lengths > rate_hz // 10)
    check(
        tf.logical_not(tf.reduce_any(cancels)),
        "Channels must not cancel each other, as with a plug wired the wrong way round. "
        "Send one of them. Found seconds of silence in their mean:",
        tf.math.count_nonzero(cancels),
    )


def _after(file: tf.Tensor, *checks: tf.Operation | None) -> tf.Tensor:
    """The file, for operations that wait for these checks."""
    with tf.control_dependencies(checks):
        return tf.identity(file)


class _Chunks(NamedTuple):
    """What lies where in a file, int64 [] each, in bytes from its begin; 0 for what is not there.

    Attributes:
        end: where the walk ended, which is beyond the file where the last chunk is cut.
        number: chunks.
        header, header_length: of what is in the `fmt ` before the samples.
        begin, length: of the samples.
        headers, data: chunks called `fmt ` and `data`.
    """

    end: tf.Tensor
    number: tf.Tensor
    header: tf.Tensor
    header_length: tf.Tensor
    begin: tf.Tensor
    length: tf.Tensor
    headers: tf.Tensor
    data: tf.Tensor


def _walk(file: tf.Tensor) -> _Chunks:
    """Goes from chunk to chunk, to the end of the file or `MAX_CHUNKS`."""

    def step(chunks: _Chunks) -> tuple[_Chunks]:
        name, length = _bytes(file, chunks.end, 4), _number(file, chunks.end + 4, 4)
        inside = chunks.end + 8
        is_header, is_data = name == b"fmt ", name == b"data"
        is_first_header = tf.logical_and(is_header, chunks.begin == 0)
        is_first_data = tf.logical_and(is_data, chunks.begin == 0)
        return (
            _Chunks(
                end=inside + length + length % 2,
                number=chunks.number + 1,
                header=tf.where(is_first_header, inside, chunks.header),
                header_length=tf.where(is_first_header, length, chunks.header_length),
                begin=tf.where(is_first_data, inside, chunks.begin),
                length=tf.where(is_first_data, length, chunks.length),
                headers=chunks.headers + tf.cast(is_header, tf.int64),
                data=chunks.data + tf.cast(is_data, tf.int64),
            ),
        )

    start = _Chunks(*(tf.constant(12 if k == 0 else 0, tf.int64) for k in range(8)))

    def goes_on(chunks: _Chunks) -> tf.Tensor:
        letters = tf.io.decode_raw(_bytes(file, chunks.end, 4), tf.uint8)
        printable = tf.reduce_all(tf.logical_and(letters >= 32, letters < 127))
        more = tf.logical_and(chunks.end + 8 <= _size(file), chunks.number < MAX_CHUNKS)
        return tf.logical_and(more, printable)

    (chunks,) = tf.while_loop(
        goes_on,
        step,
        [start],
    )
    return chunks


def _decode_samples(data: tf.Tensor, coding: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Bytes, string [] -> float32 [samples of all channels], full scale 1."""

    def integers(kind: tf.DType, zero: float, scale: float):
        return lambda: (tf.cast(tf.io.decode_raw(data, kind), tf.float32) - zero) / scale

    def integers_of_24_bits():
        parts = tf.cast(tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3]), tf.int32)
        unsigned = tf.reduce_sum(parts * [1, 1 << 8, 1 << 16], axis=1)
        signed = tf.where(unsigned < 1 << 23, unsigned, unsigned - (1 << 24))
        return tf.cast(signed, tf.float32) / 2.0**23

    readers = {
        (_PCM, 8): integers(tf.uint8, 128.0, 2.0**7),
        (_PCM, 16): integers(tf.int16, 0.0, 2.0**15),
        (_PCM, 24): integers_of_24_bits,
        (_PCM, 32): integers(tf.int32, 0.0, 2.0**31),
        (_FLOAT, 32): integers(tf.float32, 0.0, 1.0),
        (_FLOAT, 64): integers(tf.float64, 0.0, 1.0),
    }
    matches = [tf.logical_and(coding == c, bits == b) for c, b in readers]
    check(
        tf.reduce_any(matches),
        "A WAV file must hold integers (1) of 8 to 32 bits or floats (3) of 32 or 64. "
        "Convert it. Found coding and bits:",
        coding,
        bits,
    )
    return tf.case(list(zip(matches, readers.values(), strict=True)), default=lambda: tf.zeros([0]))


def _size(file: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(file), tf.int64)


def _bytes(file: tf.Tensor, at: int | tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
    """A piece of a file, shorter where the file ends."""
    at = tf.minimum(tf.cast(at, tf.int64), _size(file))
    return tf.strings.substr(file, at, tf.cast(length, tf.int64))


def _number(file: tf.Tensor, at: tf.Tensor, length: int) -> tf.Tensor:
    """An unsigned integer of so many bytes, as int64."""
    digits = tf.cast(tf.io.decode_raw(_bytes(file, at, length), tf.uint8), tf.int64)
    return tf.reduce_sum(digits * 256 ** tf.range(tf.size(digits, tf.int64)))
