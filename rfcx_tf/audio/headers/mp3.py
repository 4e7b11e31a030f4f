"""MP3: where its frames begin and end between tags, and how many there are.

A frame begins with 11 bits that are set, and its header gives its length. The first frame may be
silent and hold a tag (`Xing`, `Info`, `VBRI`) that counts frames and bytes. Without one libsndfile
guesses the length from the first bit rate and stops there. Such files get a tag, and so do those
whose tag is false. Reference: ISO/IEC 11172-3 and 13818-3; ID3v2.4; LAME's "Mp3 info tag" rev. 1.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, NamedTuple

from rfcx_tf.audio.headers.examined import Examined, SplicedStream

# kbit/s of layer III, by whether it is MPEG 1, and Hz by the two bits of the version.
_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_WINDOW_BYTES = 1 << 18
_LARGEST_FRAME = 2048
# Encoders count a frame more or less, and the last ones may be missing.
TOLERANCE = 0.002


class _Frame(NamedTuple):
    """A frame's length in bytes and in samples."""

    size: int
    samples: int


class _Tag(NamedTuple):
    """What a tag counts, frames and bytes (0: it does not say), and where; 0: not to be changed."""

    frames: int
    size: int
    frames_at: int = 0
    size_at: int = 0
    padding_at: int = 0
    is_constant: bool = False


class _Walk(NamedTuple):
    """Frames that were found, where they begin and end, whether all are of one length but for a
    byte, and whether the last one is there whole.
    """

    frames: int
    begin: int
    end: int
    is_constant: bool
    is_whole: bool


def starts_like_mp3(beginning: bytes) -> bool:
    """Whether a file with these first bytes may be an MP3 without tags."""
    return _SYNC.match(beginning) is not None and _frame(beginning) is not None


def examine_mp3(stream: BinaryIO, begin: int) -> Examined:
    """Compares a tag that counts with the bytes; counts the frames where it is not there or false.

    Args:
        stream: of the file.
        begin: where its ID3v2 tags end.
    """
    end, file_size = _end_of_frames(stream), stream.seek(0, os.SEEK_END)
    one = _walk(stream, begin, end, most=1)
    stream.seek(one.begin)
    head = stream.read(_LARGEST_FRAME)
    stream.seek(0)
    if not one.frames:
        return Examined((stream,))
    first, there = _frame(head), end - one.begin
    tag = _read_tag(head)
    slack = TOLERANCE * there + first.size
    as_it_is = stream
    if (one.begin, end) != (0, file_size):
        as_it_is = SplicedStream(stream, [(one.begin, end)])
    is_true = tag and tag.frames and tag.size and abs(tag.size - there) <= slack
    if is_true and tag.is_constant:
        # Of a constant bit rate the frames can be counted from here.
        is_true = abs(tag.frames * first.size - tag.size) <= 0.02 * tag.size
    if is_true:
        return Examined((as_it_is,), is_cut=False)
    found = _walk(stream, one.begin + (first.size if tag else 0), end)
    stream.seek(0)
    if tag is None and found.is_constant:
        return Examined((as_it_is,), None, not found.is_whole)
    counted = _tag_frame(head, tag, found)
    spliced = SplicedStream(stream, [counted, (found.begin, found.end)])
    if tag is None or not tag.frames:
        return Examined((spliced,), None, not found.is_whole)
    promised = tag.frames / max(1, found.frames)
    is_cut = not found.is_whole or tag.size > there + slack
    return Examined((spliced,), promised, is_cut and promised > 1 + TOLERANCE)


def end_of_id3(stream: BinaryIO) -> int:
    """Where the ID3v2 tags at the beginning of a file end; 0 where there are none."""
    end = 0
    while True:
        stream.seek(end)
        head = stream.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
            return end
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte
        end += 10 + size + 10 * bool(head[5] & 0x10)


def _end_of_frames(stream: BinaryIO) -> int:
    """Where the tags at the end of a file begin."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 128))
    if stream.read(3) == b"TAG":
        end -= 128
    stream.seek(max(0, end - 32))
    foot = stream.read(32)
    if foot[:8] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", foot, 12)
        end -= size + 32 * (flags >> 31)
    return end


def _frame(head: bytes) -> _Frame | None:
    """The frame of layer III that begins with these bytes; None if none does."""
    if len(head) < 4 or _SYNC.match(head) is None:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if kbits in (0, 15) or rate == 3:
        return None
    is_1 = version == 3
    bytes_of_1 = (144 if is_1 else 72) * 1000 * _KBITS[is_1][kbits]
    size = bytes_of_1 // _RATES_HZ[version][rate] + (head[2] >> 1 & 1)
    return _Frame(size, 1152 if is_1 else 576)


def _walk(stream: BinaryIO, begin: int, end: int, most: int | None = None) -> _Walk:
    """Goes from frame to frame, and past what is none; at most so many."""
    known: dict[bytes, _Frame | None] = {}
    window, window_at, at = b"", begin, begin
    count, first_at, last_end, is_whole = 0, begin, begin, True
    sizes: set[int] = set()
    while at + 4 <= end and count != most:
        if at + _LARGEST_FRAME + 4 > window_at + len(window) and window_at + len(window) < end:
            stream.seek(at)
            window, window_at = stream.read(min(_WINDOW_BYTES, end - at)), at
            if len(window) < 4:
                break
        inside = at - window_at
        kind = window[inside : inside + 3]
        if kind not in known:
            known[kind] = _frame(window[inside : inside + 4])
        frame = known[kind]
        after = frame and window[inside + frame.size : inside + frame.size + 2]
        # Bytes of something else may look like a header, but are not followed by another.
        if frame is None or (at != last_end and len(after) == 2 and not _SYNC.match(after)):
            found = _SYNC.search(window, inside + 1)
            at = window_at + (found.start() if found else max(inside + 1, len(window) - 1))
            continue
        is_whole = at + frame.size <= end
        if not is_whole:
            break
        if not count:
            first_at = at
        sizes.add(frame.size)
        at += frame.size
        count, last_end = count + 1, at
    is_constant = bool(sizes) and max(sizes) - min(sizes) <= 1
    return _Walk(count, first_at, last_end, is_constant, is_whole)


def _tag_at(head: bytes) -> int:
    """Where Xing or Info would stand in a frame: behind the side information."""
    is_1, is_mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    return 4 + (32, 17)[is_mono] if is_1 else 4 + (17, 9)[is_mono]


def _read_tag(head: bytes) -> _Tag | None:
    at = _tag_at(head)
    if head[at : at + 4] in (b"Xing", b"Info") and len(head) >= at + 16:
        (flags,) = struct.unpack_from(">I", head, at + 4)
        frames_at = at + 8 if flags & 1 else 0
        size_at = at + (12 if flags & 1 else 8) if flags & 2 else 0
        frames, size = (
            struct.unpack_from(">I", head, place)[0] if place else 0
            for place in (frames_at, size_at)
        )
        # LAME's delay and padding are 12 bits each, behind its name and what may stand before.
        optional = sum(length for bit, length in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
        lame_at = at + 8 + optional
        padding_at = (
            lame_at + 22 if head[lame_at : lame_at + 4] in (b"LAME", b"Lavc", b"Lavf") else 0
        )
        is_constant = head[at : at + 4] == b"Info"
        return _Tag(frames, size, frames_at, size_at, padding_at, is_constant)
    if head[36:40] == b"VBRI" and len(head) >= 54:
        size, frames = struct.unpack_from(">II", head, 46)
        return _Tag(frames, size)
    return None


def _tag_frame(head: bytes, tag: _Tag | None, found: _Walk) -> bytes:
    """The silent frame that counts the frames that were found: the file's own, or a new one.

    Args:
        head: the beginning of the first frame.
        tag: what it says; None: it is sound.
    """
    if tag and tag.frames_at:
        frame = bytearray(head[: _frame(head).size])
        struct.pack_into(">I", frame, tag.frames_at, found.frames)
        if tag.size_at:
            struct.pack_into(">I", frame, tag.size_at, len(frame) + found.end - found.begin)
        # The last frames are padded, not those before a cut.
        if 0 < tag.padding_at < len(frame) - 1 and found.frames < tag.frames:
            frame[tag.padding_at] &= 0xF0
            frame[tag.padding_at + 1] = 0
        return bytes(frame)
    at = _tag_at(head)
    for kbits in range(1, 15):
        # Without a checksum, and at the lowest bit rate that has room for the tag.
        start = bytes([0xFF, head[1] | 1, kbits << 4 | head[2] & 0x0C, head[3]])
        size = _frame(start).size
        if size >= at + 12:
            break
    return (start + bytes(at - 4) + b"Xing" + struct.pack(">II", 1, found.frames)).ljust(
        size, b"\0"
    )
