"""Sound that no decoder here reads: what it is, by its first bytes, and how to convert it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from rfcx_tf.core.storage import as_path

BEGINNING_BYTES = 16
# What files begin with, and what holds video too, which is no recording unless its name or its
# own bytes say so.
_KINDS = (
    (re.compile(rb"....ftyp(M4A|M4B|F4A)", re.DOTALL), "M4A (AAC or ALAC)", False),
    (re.compile(rb"....ftyp", re.DOTALL), "MP4 (AAC or another coding)", True),
    (re.compile(rb"\xff[\xf0\xf1\xf9]|ADIF"), "AAC", False),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "WMA", True),
    (re.compile(rb"wvpk"), "WavPack", False),
    (re.compile(rb"MAC "), "Monkey's Audio", False),
    (re.compile(rb"TTA[12]"), "True Audio", False),
    (re.compile(rb"MPCK|MP\+"), "Musepack", False),
    (re.compile(rb"DSD |FRM8"), "DSD", False),
    (re.compile(rb"#!AMR"), "AMR", False),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "Matroska or WebM", True),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "AVI", True),
)
_NAMED_LIKE_SOUND = re.compile(r"\.(3ga|aac|alac|amr|ape|dff|dsf|m4[ab]|mka|mpc|tta|weba|wma|wv)")


def other_kind(beginning: bytes) -> str | None:
    """What a file with these first bytes holds, where that is sound that is not read."""
    return next((name for begins, name, _ in _KINDS if begins.match(beginning)), None)


def is_other_sound(path: Path, beginning: bytes) -> bool:
    """Whether a file is a recording of a kind that is not read, and not a video."""
    is_video_too = next((video for begins, _, video in _KINDS if begins.match(beginning)), None)
    named_like_sound = _NAMED_LIKE_SOUND.fullmatch(path.suffix.lower()) is not None
    return named_like_sound or is_video_too is False


def how_to_convert(path: str | Path, beginning: bytes) -> str:
    """A sentence on what a file is and how it becomes a FLAC beside it."""
    path = as_path(path)
    kind = other_kind(beginning) or f"{path.suffix[1:].upper()}, or damaged"
    command = shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".flac"))])
    return f"{path} is {kind}, which is not read. Convert it: {command}"
