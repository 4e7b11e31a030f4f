"""WAV (RIFF, RIFX, RF64, BW64): where its chunks lie, and how much sound follows its header.

A file is a form (four letters, a size, `WAVE`) and chunks: four letters, a size, so many bytes, and
one more where the size is odd. Sizes are uint32; RF64 and BW64 keep larger ones in a chunk `ds64`.
Reference: Microsoft, "Multiple Channel Audio Data and WAVE Files" (2007); EBU Tech 3306 (2009).

Recorders write the header first and the sizes last. So a size may be 0 or any other placeholder
after a power cut, may count the header as well, or go round beyond 4 GiB.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from rfcx_tf.audio.headers.examined import Examined, SplicedStream, is_padding
from rfcx_tf.core.errors import DecodingError

_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_ ]{3}")
# Far more than any program writes before the samples or behind them.
_MOST_CHUNKS = 10_000
# What stands for a size that is in the chunk `ds64`, or unknown.
_ELSEWHERE = 0xFFFFFFFF
# Programs that write into a pipe put a size beside one of these for "unknown".
PLACEHOLDERS = (range(0x7FFFF000, 0x80000100), range(0xFFFFF000, 0x100000000))
# What programs write behind the samples.
_BEHIND = re.compile(rb"LIST|id3 |ID3 |guan|wamd|bext|iXML|axml|_PMX|cue |smpl|fact|PEAK|JUNK|junk")


class Chunk(NamedTuple):
    """A chunk: its name, where its content begins, and the size that it says."""

    name: bytes
    begin: int
    size: int


def wav_chunks(stream: BinaryIO, begin: int = 12) -> Iterator[Chunk]:
    """The chunks of a WAV file from a byte on, until something is none or the file ends."""
    size_of = struct.Struct(">I" if _form(stream) == b"RIFX" else "<I")
    for _ in range(_MOST_CHUNKS):
        head = _bytes(stream, begin, 8)
        if _NAME.match(head) is None or len(head) < 8:
            return
        chunk = Chunk(head[:4], begin + 8, *size_of.unpack(head[4:8]))
        yield chunk
        begin = chunk.begin + chunk.size
        if chunk.size % 2:
            # Some programs leave out the byte behind an odd size.
            begin += _NAME.match(_bytes(stream, begin, 4)) is None


def examine_wav(stream: BinaryIO) -> Examined:
    """Looks for the samples and their end.

    Raises:
        DecodingError: for a header that no recording has.
    """
    file_size = stream.seek(0, os.SEEK_END)
    before, by_the_rules = {}, 12
    for chunk in wav_chunks(stream):
        before.setdefault(chunk.name, chunk)
        is_odd = chunk.begin != by_the_rules + 8
        by_the_rules += 8 + chunk.size + chunk.size % 2
        if chunk.name == b"data":
            break
    form, data, coding = _form(stream), before.get(b"data"), before.get(b"fmt ")
    if data is None or coding is None or coding.size < 16 or data.begin > file_size:
        return Examined((stream,))
    fmt = _bytes(stream, coding.begin, min(coding.size, 1 << 12))
    order = ">" if form == b"RIFX" else "<"
    channels, rate_hz = struct.unpack_from(f"{order}HI", fmt, 2)
    if channels == 0 or not 0 < rate_hz < 1 << 31:
        raise DecodingError(f"its header says {channels} channel(s) and {rate_hz} Hz")
    claimed = data.size
    if claimed == _ELSEWHERE and b"ds64" in before:
        (claimed,) = struct.unpack(
            "<Q", _bytes(stream, before[b"ds64"].begin + 8, 8).ljust(8, b"\0")
        )
    there = file_size - data.begin
    if claimed <= there and _sound_ends(stream, data.begin, claimed, file_size):
        there = claimed
    is_placeholder = claimed > there and any(claimed in sizes for sizes in PLACEHOLDERS)
    # A size that counts the header too misses no sound.
    is_cut = claimed - there > data.begin and not is_placeholder
    says_nothing = there == 0 or (is_placeholder and claimed == _ELSEWHERE)
    promised = None if says_nothing else claimed / there
    # What libsndfile would not read to its end, or not at all.
    if there and (claimed < there or is_odd or form == b"BW64"):
        stream = _with_header(stream, form, fmt, data.begin, data.begin + there)
    stream.seek(0)
    return Examined((stream,), promised, is_cut)


def _sound_ends(stream: BinaryIO, begin: int, size: int, file_size: int) -> bool:
    """Whether the samples end where the header says: something else lies behind, or nothing."""
    end = begin + size
    if size % 2 and not _NAME.match(_bytes(stream, end, 4)):
        end += 1
    # A last frame that is not whole is none.
    if file_size - end < 8:
        return True
    behind = list(wav_chunks(stream, end))
    if behind and _BEHIND.match(behind[0].name):
        return True
    if behind and abs(behind[-1].begin + behind[-1].size - file_size) < 8:
        return True
    # Silence is zeros too, but a header that counts some samples knows of more than these.
    return size > 0 and is_padding(stream, end, file_size)


def _with_header(stream: BinaryIO, form: bytes, fmt: bytes, begin: int, end: int) -> BinaryIO:
    """The samples from one byte to another behind a header that counts them."""
    size, order = end - begin, ">" if form == b"RIFX" else "<"
    coding = b"fmt " + struct.pack(f"{order}I", len(fmt)) + fmt + b"\0" * (len(fmt) % 2)
    if size + len(coding) + 100 < 1 << 32:
        name = b"RIFX" if form == b"RIFX" else b"RIFF"
        sizes, small, long = b"", size, 4 + len(coding) + 8 + size
    else:
        name, small, long = b"RF64", _ELSEWHERE, _ELSEWHERE
        sizes = b"ds64" + struct.pack("<IQQQI", 28, 36 + 4 + len(coding) + 8 + size, size, 0, 0)
    header = name + struct.pack(f"{order}I", long) + b"WAVE" + sizes + coding
    header += b"data" + struct.pack(f"{order}I", small)
    return SplicedStream(stream, [header, (begin, end)])


def _form(stream: BinaryIO) -> bytes:
    return _bytes(stream, 0, 4)


def _bytes(stream: BinaryIO, begin: int, count: int) -> bytes:
    stream.seek(begin)
    return stream.read(count)
