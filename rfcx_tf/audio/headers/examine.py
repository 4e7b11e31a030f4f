"""Which look a sound file gets before it is decoded."""

from __future__ import annotations

from typing import BinaryIO

from rfcx_tf.audio.headers.examined import Examined, SplicedStream
from rfcx_tf.audio.headers.flac import examine_flac
from rfcx_tf.audio.headers.mp3 import end_of_id3, examine_mp3, starts_like_mp3
from rfcx_tf.audio.headers.ogg import examine_ogg
from rfcx_tf.audio.headers.others import examine_au, examine_chunks
from rfcx_tf.audio.headers.wav import examine_wav

_EXAMINE = {
    b"fLaC": examine_flac,
    b"OggS": examine_ogg,
    b".snd": examine_au,
    **dict.fromkeys((b"FORM", b"caff", b"riff"), examine_chunks),
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), examine_wav),
}


def examine(stream: BinaryIO) -> Examined:
    """Compares a file's header with its bytes, by its first ones; others are left as they are.

    Raises:
        DecodingError: for a header that no recording has.
    """
    begin = end_of_id3(stream)
    stream.seek(begin)
    beginning = stream.read(4)
    stream.seek(0)
    look = _EXAMINE.get(beginning)
    if look is None:
        is_mp3 = begin or starts_like_mp3(beginning)
        return examine_mp3(stream, begin) if is_mp3 else Examined((stream,))
    if begin:
        stream = SplicedStream(stream, [(begin, stream.seek(0, 2))])
    return look(stream)
