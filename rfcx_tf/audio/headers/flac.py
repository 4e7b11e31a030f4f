"""FLAC: whether the last frame is whole, and the samples that lie before its end.

The header, STREAMINFO, counts the samples of a channel in 36 bits; 0 is "unknown". Every frame says
which one it is and how long it is. So the last one tells how much sound there is, and its checksum
whether the file goes on to its end. Reference: RFC 9639.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO, NamedTuple

from rfcx_tf.audio.headers.examined import Examined, SplicedStream

# "fLaC", the head of a metadata block, STREAMINFO.
_HEADER_BYTES = 42
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FIRST_WINDOW, _LARGEST_WINDOW = 1 << 16, 1 << 26
_LONGEST_FRAME_HEADER = 16


class _Frame(NamedTuple):
    """A frame: where it begins in the file, and its first sample and the one after its last."""

    at: int
    first: int
    last: int


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table, top, mask = [], 1 << (bits - 1), (1 << bits) - 1
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return table


_CRC8, _CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


def examine_flac(stream: BinaryIO) -> Examined:
    """Compares STREAMINFO with the last frame."""
    file_size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(_HEADER_BYTES)
    try:
        if len(head) < _HEADER_BYTES or head[:4] != b"fLaC" or head[4] & 0x7F:
            return Examined((stream,))
        total = (head[21] & 0x0F) << 32 | int.from_bytes(head[22:26], "big")
        # Equal where all frames but the last are of one length; they say their number then.
        shortest, longest = (int.from_bytes(head[i : i + 2], "big") for i in (8, 10))
        found = _last_frame(stream, file_size, longest if shortest == longest else 0, total)
    finally:
        stream.seek(0)
    if found is None:
        return Examined((stream,))
    frame, is_whole = found
    there, end = (frame.last, file_size) if is_whole else (frame.first, frame.at)
    if there in (0, total):
        return Examined((stream,))
    counted = bytes([head[21] & 0xF0 | there >> 32]) + (there & 0xFFFFFFFF).to_bytes(4, "big")
    header = head[:21] + counted + head[26:]
    spliced = SplicedStream(stream, [header, (_HEADER_BYTES, end)])
    return Examined((spliced,), total / there if total else None, not is_whole)


def _last_frame(
    stream: BinaryIO, file_size: int, block: int, total: int
) -> tuple[_Frame, bool] | None:
    """The last frame, and whether it is whole; None where none is found."""
    window = _FIRST_WINDOW
    while True:
        begin = max(0, file_size - window)
        stream.seek(begin)
        tail = stream.read(file_size - begin)
        # A tag for MP3 players is no sound, and neither are zeros of a card, below.
        sound = tail[:-128] if tail[-128:-125] == b"TAG" else tail
        frames = (_frame(sound, m.start(), block) for m in _SYNC.finditer(sound))
        frames = [frame for frame in frames if frame is not None]
        for number in range(len(frames) - 1, -1, -1):
            frame = frames[number]
            bytes_of_frame = sound[frame.at :]
            is_whole = _crc16(bytes_of_frame) == 0
            if not is_whole and bytes_of_frame[-1:] == b"\0":
                is_whole = _crc16(bytes_of_frame.rstrip(b"\0")) == 0
            # Four bytes of sound may look like a frame's, but not fit to the one before.
            fits = any(other.last == frame.first for other in frames[:number])
            if (is_whole and frame.last == total) or fits or frame.first == 0:
                return frame._replace(at=begin + frame.at), is_whole
        if begin == 0 or window == _LARGEST_WINDOW:
            return None
        window *= 4


def _frame(data: bytes, at: int, block: int) -> _Frame | None:
    """The frame whose header begins at a byte; None if none does."""
    head = data[at : at + _LONGEST_FRAME_HEADER]
    if len(head) < 6 or head[3] & 1:
        return None
    # The number of the frame or sample is coded as UTF-8 would be, up to 36 bits.
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones == 1 or ones > 7 or len(head) < 4 + max(1, ones):
        return None
    number, next_byte = head[4] & (0x7F >> ones), 5
    for byte in head[5 : 4 + ones]:
        if byte >> 6 != 0b10:
            return None
        number, next_byte = number << 6 | byte & 0x3F, next_byte + 1
    size_code, rate_code = head[2] >> 4, head[2] & 0x0F
    extra = {6: 1, 7: 2}.get(size_code, 0)
    crc_at = next_byte + extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size_code == 0 or rate_code == 15 or crc_at >= len(head):
        return None
    crc = 0
    for byte in head[: crc_at + 1]:
        crc = _CRC8[crc ^ byte]
    if crc:
        return None
    if extra:
        samples = int.from_bytes(head[next_byte : next_byte + extra], "big") + 1
    elif size_code >= 8:
        samples = 256 << (size_code - 8)
    else:
        samples = 192 if size_code == 1 else 576 << (size_code - 2)
    is_numbered_by_sample = head[1] & 1
    if not (is_numbered_by_sample or block):
        return None
    first = number if is_numbered_by_sample else number * block
    return _Frame(at, first, first + samples)


def _crc16(data: bytes) -> int:
    crc, table = 0, _CRC16
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ byte]
    return crc
