"""A sound file whose header was compared with its bytes."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO


@dataclass(frozen=True)
class Examined:
    """A sound file after a look at its bytes, before any sound is decoded.

    Attributes:
        parts: what to decode, one after the other: the file itself where that can be done, else
            its bytes behind a header that is right.
        promised: what the header counts, as a multiple of what is there; None: it does not say.
        is_cut: whether the end is missing; None: that does not show.
    """

    parts: tuple[BinaryIO, ...]
    promised: float | None = 1.0
    is_cut: bool | None = None


# Zeros behind the samples fill a card's cluster, and some programs write text there.
_NO_SOUND = re.compile(rb"[\0\t\r\n -~]*")
_LONGEST_PADDING = 1 << 17


def is_padding(stream: BinaryIO, begin: int, end: int) -> bool:
    """Whether a part of a file, bytes `begin` to `end`, is zeros or text, and short."""
    stream.seek(begin)
    is_short = end - begin <= _LONGEST_PADDING
    return is_short and _NO_SOUND.fullmatch(stream.read(end - begin)) is not None


class SplicedStream(io.RawIOBase):
    """Pieces of a stream, and bytes between them, as one stream that can be read and sought."""

    def __init__(self, stream: BinaryIO, pieces: Sequence[bytes | tuple[int, int]]):
        """Takes the pieces in their order: bytes, or begin and end of a part of the stream."""
        super().__init__()
        self._stream = stream
        self._pieces = [p for p in pieces if isinstance(p, bytes) or p[1] > p[0]]
        lengths = (len(p) if isinstance(p, bytes) else p[1] - p[0] for p in self._pieces)
        self._begins = [0, *accumulate(lengths)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._begins[-1]}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._begins[-1]:
            number = bisect_right(self._begins, self._at) - 1
            piece, inside = self._pieces[number], self._at - self._begins[number]
            wanted = min(len(view) - done, self._begins[number + 1] - self._at)
            if isinstance(piece, bytes):
                found = piece[inside : inside + wanted]
            else:
                self._stream.seek(piece[0] + inside)
                found = self._stream.read(wanted)
            if not found:
                break
            view[done : done + len(found)] = found
            done += len(found)
            self._at += len(found)
        return done
