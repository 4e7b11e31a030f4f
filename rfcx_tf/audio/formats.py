"""The sound files that can be read: which decoder reads which."""

from __future__ import annotations

import re
from typing import BinaryIO

from rfcx_tf.audio.decoders import Decoder, OpenedSound


def _libsndfile(stream: BinaryIO) -> OpenedSound:
    # Libraries are imported when sound is read, not when `--help` asks for names of formats.
    from rfcx_tf.audio.libsndfile import SndfileSound

    return SndfileSound(stream)


DECODERS = (
    Decoder(
        extensions=(".flac", ".mp3", ".ogg", ".wav"),
        # FLAC, OGG, MP3 with an ID3v2 tag, and the three kinds of WAV.
        begins=re.compile(rb"fLaC|OggS|ID3|(RIFF|RIFX|RF64)....WAVE", re.DOTALL),
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
    beginning = stream.read(_BEGINNING_BYTES)
    stream.seek(0)
    decoder = next((d for d in DECODERS if d.begins.match(beginning)), DECODERS[0])
    return decoder.open(stream)
