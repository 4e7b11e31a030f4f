"""Names of files and species -> text that compares and can be written.

Macs write "ü" as two characters, "u" and two dots, other systems as one. Old disks and archives
hold names that are no UTF-8; Python gives their bytes as lone surrogates, which no table can hold.
"""

from __future__ import annotations

import os
import unicodedata


def one_form(text: str) -> str:
    """The text in Unicode's normal form C, in which equal names are equal."""
    return unicodedata.normalize("NFC", text)


def has_control_characters(text: str) -> bool:
    """Whether something went wrong with a name: no program writes them, and many stop at them."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def readable(path: str | os.PathLike) -> str:
    """A file's name or path as text; what is not UTF-8 in it is read as Latin-1, part by part."""
    return "/".join(map(_readable_part, os.fspath(path).split("/")))


def _readable_part(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name
