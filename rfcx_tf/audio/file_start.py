"""When a recording began, as its own file says: GUANO metadata, or AudioMoth's comment.

    guan chunk of a WAV      Timestamp: 2023-04-01T05:30:00+02:00
    ICMT in a LIST chunk     Recorded at 05:30:00 01/04/2023 (UTC+2) by AudioMoth ...

The comment also stands in files that were converted to another format. Reference: GUANO 1.0
(guano-md.org); AudioMoth-Firmware-Basic.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from rfcx_tf.audio.headers.wav import wav_chunks
from rfcx_tf.core.storage import as_path

_GUANO = re.compile(rb"^Timestamp:[ \t]*(\S[^\r\n\0]*)", re.MULTILINE)
_AUDIOMOTH = re.compile(
    rb"Recorded at (\d\d:\d\d:\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4}) "
    rb"\(UTC(?:([+-])(\d{1,2})(?::?(\d\d))?)?\)"
)
# Metadata before the sound of other formats, and the longest chunk of it.
_MOST_BYTES = 1 << 16


def start_from_file(path: str | Path) -> datetime | None:
    """The start of a recording; None where its file does not say, or cannot be read."""
    try:
        with as_path(path).open("rb") as stream:
            texts = [stream.read(_MOST_BYTES)]
            if texts[0][8:12] == b"WAVE":
                texts = []
                for chunk in wav_chunks(stream):
                    if chunk.name in (b"guan", b"LIST"):
                        stream.seek(chunk.begin)
                        texts.append(stream.read(min(chunk.size, _MOST_BYTES)))
    except OSError:
        return None
    guano = (_guano_start(text) for text in texts if text.startswith(b"GUANO|"))
    comment = (_audiomoth_start(text) for text in texts)
    return next(filter(None, (*guano, *comment)), None)


def _guano_start(text: bytes) -> datetime | None:
    found = _GUANO.search(text)
    try:
        return datetime.fromisoformat(found[1].decode().strip()) if found else None
    except ValueError:
        return None


def _audiomoth_start(text: bytes) -> datetime | None:
    found = _AUDIOMOTH.search(text)
    if found is None:
        return None
    time, day, month, year, sign, hours, minutes = (
        part and part.decode() for part in found.groups()
    )
    zone = f"{sign or '+'}{hours or 0:0>2}:{minutes or '00'}"
    try:
        return datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone}")
    except ValueError:
        return None
