"""The decoders of sound files: what one is, and which reads which file.

To add one, write a module like `libsndfile.py` and add an entry to `DECODERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    import numpy as np


class OpenedSound(Protocol):
    """An opened sound file.

    Attributes:
        frames: samples a channel that are there, as far as that shows before they are decoded.
        promised: those that the header counts; None where it does not say.
        is_cut: whether sound is seen to be missing at the end; None: that does not show.
        rounding: samples by which a header of this format may be wrong, and nothing is.
        rate_hz, channels: of the file.
        can_seek: whether a seek is exact to the sample.
        damage: what is wrong at the place where `read` could not go on; empty where nothing is.
    """

    frames: int
    promised: int | None
    is_cut: bool | None
    rounding: int
    rate_hz: int
    channels: int
    can_seek: bool
    damage: str

    def read(self, count: int) -> np.ndarray:
        """The next samples, float32 [samples, channels], fewer at the end.

        With -1 all that follow. None are behind a damaged place.
        """

    def seek(self, frame: int) -> None:
        """Goes to a sample; only where `can_seek`."""

    def close(self) -> None:
        """Ends the reading; the stream stays open."""


@dataclass(frozen=True)
class Decoder:
    """A way to read some kinds of sound file.

    Attributes:
        extensions: of the files' names, in small letters with the dot.
        begins: what their first bytes match.
        open: stream of the encoded bytes -> `OpenedSound`; `DecodingError` for anything else.
    """

    extensions: tuple[str, ...]
    begins: re.Pattern[bytes]
    open: Callable[[BinaryIO], OpenedSound]


def _libsndfile(stream: BinaryIO) -> OpenedSound:
    # Libraries are imported when sound is read, not when `--help` asks for names of formats.
    from rfcx_tf.audio.libsndfile import SndfileSound

    return SndfileSound(stream)


DECODERS = (
    Decoder(
        extensions=(
            *(".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wave"),
            *(".aif", ".aifc", ".aiff", ".au", ".caf", ".snd", ".w64"),
        ),
        # FLAC, OGG, MP3 with an ID3v2 tag or without, the kinds of WAV, AIFF, AU, CAF and W64.
        begins=re.compile(
            rb"fLaC|OggS|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xeb]|(RIFF|RIFX|RF64|BW64)....WAVE"
            rb"|FORM....AIF[FC]|\.snd\0\0|caff\0|riff\x2e\x91\xcf\x11",
            re.DOTALL,
        ),
        open=_libsndfile,
    ),
)
AUDIO_EXTENSIONS = tuple(sorted(e for decoder in DECODERS for e in decoder.extensions))
# The longest beginning that a decoder asks for.
_BEGINNING_BYTES = 16


def holds_sound(beginning: bytes) -> bool:
    """Whether a file with these first bytes is one that a decoder knows."""
    return any(decoder.begins.match(beginning) for decoder in DECODERS)


def open_sound(stream: BinaryIO) -> OpenedSound:
    """Opens a sound file by the decoder that knows its first bytes, whatever its name.

    An MP3 without a tag begins like nothing in particular: the first decoder tries it.

    Raises:
        DecodingError: if it is none.
    """
    stream.seek(0)
    beginning = stream.read(_BEGINNING_BYTES)
    stream.seek(0)
    decoder = next((d for d in DECODERS if d.begins.match(beginning)), DECODERS[0])
    return decoder.open(stream)
