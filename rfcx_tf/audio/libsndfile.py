"""FLAC, WAV, OGG, MP3 and what else libsndfile knows, behind headers that are right."""

from __future__ import annotations

import io
import os
from contextlib import closing, suppress
from typing import BinaryIO

import numpy as np
import soundfile

from rfcx_tf.audio.headers.examine import examine
from rfcx_tf.core.errors import DecodingError

# In these a seek is exact to the sample, and the header's length is what there is to decode.
_SEEKABLE_FORMATS = ("FLAC", "WAV", "WAVEX", "RF64")
_SEEKABLE_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
# What may follow the sound of an MP3, in bytes.
_LARGEST_TAG = 1 << 14
# Years of sound. libsndfile says so of what it cannot count.
_MOST_FRAMES = 1 << 45
# Steps in which the sound before a damaged place is measured, in samples. A frame of FLAC has a
# multiple of the small one.
_STEPS = (1 << 16, 64)
# Samples of two frames of MP3, by which encoders and decoders count differently.
_MP3_ROUNDING = 2 * 1152


class SndfileSound:
    """See `OpenedSound`."""

    def __init__(self, stream: BinaryIO):
        """Reads the header; DecodingError if libsndfile does not know the format."""
        examined = examine(stream)
        promised, self._is_cut = examined.promised, examined.is_cut
        self._streams, self._last_stream = examined.parts, examined.parts[-1]
        self.damage, self._at = "", 0
        self._parts, self._part = [_open(examined.parts[0])], 0
        for part in examined.parts[1:]:
            try:
                self._parts.append(_open(part))
            except DecodingError:
                # The last one may be cut within its header.
                self._is_cut = True
        first = self._parts[0]
        self.rate_hz, self.channels = first.samplerate, first.channels
        if {(part.samplerate, part.channels) for part in self._parts[1:]} - {
            (self.rate_hz, self.channels)
        }:
            raise DecodingError("its parts differ in sample rate or channels")
        self.frames = sum(part.frames for part in self._parts)
        if self.frames > _MOST_FRAMES:
            raise DecodingError(f"its header counts {self.frames} samples")
        self.promised = None if promised is None else round(self.frames * promised)
        self.rounding = _MP3_ROUNDING if first.format == "MP3" else 0
        self.can_seek = (
            len(self._parts) == 1
            and first.format in _SEEKABLE_FORMATS
            and first.subtype in _SEEKABLE_SUBTYPES
            and self.frames > 0
        )

    @property
    def is_cut(self) -> bool | None:
        """See `OpenedSound`."""
        if self._is_cut or not self.rounding or self._parts[-1].tell() < self._parts[-1].frames:
            return self._is_cut
        # Of an MP3 whose tag counts too few frames libsndfile leaves the rest unheard.
        position = self._last_stream.tell()
        unheard = self._last_stream.seek(0, os.SEEK_END) - position
        self._last_stream.seek(position)
        return self._is_cut or unheard > _LARGEST_TAG

    def read(self, count: int) -> np.ndarray:
        """See `OpenedSound`."""
        wanted = self.frames if count < 0 else count
        found = [self._read_part(wanted)]
        while (
            (missing := wanted - sum(map(len, found)))
            and self._part + 1 < len(self._parts)
            and not self.damage
        ):
            self._part, self._at = self._part + 1, 0
            found.append(self._read_part(missing))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _read_part(self, count: int) -> np.ndarray:
        sound = self._parts[self._part]
        if self.damage:
            return np.zeros((0, self.channels), np.float32)
        try:
            samples = sound.read(count, dtype="float32", always_2d=True)
            self._at += len(samples)
            return samples
        except soundfile.LibsndfileError as error:
            self.damage = error.error_string.rstrip(".")
        # It does not say how much it read before that, and does not go on.
        sound.close()
        stream = self._streams[self._part]
        end = _good_samples(stream)
        sound = self._parts[self._part] = _open(stream)
        if end <= self._at:
            return np.zeros((0, self.channels), np.float32)
        _skip(sound, self._at)
        return sound.read(end - self._at, dtype="float32", always_2d=True)

    def seek(self, frame: int) -> None:
        """See `OpenedSound`."""
        self._part = 0
        while self._part + 1 < len(self._parts) and frame >= self._parts[self._part].frames:
            frame -= self._parts[self._part].frames
            self._part += 1
        try:
            for part in self._parts[self._part + 1 :]:
                part.seek(0)
            self._parts[self._part].seek(frame)
            self._at = frame
        except soundfile.LibsndfileError as error:
            raise DecodingError(error.error_string.rstrip(".")) from None

    def close(self) -> None:
        """See `OpenedSound`."""
        for part in self._parts:
            part.close()


def _open(stream: BinaryIO) -> soundfile.SoundFile:
    stream.seek(0)
    try:
        # libsndfile reads a file by itself; from a Python stream it would take the interpreter's
        # lock for every few kilobytes, and other threads would wait.
        file = stream.fileno() if isinstance(stream, io.FileIO) else stream
        return soundfile.SoundFile(file, closefd=False)
    except soundfile.LibsndfileError as error:
        raise DecodingError(error.error_string.rstrip(".")) from None


def _good_samples(stream: BinaryIO) -> int:
    """Samples that can be decoded before the damaged place of a stream."""
    good = 0
    for step in _STEPS:
        with closing(_open(stream)) as sound:
            _skip(sound, good)
            with suppress(soundfile.LibsndfileError):
                while len(sound.read(step)) == step:
                    good += step
    return good


def _skip(sound: soundfile.SoundFile, count: int) -> None:
    """Decodes so many samples: a seek may fall into what is damaged."""
    while count > 0:
        count -= len(sound.read(min(count, _STEPS[0])))
