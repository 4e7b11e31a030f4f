"""What a decoder of sound files is.

To add one, write a module like `libsndfile.py` and its entry of `DECODERS` in `formats.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    import numpy as np


class DecodingError(Exception):
    """A file that cannot be decoded, or not any further; the message says why in some words."""


class OpenedSound(Protocol):
    """An opened sound file.

    Attributes:
        frames: samples a channel, as the header says.
        says_length: whether it does.
        rate_hz, channels: of the file.
        can_seek: whether a seek is exact to the sample.
    """

    frames: int
    says_length: bool
    rate_hz: int
    channels: int
    can_seek: bool

    def read(self, count: int) -> np.ndarray:
        """The next samples, the mean of the channels, float32 [samples]; -1: all that follow.

        Fewer at the end.

        Raises:
            DecodingError: where the file is damaged.
        """

    def seek(self, frame: int) -> None:
        """Goes to a sample; only where `can_seek`."""

    def shortage(self, decoded: int) -> str:
        """What shows that the file holds or held more than was decoded; empty where nothing."""

    def close(self) -> None:
        """Ends the reading; the stream stays open."""


@dataclass(frozen=True)
class Decoder:
    """A way to read some kinds of sound file.

    Attributes:
        extensions: of the files' names, in small letters with the dot.
        begins: what their first bytes match.
        open: stream of the encoded bytes -> `OpenedSound`; `DecodingError` for anything else.
    """

    extensions: tuple[str, ...]
    begins: re.Pattern[bytes]
    open: Callable[[BinaryIO], OpenedSound]
