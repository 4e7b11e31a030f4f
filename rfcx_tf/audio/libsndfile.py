"""FLAC, WAV, OGG and MP3 by libsndfile."""

from __future__ import annotations

import io
import os
import re
from typing import BinaryIO

import numpy as np
import soundfile

from rfcx_tf.core.errors import DecodingError

# What may follow the sound of an MP3, in bytes; libsndfile stops where it guessed the end.
_LARGEST_TAG = 1 << 14
# In a FLAC without its length libsndfile finds the largest number that it can count to.
_LENGTH_UNKNOWN = 1 << 62
# libsndfile decodes a WAV or OGG that was cut short without complaint; only its log tells.
_WAV_DATA_CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_RF64_DATA_CUT = "does not match value from 'ds64' chunk"
_OGG_CUT = "Last page lacks an end-of-stream bit"
# Programs that write WAV into a pipe put this or more for "length unknown".
WAV_LENGTH_UNKNOWN = 0x7FFFF000
# In these a seek is exact to the sample, and the header's length is what there is to decode.
_SEEKABLE_FORMATS = ("FLAC", "WAV", "WAVEX", "RF64")
_SEEKABLE_SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class SndfileSound:
    """See `OpenedSound`."""

    def __init__(self, stream: BinaryIO):
        """Reads the header; DecodingError if libsndfile does not know the format."""
        self._stream = stream
        try:
            # libsndfile reads a file by itself; from a Python stream it would take the
            # interpreter's lock for every few kilobytes, and other threads would wait.
            file = stream.fileno() if isinstance(stream, io.FileIO) else stream
            self._file = soundfile.SoundFile(file, closefd=False)
        except soundfile.LibsndfileError as error:
            raise DecodingError(error.error_string.rstrip(".")) from None
        self.frames = self._file.frames
        self.rate_hz = self._file.samplerate
        self.channels = self._file.channels
        self.says_length = self.frames < _LENGTH_UNKNOWN
        self.can_seek = (
            self._file.format in _SEEKABLE_FORMATS
            and self._file.subtype in _SEEKABLE_SUBTYPES
            and 0 < self.frames < _LENGTH_UNKNOWN
        )

    def read(self, count: int) -> np.ndarray:
        """See `OpenedSound`."""
        try:
            channels = self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise DecodingError(error.error_string.rstrip(".")) from None
        return channels.mean(axis=1) if self.channels > 1 else channels[:, 0]

    def seek(self, frame: int) -> None:
        """See `OpenedSound`."""
        try:
            self._file.seek(frame)
        except soundfile.LibsndfileError as error:
            raise DecodingError(error.error_string.rstrip(".")) from None

    def shortage(self, decoded: int) -> str:
        """See `OpenedSound`."""
        position = self._stream.tell()
        unread = self._stream.seek(0, os.SEEK_END) - position
        self._stream.seek(0)
        start = self._stream.read(1 << 16)
        # Without a Xing or Info tag the length of an MP3 is libsndfile's guess from the bit rate.
        length_is_known = self._file.format != "MP3" or b"Xing" in start or b"Info" in start
        if decoded < self.frames and length_is_known:
            return f"{decoded} of {self.frames} samples are there"
        if not length_is_known and unread > _LARGEST_TAG:
            return (
                f"it does not say how long it is, and beyond the {decoded} samples that its bit "
                f"rate makes likely are {unread} bytes more"
            )
        log = self._file.extra_info
        wav = _WAV_DATA_CUT.search(log)
        if wav and int(wav[1]) < WAV_LENGTH_UNKNOWN:
            return f"{wav[2]} of {wav[1]} bytes of samples are there"
        if _RF64_DATA_CUT in log:
            return f"its header counts more samples than the {decoded} that are there"
        return "its last page is missing" if _OGG_CUT in log else ""

    def close(self) -> None:
        """See `OpenedSound`."""
        self._file.close()
