"""AIFF, CAF, W64 and AU: how much sound follows the size that their headers say.

The first three are chunks, each with a name and a size; AU says a size once. References: Apple,
"Audio Interchange File Format" (1989) and "Core Audio Format" (2006); Sony, "Wave64" (2005); Sun,
"Audio file format" (1992).
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

from rfcx_tf.audio.headers.examined import Examined, SplicedStream, is_padding

_MOST_CHUNKS = 1000
# What may lie before the samples; more is left to the decoder.
_LONGEST_HEADER = 1 << 20


class _Form(NamedTuple):
    """How chunks are written.

    Attributes:
        first: byte of the first one.
        name_bytes, size: their names' length and the coding of their sizes.
        counted: bytes of a size that are the chunk's own header.
        samples: how the chunk of samples begins; `before` bytes of it are none.
        multiple: where chunks begin.
    """

    first: int
    name_bytes: int
    size: str
    counted: int
    samples: bytes
    before: int
    multiple: int


_FORMS = {
    b"FORM": _Form(12, 4, ">I", 0, b"SSND", 8, 2),
    b"caff": _Form(8, 4, ">q", 0, b"data", 4, 1),
    b"riff": _Form(40, 16, "<q", 24, b"data", 0, 8),
}


def examine_chunks(stream: BinaryIO) -> Examined:
    """Compares the size of the chunk of samples with the bytes, in AIFF, CAF and W64."""
    stream.seek(0)
    form = _FORMS[stream.read(4)]
    file_size = stream.seek(0, os.SEEK_END)
    chunks = _chunks(stream, form, form.first)
    found = next((chunk for chunk in chunks if chunk[1].startswith(form.samples)), None)
    stream.seek(0)
    if found is None or found[2] + form.before > min(file_size, _LONGEST_HEADER):
        return Examined((stream,))
    at, _, content, size = found
    begin, claimed = content + form.before, size - form.before
    head = bytearray(stream.read(begin))
    there = file_size - begin

    def with_size(size: int) -> bytes:
        counted = size + form.before + form.counted
        struct.pack_into(form.size, head, at + form.name_bytes, counted)
        return bytes(head)

    def ends(end: int) -> bool:
        last = end
        for _, _, content, size in _chunks(stream, form, -(-end // form.multiple) * form.multiple):
            last = content + size
        return last > end and abs(last - file_size) <= form.multiple

    return _examined(stream, begin, claimed, there, ends, with_size)


def examine_au(stream: BinaryIO) -> Examined:
    """Compares the size that an AU says with its bytes."""
    file_size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = bytearray(stream.read(24))
    if len(head) < 24:
        stream.seek(0)
        return Examined((stream,))
    begin, claimed = struct.unpack_from(">II", head, 4)
    stream.seek(0)
    if not 24 <= begin <= min(file_size, _LONGEST_HEADER) or claimed == 0xFFFFFFFF:
        return Examined((stream,), None)
    head = bytearray(stream.read(begin))

    def with_size(size: int) -> bytes:
        struct.pack_into(">I", head, 8, min(size, 0xFFFFFFFF))
        return bytes(head)

    return _examined(stream, begin, claimed, file_size - begin, lambda end: False, with_size)


def _examined(stream: BinaryIO, begin: int, claimed: int, there: int, ends, with_size) -> Examined:
    """What is there of the samples that begin at a byte.

    Args:
        claimed, there: bytes of samples, as the header says and to the end of the file.
        ends: whether something else begins at a byte.
        with_size: gives the header with another size.
    """
    end = begin + claimed
    if 0 <= claimed <= there:
        is_padded = claimed > 0 and is_padding(stream, end, begin + there)
        if there - claimed < 16 or is_padded or ends(end):
            there = claimed
    stream.seek(0)
    if claimed == there or not there:
        return Examined((stream,))
    spliced = SplicedStream(stream, [with_size(there), (begin, begin + there)])
    promised = claimed / there if claimed >= 0 else None
    # A size that counts the header too misses no sound.
    return Examined((spliced,), promised, claimed - there > max(begin, 44))


def _chunks(stream: BinaryIO, form: _Form, at: int):
    """Chunks from a byte on: where each begins, its name, where its content begins, its size."""
    head_bytes = form.name_bytes + struct.calcsize(form.size)
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(head_bytes)
        if len(head) < head_bytes or not head[:4].strip().isalnum():
            return
        size = struct.unpack(form.size, head[form.name_bytes :])[0] - form.counted
        yield at, head[: form.name_bytes], at + head_bytes, size
        if size < 0:
            return
        end = at + head_bytes + size
        at = -(-end // form.multiple) * form.multiple
