"""A folder's files and their SHA-256, so that damage on the disk is found when one is opened.

FOLDER/checksums.json     of each file that was written for good, by name

A folder of an earlier version has none, and its files are opened as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from rfcx_tf.core.documents import read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text

CHECKSUMS = "checksums.json"


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Keeps the checksums of files of a folder, as the last step of writing them."""
    sums = {name: sha256_of(folder / name) for name in names}
    atomic_write_text(folder / CHECKSUMS, sealed_json(sums, indent=1))


def forget_checksums(folder: Path) -> None:
    """Before any of the files is written anew: a kill in between must not look like damage."""
    (folder / CHECKSUMS).unlink(missing_ok=True)


def checked(path: Path, way_out: str) -> Path:
    """A file's path, if the file is as it was written or nothing is known of that.

    Args:
        path: the file.
        way_out: what to do where it is damaged, a sentence.

    Raises:
        UserError: if it is not as it was written.
    """
    sums = path.parent / CHECKSUMS
    try:
        expected = read_json(sums, "The list of checksums").get(path.name)
        if expected in (None, sha256_of(path)):
            return path
    except FileNotFoundError:
        return path
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {way_out}") from None
    raise UserError(
        f"A file must be as it was written. {path} does not match its checksum in {sums}. If "
        f"somebody changed it and meant it, delete {sums}; otherwise it is damaged. {way_out}"
    )
