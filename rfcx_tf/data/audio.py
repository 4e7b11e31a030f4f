"""Sound file -> mono float32 samples at the configured rate; the only decoder.

A recording is a file of its own or WAV bytes inside one of the competition's TFRecord files;
`AudioSource` names either, so that a worker process can read it without TensorFlow.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from rfcx_tf.errors import InputError

AUDIO_EXTENSIONS = (".flac", ".mp3", ".ogg", ".wav")

# Samples of a float file may exceed full scale, but not by 18 dB: then its scale is not +-1.
_HIGHEST_PEAK = 8.0

# What may follow the sound of an MP3, in bytes; libsndfile stops where it guessed the end.
_LARGEST_TAG = 1 << 14

# In a FLAC without its length libsndfile finds the largest number that it can count to.
_LENGTH_UNKNOWN = 1 << 62

# libsndfile decodes a WAV or OGG that was cut short without complaint; only its log tells.
_WAV_DATA_CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_RF64_DATA_CUT = "does not match value from 'ds64' chunk"
_OGG_CUT = "Last page lacks an end-of-stream bit"
# FLAC, OGG, MP3 with an ID3v2 tag, and the three kinds of WAV.
_SOUND_BEGINS = re.compile(rb"fLaC|OggS|ID3|(RIFF|RIFX|RF64)....WAVE", re.DOTALL)
# Programs that write WAV into a pipe put this or more for "length unknown".
_WAV_LENGTH_UNKNOWN = 0x7FFFF000


class AudioError(InputError):
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
        stream = self.path.open("rb")
        if self.length is None and self.offset == 0:
            return stream
        with stream:
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
    if file_rate_hz != sample_rate_hz:
        samples = soxr.resample(samples, file_rate_hz, sample_rate_hz, quality="HQ")
    if len(samples) == 0:
        raise _no_samples(_name(source))
    return np.clip(samples, -1.0, 1.0, out=samples)


def read_audio_blocks(
    source: AudioSource | Path | str | bytes, sample_rate_hz: int, block_s: float = 10.0
) -> Iterator[np.ndarray]:
    """Decodes a recording of any length piece by piece, in the memory of a piece.

    Put together, the pieces are what `read_audio` gives: the same samples to the bit, except
    from MP3, whose decoder rounds the 24th binary digit differently after every piece.

    Args:
        source, sample_rate_hz: as for `read_audio`.
        block_s: length of a piece. The resampler holds some samples back, so that pieces may
            come out shorter, longer or empty.

    Yields:
        float32 [samples] in [-1, 1].

    Raises:
        AudioError: as `read_audio`, when the piece with the defect is reached. That a file was
            cut short shows at its end.
    """
    resampler, samples = None, 0
    for piece, file_rate_hz in _decode(source, block_s):
        if file_rate_hz != sample_rate_hz:
            resampler = resampler or soxr.ResampleStream(
                file_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ"
            )
            piece = resampler.resample_chunk(piece)
        samples += len(piece)
        yield np.clip(piece, -1.0, 1.0)
    if resampler:
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        samples += len(rest)
        yield np.clip(rest, -1.0, 1.0)
    if samples == 0:
        raise _no_samples(_name(source))


def header_duration_s(source: AudioSource | Path | str | bytes) -> float:
    """Seconds that a recording's header promises; libsndfile's guess where it says nothing.

    Raises:
        AudioError: where the file is missing, unreadable, empty or not audio.
    """
    with _open_sound(source) as (sound, _):
        return sound.frames / sound.samplerate


def _decode(
    source: AudioSource | Path | str | bytes, block_s: float | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Checked mono samples [samples] float32 as in the file, and its rate in Hz.

    One item with everything, or one for every `block_s`.
    """
    name, decoded = _name(source), 0
    with _open_sound(source) as (sound, stream):
        if sound.frames >= _LENGTH_UNKNOWN:
            # An encoder that writes into a pipe leaves a FLAC's length open.
            raise AudioError(
                f"The recording {name} does not say in its header how long it is "
                f"(found: {sound.frames} samples). Encode it again."
            )
        wanted = -1 if block_s is None else max(1, round(block_s * sound.samplerate))
        while True:
            try:
                channels = sound.read(wanted, dtype="float32", always_2d=True)
                samples = channels.mean(axis=1) if sound.channels > 1 else channels[:, 0]
            except soundfile.LibsndfileError as error:
                raise AudioError(
                    f"The recording {name} is damaged or cut short "
                    f"({error.error_string.rstrip('.')}). Copy it again."
                ) from None
            except MemoryError:
                raise AudioError(
                    f"The recording {name} does not fit into memory ({sound.frames} samples of "
                    f"{sound.channels} channel(s)). Cut it into shorter ones."
                ) from None
            _check_samples(samples, decoded / sound.samplerate, sound.samplerate, name)
            decoded += len(samples)
            ended = block_s is None or len(samples) < wanted
            if len(samples) or block_s is None:
                yield samples, sound.samplerate
            if ended:
                break
        shortage = _shortage(sound, stream, decoded)
    if shortage:
        raise AudioError(f"The recording {name} is cut short: {shortage}. Copy or encode it again.")


@contextmanager
def _open_sound(
    source: AudioSource | Path | str | bytes,
) -> Iterator[tuple[soundfile.SoundFile, BinaryIO]]:
    """An opened recording and the stream of encoded bytes that it reads from."""
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
                sound = soundfile.SoundFile(stream)
            except soundfile.LibsndfileError:
                raise AudioError(
                    f"The recording {name} is not readable as FLAC, WAV, OGG or MP3: "
                    "it is something else, or badly damaged."
                ) from None
            with sound:
                yield sound, stream
    except OSError as error:
        raise AudioError(f"The recording {name} cannot be read: {error.strerror}.") from None


def _check_samples(samples: np.ndarray, begin_s: float, rate_hz: int, name: str) -> None:
    """Refuses samples [samples], which begin so far into the recording, that no sound has."""
    # Without a copy of the recording. A NaN is the highest and the lowest.
    peak = max(samples.max(initial=0.0), -samples.min(initial=0.0))
    if not np.isfinite(peak):
        first_s = begin_s + np.argmin(np.isfinite(samples)) / rate_hz
        raise AudioError(
            f"The recording {name} has samples that are not finite: "
            f"the first at {first_s:.3f} s. Export it again."
        )
    if peak > _HIGHEST_PEAK:
        raise AudioError(
            f"The recording {name} must have samples within +-1. "
            f"Received: a peak of {peak:g}. Scale it to full scale 1."
        )


def _no_samples(name: str) -> AudioError:
    return AudioError(f"The recording {name} has no samples. Remove it.")


def _name(source: AudioSource | Path | str | bytes) -> str:
    return "in memory" if isinstance(source, bytes) else str(source)


def _shortage(sound: soundfile.SoundFile, stream: BinaryIO, decoded: int) -> str:
    """What shows that the file holds or once held more than was decoded; empty where nothing."""
    position = stream.tell()
    unread = stream.seek(0, os.SEEK_END) - position
    stream.seek(0)
    start = stream.read(1 << 16)
    # Without a Xing or Info tag the length of an MP3 is libsndfile's guess from the bit rate.
    length_is_known = sound.format != "MP3" or b"Xing" in start or b"Info" in start
    if decoded < sound.frames and length_is_known:
        return f"{decoded} of {sound.frames} samples are there"
    if not length_is_known and unread > _LARGEST_TAG:
        return (
            f"it does not say how long it is, and beyond the {decoded} samples that its bit rate "
            f"makes likely are {unread} bytes more"
        )
    log = sound.extra_info
    wav = _WAV_DATA_CUT.search(log)
    if wav and int(wav[1]) < _WAV_LENGTH_UNKNOWN:
        return f"{wav[2]} of {wav[1]} bytes of samples are there"
    if _RF64_DATA_CUT in log:
        return f"its header counts more samples than the {decoded} that are there"
    if _OGG_CUT in log:
        return "its last page is missing"
    return ""


def recording_id(path: Path) -> str:
    """The name of a recording: its file's name without the extension."""
    return path.stem


def find_recordings(paths: Iterable[Path | str]) -> list[Path]:
    """Lists the sound files among files and folders.

    Args:
        paths: files, and folders that are searched with their subfolders.

    Returns:
        Paths in sorted order; a file that is named twice comes once.

    Raises:
        InputError: for a path that does not exist or is no sound file, for paths without any
            recording, and for two files that would share a recording id.
    """
    paths = [Path(path) for path in paths]
    extensions = ", ".join(AUDIO_EXTENSIONS)
    found = []
    for path in paths:
        if path.is_dir():
            found += audio_files(path)
        elif _is_audio(path):
            found.append(path)
        elif path.exists():
            raise InputError(f"Recordings must be {extensions} files or folders. Received: {path}.")
        else:
            raise InputError(f"Recordings must exist. Not found: {path}.")
    if not found:
        places = ", ".join(map(str, paths)) or "nothing"
        raise InputError(f"No recording ({extensions}) was found. Searched: {places}.")
    once = {path.resolve(): path for path in found}
    return sorted(by_recording_id(once.values()).values())


def audio_files(folder: Path) -> list[Path]:
    """All sound files in a folder and its subfolders, sorted; may be empty."""
    return sorted(path for path in folder.rglob("*") if _is_audio(path))


def misnamed_recordings(folders: Iterable[Path | str]) -> list[Path]:
    """Files in folders and their subfolders that hold sound, by their first bytes, but whose
    names do not end like that of a sound file; sorted. A file among `folders` is passed over.
    """
    found = {
        path
        for folder in map(Path, folders)
        for path in folder.rglob("*")
        if path.suffix.lower() not in AUDIO_EXTENSIONS
        and not path.name.startswith(".")
        and path.is_file()
        and _begins_like_sound(path)
    }
    return sorted(found)


def by_recording_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by recording id; InputError where two share one."""
    by_id: dict[str, Path] = {}
    for path in paths:
        other = by_id.setdefault(recording_id(path), path)
        if other is not path:
            raise InputError(
                "Recordings must differ in their file names without extension. "
                f"Found {other} and {path}; rename or remove one."
            )
    return by_id


def _is_audio(path: Path) -> bool:
    # macOS leaves "._name.flac", which holds no sound, beside files on foreign disks.
    hidden = path.name.startswith(".")
    return path.suffix.lower() in AUDIO_EXTENSIONS and not hidden and path.is_file()


def _begins_like_sound(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(12)
    except OSError:
        return False
    return bool(_SOUND_BEGINS.match(start))
