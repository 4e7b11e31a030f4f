"""The bytes of WAV files -> mono waveforms [batch, samples], inside a TensorFlow graph.

A served model must read a recording without Python. `tf.audio.decode_wav` takes 16 bits only, and
neither the extended header that often comes with 24 bits nor a chunk of odd length. So this module
walks through the chunks with `tf.strings.substr` and `tf.io.decode_raw`.

A WAV file is `RIFF`, 4 bytes, `WAVE`, and chunks: four letters, a length as uint32, so many bytes,
and one more where the length is odd. Numbers are little-endian. Reference: Microsoft, "Multiple
Channel Audio Data and WAVE Files" (2007).
"""

from __future__ import annotations

import tensorflow as tf

from rfcx_tf.audio.decode import HIGHEST_PEAK
from rfcx_tf.audio.libsndfile import WAV_LENGTH_UNKNOWN

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


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
    files = tf.reshape(files, [-1])
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


def check(condition: tf.Tensor, message: str, *found: tf.Tensor) -> None:
    """Stops the running graph with a message and what was found, unless the condition holds.

    XLA leaves checks out: what it compiles cannot stop.
    """
    tf.debugging.Assert(condition, [message, *found])


def _decode_wav(file: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """One file, string [] -> float32 [samples].

    A check does not keep other operations from running, and the first to fail gives the message.
    So nothing here fails at bytes that a check refuses.
    """
    is_wav = tf.logical_and(_bytes(file, 0, 4) == b"RIFF", _bytes(file, 8, 4) == b"WAVE")
    check(is_wav, "A recording must be a WAV file. Found something else, of bytes:", _size(file))
    header, begin, length = _find_chunks(file)
    check(
        header > 0, "A WAV file must say what it holds. Found no chunk `fmt ` before the samples."
    )
    check(begin > 0, "A WAV file must hold samples. Found no chunk `data`.")
    there = _size(file) - begin
    check(
        tf.logical_or(length <= there, length >= WAV_LENGTH_UNKNOWN),
        "A WAV file must be whole. Found one cut short: bytes of samples there, and promised:",
        there,
        length,
    )
    coding, channels = _number(file, header, 2), _number(file, header + 2, 2)
    rate_hz, bits = _number(file, header + 4, 4), _number(file, header + 14, 2)
    # The extended header says the coding at the beginning of a GUID.
    coding = tf.where(coding == _EXTENSIBLE, _number(file, header + 24, 2), coding)
    check(
        rate_hz == sample_rate_hz,
        f"A recording must be sampled at {sample_rate_hz} Hz. Resample it. Found Hz:",
        rate_hz,
    )
    check(channels > 0, "A WAV file must have channels. Found:", channels)
    channels = tf.maximum(channels, 1)
    frame = tf.maximum(channels * bits // 8, 1)
    # libsndfile too leaves out a last frame that is not whole.
    data = _bytes(file, begin, tf.minimum(length, there) // frame * frame)
    samples = tf.reshape(_decode_samples(data, coding, bits), [-1, channels])
    waveform = tf.reduce_mean(samples, axis=1)
    check_waveform(waveform)
    return tf.clip_by_value(waveform, -1.0, 1.0)


def _find_chunks(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the bytes of `fmt ` and of `data` begin (0: nowhere), and the length of `data`.

    The search ends at `data`: `fmt ` must come first.
    """

    def step(at, header, begin, _):
        name, length, inside = _bytes(file, at, 4), _number(file, at + 4, 4), at + 8
        header = tf.where(name == b"fmt ", inside, header)
        begin = tf.where(name == b"data", inside, begin)
        return inside + length + length % 2, header, begin, length

    nowhere = tf.constant(0, tf.int64)
    _, header, begin, length = tf.while_loop(
        lambda at, header, begin, length: tf.logical_and(begin == 0, at + 8 <= _size(file)),
        step,
        [tf.constant(12, tf.int64), nowhere, nowhere, nowhere],
    )
    return header, begin, length


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
