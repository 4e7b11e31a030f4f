"""OGG: its pages, the streams that lie behind each other in it, and whether they end.

A file is pages: `OggS`, flags, a position, a serial number, and up to 255 segments. A stream begins
with a page that says so, and ends with one that says so. Chained streams follow each other.
Reference: RFC 3533; of FLAC in OGG, RFC 9639, section 10.1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO

from rfcx_tf.audio.headers.examined import Examined, SplicedStream
from rfcx_tf.audio.headers.flac import examine_flac

_HEADER_BYTES, _LARGEST_HEADER = 27, 27 + 255
_BEGINS, _ENDS = 2, 4
# The first packet of FLAC in OGG has this and four bytes before a native FLAC's beginning.
_FLAC, _FLAC_BYTES = b"\x7fFLAC", 9
_SEARCH_BYTES = 1 << 16


@dataclass
class _Link:
    """One of the chained streams: where it lies, what its pages carry, and whether it ends."""

    begin: int
    end: int
    is_flac: bool
    ends: bool = False
    carried: list[tuple[int, int]] = field(default_factory=list)


def examine_ogg(stream: BinaryIO) -> Examined:
    """Walks from page to page."""
    file_size = stream.seek(0, os.SEEK_END)
    links, at, is_first_page = [], 0, True
    while (at := _next_page(stream, at)) is not None:
        stream.seek(at)
        head = stream.read(_LARGEST_HEADER + len(_FLAC))
        begin = at + _HEADER_BYTES + (head[26] if len(head) > 26 else 0)
        end = begin + sum(head[_HEADER_BYTES : begin - at])
        if len(head) < _HEADER_BYTES or end > file_size:
            break
        begins = bool(head[5] & _BEGINS)
        if begins and is_first_page:
            is_flac = head[begin - at :].startswith(_FLAC)
            links.append(_Link(at, end, is_flac))
            begin += _FLAC_BYTES * is_flac
        is_first_page = not begins
        if links:
            links[-1].end, links[-1].ends = end, bool(head[5] & _ENDS)
            if links[-1].is_flac:
                links[-1].carried.append((begin, end))
        at = end
    stream.seek(0)
    # A page that is damaged inside shows when less is decoded than its last page counts.
    is_cut = None if all(link.ends for link in links) else True
    if len(links) < 2 and not any(link.is_flac for link in links):
        return Examined((stream,), None, is_cut)
    parts, promised = [], None
    for link in links:
        pieces = link.carried if link.is_flac else [(link.begin, link.end)]
        part = SplicedStream(stream, pieces)
        if link.is_flac:
            native = examine_flac(part)
            (part,), promised = native.parts, native.promised
        parts.append(part)
    return Examined(tuple(parts), promised if len(parts) == 1 else None, is_cut)


def _next_page(stream: BinaryIO, at: int) -> int | None:
    """The first page at a byte or, where something else lies there, behind it."""
    stream.seek(at)
    found = stream.read(4)
    while len(found) >= 4:
        if (place := found.find(b"OggS")) >= 0:
            return at + place
        at += len(found) - 3
        stream.seek(at)
        found = stream.read(_SEARCH_BYTES)
    return None
