"""Sound file -> mono float32 samples at the configured rate, whole, in parts or in blocks.

A recording is a file of its own or WAV bytes inside one of the competition's TFRecord files;
`AudioSource` names either, so that a worker process can read it without TensorFlow.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr

from rfcx_tf.audio.decoders import OpenedSound, open_sound
from rfcx_tf.core.errors import DecodingError, UserError

_KINDS = "FLAC, MP3, OGG, WAV, AIFF, AU, CAF, W64"

# Samples of a float file may exceed full scale, but not by 18 dB: then its scale is not +-1.
HIGHEST_PEAK = 8.0

# A seek costs as much as decoding a third of a second, so larger parts are not worth it.
_LARGEST_PARTS = 0.75


class AudioError(UserError):
    """A recording that cannot be used; the message is one line that names the file."""


@dataclass(frozen=True)
class AudioSource:
    """Where the encoded bytes of one recording are.

    Attributes:
        path: a sound file, or a file that contains one.
        offset, length: the part of the file in bytes; length None: to its end.
    """

    path: Path
    offset: int = 0
    length: int | None = None

    def open(self) -> BinaryIO:
        """A seekable stream over the encoded bytes; OSError where the file cannot be opened."""
        if self.length is None and self.offset == 0:
            return self.path.open("rb", buffering=0)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return io.BytesIO(stream.read(-1 if self.length is None else self.length))

    def __str__(self) -> str:
        return f"{self.path} at byte {self.offset}" if self.offset else str(self.path)


def read_audio(source: AudioSource | Path | str | bytes, sample_rate_hz: int) -> np.ndarray:
    """Decodes a whole recording.

    Channels are averaged. Resampling (soxr, HQ) turns n samples into exactly
    floor(n * sample_rate_hz / file_rate_hz + 1/2). What then exceeds full scale (overshoot of
    lossy codecs and of the resampler, hot float files) is clipped.

    Args:
        source: a FLAC, WAV, OGG or MP3 file, or its bytes.
        sample_rate_hz: rate of the result.

    Returns:
        float32 [samples] in [-1, 1].

    Raises:
        AudioError: where the file is missing, unreadable, empty, not audio, damaged, without
            samples, not finite or not scaled to +-1. Also where it was cut short, as far as
            it says how long it was: an MP3 without a Xing or Info tag does not.
    """
    # One item, but the checks that follow it must run too.
    ((samples, file_rate_hz),) = _decode(source)
    return _resampled(samples, file_rate_hz, sample_rate_hz, _name(source))


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Samples in memory [samples] as `read_audio` gives those of a file.

    Raises:
        AudioError: if there are none, or they are not finite or not scaled to +-1.
    """
    samples = np.array(samples, np.float32)
    _check_samples(samples, 0.0, from_hz, "in memory")
    return _resampled(samples, from_hz, to_hz, "in memory")


def read_audio_parts(
    source: AudioSource | Path | str | bytes,
    sample_rate_hz: int,
    parts_of: Callable[[int], list[tuple[int, int]]],
) -> np.ndarray:
    """Decodes the wanted parts of a recording, and the rest only where that costs less.

    A FLAC or uncompressed WAV file at `sample_rate_hz` is sought through. All others, and those
    of which more than three quarters are wanted, are decoded whole.

    Args:
        source, sample_rate_hz: as for `read_audio`.
        parts_of: takes the number of samples and gives the wanted parts: the first sample of each
            and the one after its last, within the recording, in any order.

    Returns:
        float32 [samples] of the whole recording: in the parts what `read_audio` gives, to the
        bit; elsewhere that or zeros.

    Raises:
        AudioError: as `read_audio`, but damage outside the parts does not show, unless the file
            was cut short.
    """
    with open_recording(source) as sound:
        samples = None
        if sound.can_seek and sound.rate_hz == sample_rate_hz:
            parts = parts_of(sound.frames)
            if sum(end - begin for begin, end in parts) <= _LARGEST_PARTS * sound.frames:
                samples = _sought_parts(sound, parts, _name(source))
    return read_audio(source, sample_rate_hz) if samples is None else samples


def decode_blocks(
    source: AudioSource | Path | str | bytes,
    sample_rates_hz: Sequence[int],
    block_s: float = 10.0,
) -> Iterator[dict[int, np.ndarray]]:
    """Decodes a recording of any length once, block by block, at one rate or several.

    Put together, the blocks are what `read_audio` gives: the same samples to the bit, except
    from MP3, whose decoder rounds the 24th binary digit differently after every block.

    Args:
        source: as for `read_audio`.
        sample_rates_hz: of the results.
        block_s: length of a block. The resampler holds some samples back, so that blocks may
            come out shorter, longer or empty.

    Yields:
        float32 [samples] in [-1, 1] by sample rate.

    Raises:
        AudioError: as `read_audio`, when the block with the defect is reached. That a file was
            cut short shows at its end.
    """
    resamplers: dict[int, soxr.ResampleStream] = {}
    samples = 0

    def all_rates(block: np.ndarray, file_rate_hz: int, last: bool) -> dict[int, np.ndarray]:
        resampled = {}
        for rate_hz in sample_rates_hz:
            own = block
            if file_rate_hz != rate_hz:
                if rate_hz not in resamplers:
                    resamplers[rate_hz] = soxr.ResampleStream(
                        file_rate_hz, rate_hz, 1, dtype="float32", quality="HQ"
                    )
                own = resamplers[rate_hz].resample_chunk(block, last=last)
            resampled[rate_hz] = np.clip(own, -1.0, 1.0)
        return resampled

    file_rate_hz = None
    for block, file_rate_hz in _decode(source, block_s):
        sound = all_rates(block, file_rate_hz, last=False)
        samples += len(sound[sample_rates_hz[0]])
        yield sound
    if resamplers:
        sound = all_rates(np.zeros(0, np.float32), file_rate_hz, last=True)
        samples += len(sound[sample_rates_hz[0]])
        yield sound
    if samples == 0:
        raise _no_samples(_name(source))


def header_duration_s(source: AudioSource | Path | str | bytes) -> float:
    """Seconds that a recording's header promises; the decoder's guess where it says nothing.

    It raises what `open_recording` raises.
    """
    with open_recording(source) as sound:
        return sound.frames / sound.rate_hz


def _decode(
    source: AudioSource | Path | str | bytes, block_s: float | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Checked mono samples [samples] float32 as in the file, and its rate in Hz.

    One item with everything, or one for every `block_s`.
    """
    name, decoded = _name(source), 0
    with open_recording(source) as sound:
        if not sound.says_length:
            # An encoder that writes into a pipe leaves a FLAC's length open.
            raise AudioError(
                f"The recording {name} does not say in its header how long it is "
                f"(found: {sound.frames} samples). Encode it again."
            )
        wanted = -1 if block_s is None else max(1, round(block_s * sound.rate_hz))
        while True:
            try:
                samples = sound.read(wanted)
            except DecodingError as error:
                raise AudioError(
                    f"The recording {name} is damaged or cut short ({error}). Copy it again."
                ) from None
            except MemoryError:
                raise AudioError(
                    f"The recording {name} does not fit into memory ({sound.frames} samples of "
                    f"{sound.channels} channel(s)). Cut it into shorter ones."
                ) from None
            _check_samples(samples, decoded / sound.rate_hz, sound.rate_hz, name)
            decoded += len(samples)
            ended = block_s is None or len(samples) < wanted
            if len(samples) or block_s is None:
                yield samples, sound.rate_hz
            if ended:
                break
        shortage = sound.shortage(decoded)
    if shortage:
        raise AudioError(f"The recording {name} is cut short: {shortage}. Copy or encode it again.")


def _resampled(samples: np.ndarray, from_hz: int, to_hz: int, name: str) -> np.ndarray:
    if from_hz != to_hz:
        samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    if len(samples) == 0:
        raise _no_samples(name)
    return np.clip(samples, -1.0, 1.0, out=samples)


def _sought_parts(sound: OpenedSound, parts: list[tuple[int, int]], name: str) -> np.ndarray | None:
    """Parts of a recording with zeros around them, float32 [samples]; None: decode it whole.

    That is for whatever goes wrong: the whole says what is wrong with it. A FLAC whose seek
    table is false has nothing wrong but that.
    """
    try:
        samples = np.zeros(sound.frames, np.float32)
        # The last sample is there, or the file was cut short.
        for begin, end in [*parts, (sound.frames - 1, sound.frames)]:
            sound.seek(begin)
            part = sound.read(end - begin)
            if len(part) < end - begin:
                return None
            _check_samples(part, begin / sound.rate_hz, sound.rate_hz, name)
            np.clip(part, -1.0, 1.0, out=samples[begin:end])
        return None if sound.shortage(sound.frames) else samples
    except (AudioError, DecodingError, MemoryError):
        return None


@contextmanager
def open_recording(source: AudioSource | Path | str | bytes) -> Iterator[OpenedSound]:
    """Opens a recording; AudioError if the file is missing, unreadable, empty or not audio."""
    name = _name(source)
    if isinstance(source, str | Path):
        source = AudioSource(Path(source))
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open() as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                raise AudioError(
                    f"The recording {name} is empty (0 bytes). Copy it again or remove it."
                )
            stream.seek(0)
            try:
                sound = open_sound(stream)
            except DecodingError:
                raise AudioError(
                    f"The recording {name} is not readable as {_KINDS}: "
                    "it is something else, or badly damaged."
                ) from None
            with closing(sound):
                yield sound
    except OSError as error:
        raise AudioError(f"The recording {name} cannot be read: {error.strerror}.") from None


def _check_samples(samples: np.ndarray, begin_s: float, rate_hz: int, name: str) -> None:
    """Raises AudioError for samples [samples] that no sound has.

    They begin `begin_s` into the recording.
    """
    # Without a copy of the recording. A NaN is the highest and the lowest.
    peak = max(samples.max(initial=0.0), -samples.min(initial=0.0))
    if not np.isfinite(peak):
        first_s = begin_s + np.argmin(np.isfinite(samples)) / rate_hz
        raise AudioError(
            f"The recording {name} has samples that are not finite: "
            f"the first at {first_s:.3f} s. Export it again."
        )
    if peak > HIGHEST_PEAK:
        raise AudioError(
            f"The recording {name} must have samples within +-1. "
            f"Received: a peak of {peak:g}. Scale it to full scale 1."
        )


def _no_samples(name: str) -> AudioError:
    return AudioError(f"The recording {name} has no samples. Remove it.")


def _name(source: AudioSource | Path | str | bytes) -> str:
    return "in memory" if isinstance(source, bytes) else str(source)
