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

from rfcx_tf.audio.channels import LOUDEST, MEAN, ChannelMixer, channel_power
from rfcx_tf.audio.decoders import OpenedSound, open_sound
from rfcx_tf.audio.other_kinds import BEGINNING_BYTES, how_to_convert, other_kind
from rfcx_tf.core.errors import DecodingError, UserError
from rfcx_tf.core.storage import StoredFile, as_path

_KINDS = "FLAC, MP3, OGG, WAV, AIFF, AU, CAF, W64"

# Samples of a float file may exceed full scale, but not by 18 dB: then its scale is not +-1.
HIGHEST_PEAK = 8.0

# Beyond these a header is damaged: bat detectors reach 500 kHz, arrays of microphones 64 channels.
_RATES_HZ, _CHANNELS = range(1_000, 2_000_001), range(1, 65)
# Encoders of lossy formats count a little more or less than decoders find.
_COUNTING = 0.002

# Length of the blocks in which the loudest channel is looked for.
_LOUDNESS_S = 10

# A seek costs as much as decoding a third of a second, so larger parts are not worth it.
_LARGEST_PARTS = 0.75


class AudioError(UserError):
    """A recording that cannot be used; the message is one line that names the file."""


@dataclass(frozen=True)
class SoundRemark:
    """What is to be said of a recording that was used.

    Attributes:
        text: one line that names the file.
        is_cut: whether sound is missing: the file was cut short or is damaged, and was used as far
            as it goes.
    """

    text: str
    is_cut: bool = False


@dataclass(frozen=True)
class AudioSource:
    """Where the encoded bytes of one recording are.

    Attributes:
        path: a sound file, also in a store, or a file that contains one.
        offset, length: the part of the file in bytes; length None: to its end.
        channel: what is listened to: `mean`, which gives way to the louder channel where it is
            silence; `loudest`, the one with the most power, for which the recording is decoded
            twice; or a channel's number, from 0.
    """

    path: Path | StoredFile
    offset: int = 0
    length: int | None = None
    channel: str = MEAN

    def open(self) -> BinaryIO:
        """A seekable stream over the encoded bytes; OSError where the file cannot be opened."""
        if isinstance(self.path, StoredFile):
            return self.path.fetch()
        if self.length is None and self.offset == 0:
            return self.path.open("rb", buffering=0)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return io.BytesIO(stream.read(-1 if self.length is None else self.length))

    def __str__(self) -> str:
        return f"{self.path} at byte {self.offset}" if self.offset else str(self.path)


def read_audio(
    source: AudioSource | Path | str | bytes,
    sample_rate_hz: int,
    remarks: list[SoundRemark] | None = None,
) -> np.ndarray:
    """Decodes a whole recording.

    Channels are averaged, unless the source says otherwise. Resampling (soxr, HQ) turns n samples
    into exactly floor(n * sample_rate_hz / file_rate_hz + 1/2). What then exceeds full scale
    (overshoot of lossy codecs and of the resampler, hot float files) is clipped.

    What decides is the sound that is there, whatever the header says of its length.

    Args:
        source: a FLAC, WAV, OGG or MP3 file, or its bytes.
        sample_rate_hz: rate of the result.
        remarks: takes what is to be said of the recording. None: one that was cut short or is
            damaged inside cannot be used, and nothing else is said.

    Returns:
        float32 [samples] in [-1, 1].

    Raises:
        AudioError: where the file is missing, unreadable, empty, not audio, damaged from the first
            sample on, without samples, not finite, not scaled to +-1 or of an impossible sample
            rate, and without `remarks` where sound is missing.
    """
    # One item, but the checks that follow it must run too.
    ((samples, file_rate_hz),) = _decode(source, remarks)
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
    remarks: list[SoundRemark] | None = None,
) -> np.ndarray:
    """Decodes the wanted parts of a recording, and the rest only where that costs less.

    A FLAC or uncompressed WAV file at `sample_rate_hz` is sought through. All others, and those
    of which more than three quarters are wanted, are decoded whole.

    Args:
        source, sample_rate_hz, remarks: as for `read_audio`.
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
                samples = _sought_parts(sound, parts, source)
        if samples is not None:
            _compare_with_header(sound, sound.frames, _name(source), remarks)
    return read_audio(source, sample_rate_hz, remarks) if samples is None else samples


def decode_blocks(
    source: AudioSource | Path | str | bytes,
    sample_rates_hz: Sequence[int],
    block_s: float = 10.0,
    remarks: list[SoundRemark] | None = None,
) -> Iterator[dict[int, np.ndarray]]:
    """Decodes a recording of any length once, block by block, at one rate or several.

    Put together, the blocks are what `read_audio` gives: the same samples to the bit, except
    from MP3, whose decoder rounds the 24th binary digit differently after every block.

    Args:
        source, remarks: as for `read_audio`. What is to be said is known after the last block.
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
    for block, file_rate_hz in _decode(source, remarks, block_s):
        sound = all_rates(block, file_rate_hz, last=False)
        samples += len(sound[sample_rates_hz[0]])
        yield sound
    if resamplers:
        sound = all_rates(np.zeros(0, np.float32), file_rate_hz, last=True)
        samples += len(sound[sample_rates_hz[0]])
        yield sound
    if samples == 0:
        raise _no_samples(_name(source))


def duration_s(source: AudioSource | Path | str | bytes) -> float:
    """Seconds of sound in a recording, as far as that shows before it is decoded.

    It raises what `open_recording` raises.
    """
    with open_recording(source) as sound:
        return sound.frames / sound.rate_hz


def _decode(
    source: AudioSource | Path | str | bytes,
    remarks: list[SoundRemark] | None,
    block_s: float | None = None,
) -> Iterator[tuple[np.ndarray, int]]:
    """Checked mono samples [samples] float32 as in the file, and its rate in Hz.

    One item with everything, or one for about every `block_s`.
    """
    name, decoded, given = _name(source), 0, 0
    with open_recording(source) as sound:
        mixer = ChannelMixer(sound.rate_hz, _one_channel(source, sound))
        wanted = -1 if block_s is None else max(1, round(block_s * sound.rate_hz))
        ended = False
        while not ended:
            try:
                block = sound.read(wanted)
            except MemoryError:
                raise AudioError(
                    f"The recording {name} does not fit into memory ({sound.frames} samples of "
                    f"{sound.channels} channel(s)). Cut it into shorter ones."
                ) from None
            decoded += len(block)
            if sound.damage and not decoded:
                raise AudioError(
                    f"The recording {name} is damaged from its first sample on ({sound.damage}). "
                    "Copy it again."
                )
            ended = block_s is None or len(block) < wanted
            samples = mixer.push(block)
            if ended:
                samples = (
                    np.concatenate([samples, rest]) if len(rest := mixer.finish()) else samples
                )
            _check_samples(samples, given / sound.rate_hz, sound.rate_hz, name)
            given += len(samples)
            if len(samples) or block_s is None:
                yield samples, sound.rate_hz
        _compare_with_header(sound, decoded, name, remarks)
    if mixer.taken is not None and remarks is not None:
        remarks.append(
            SoundRemark(
                f"The recording {name} has channels that cancel each other from "
                f"{mixer.taken_from_s} s on. Channel {mixer.taken} was taken instead of their "
                "mean. Choose another with --channel."
            )
        )


def _compare_with_header(
    sound: OpenedSound, decoded: int, name: str, remarks: list[SoundRemark] | None
) -> None:
    """THE place where what a header says meets what the decoder gave.

    Raises:
        AudioError: if sound is missing, and nobody takes remarks.
    """
    promised, rate_hz = sound.promised, sound.rate_hz
    is_cut, least = sound.is_cut, (1 - _COUNTING) * sound.frames - sound.rounding
    if is_cut or sound.damage or (is_cut is None and decoded < least):
        expected = max(promised or 0, sound.frames)
        of = f" of {expected / rate_hz:.3f} s" if expected > decoded else ""
        where = "is cut short at" if is_cut else "is damaged or cut short: there are"
        if sound.damage:
            where, of = "is damaged at", f"{of} ({sound.damage})"
        text = f"The recording {name} {where} {decoded / rate_hz:.3f} s{of}."
        if remarks is None:
            raise AudioError(f"{text} Copy it again.")
        used = "What is before it was used." if sound.damage else "What is there was used."
        remarks.append(SoundRemark(f"{text} {used}", is_cut=True))
    elif promised is not None and abs(promised - decoded) > sound.rounding and remarks is not None:
        remarks.append(
            SoundRemark(
                f"The recording {name} has another length than its header says. The header counts "
                f"{promised} samples, {decoded} are there ({decoded / rate_hz:.3f} s), and all "
                "were used."
            )
        )


def _one_channel(source: AudioSource | Path | str | bytes, sound: OpenedSound) -> int | None:
    """The channel that a source is listened to by; None: by the mean of all."""
    channel = source.channel if isinstance(source, AudioSource) else MEAN
    if channel == MEAN or (sound.channels == 1 and channel == LOUDEST):
        return None
    if channel == LOUDEST:
        power = np.zeros(sound.channels)
        with open_recording(source) as again:
            while len(block := again.read(_LOUDNESS_S * again.rate_hz)):
                power += len(block) * channel_power(block)
        return int(np.argmax(power))
    if int(channel) >= sound.channels:
        raise AudioError(
            f"The recording {_name(source)} must have a channel {channel}, counted from 0. "
            f"It has {sound.channels}. Choose another with --channel."
        )
    return int(channel)


def _resampled(samples: np.ndarray, from_hz: int, to_hz: int, name: str) -> np.ndarray:
    if from_hz != to_hz:
        samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    if len(samples) == 0:
        raise _no_samples(name)
    return np.clip(samples, -1.0, 1.0, out=samples)


def _sought_parts(
    sound: OpenedSound,
    parts: list[tuple[int, int]],
    source: AudioSource | Path | str | bytes,
) -> np.ndarray | None:
    """Parts of a recording with zeros around them, float32 [samples]; None: decode it whole.

    That is for whatever goes wrong: the whole says what is wrong with it. A FLAC whose seek
    table is false has nothing wrong but that.
    """
    try:
        channel = _one_channel(source, sound)
        samples = np.zeros(sound.frames, np.float32)
        # The last sample is there, or the file was cut short.
        for begin, end in [*parts, (sound.frames - 1, sound.frames)]:
            sound.seek(begin)
            block = sound.read(end - begin)
            if len(block) < end - begin:
                return None
            mixer = ChannelMixer(sound.rate_hz, channel)
            part = np.concatenate([mixer.push(block), mixer.finish()])
            if mixer.taken is not None:
                return None
            _check_samples(part, begin / sound.rate_hz, sound.rate_hz, _name(source))
            np.clip(part, -1.0, 1.0, out=samples[begin:end])
        return samples
    except (AudioError, DecodingError, MemoryError):
        return None


@contextmanager
def open_recording(source: AudioSource | Path | str | bytes) -> Iterator[OpenedSound]:
    """Opens a recording; AudioError if the file is missing, unreadable, empty or not audio."""
    name = _name(source)
    if isinstance(source, str | os.PathLike):
        source = AudioSource(as_path(source))
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open() as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                raise AudioError(f"The recording {name} is empty (0 bytes). Copy it again.")
            stream.seek(0)
            if other_kind(beginning := stream.read(BEGINNING_BYTES)):
                raise AudioError(f"The recording {how_to_convert(name, beginning)}")
            try:
                sound = open_sound(stream)
            except DecodingError as error:
                raise AudioError(
                    f"The recording {name} is not readable as {_KINDS}: "
                    f"it is something else, or badly damaged ({error})."
                ) from None
            with closing(sound):
                if sound.rate_hz not in _RATES_HZ or sound.channels not in _CHANNELS:
                    raise AudioError(
                        f"The recording {name} must have {_RATES_HZ[0]} to {_RATES_HZ[-1]} Hz and "
                        f"1 to {_CHANNELS[-1]} channels. Its header says {sound.rate_hz} Hz and "
                        f"{sound.channels} channel(s). Correct the header."
                    )
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
    return AudioError(
        f"The recording {name} has no samples: nothing, or next to nothing, is behind its header."
    )


def _name(source: AudioSource | Path | str | bytes) -> str:
    return "in memory" if isinstance(source, bytes) else str(source)
