"""Recordings in object storage, named by URL: s3://bucket/site1/20210101_050000.flac.

`StoredFile` has what the project asks of a recording's path, so that who reads recordings need not
know where they are. It stands on fsspec and on the package of the store (`_PACKAGES`), which take
credentials and the server's address from where the store's own tools do: AWS_PROFILE,
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, .... What is transient is tried again, after longer and longer
waits. What goes wrong is an OSError, as with a disk.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import BinaryIO

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
# What must be installed for a store, which is what the extra of the package is called too.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_S3_OPTIONS = {
    # Waits of 1, 2, 4, ... s at most, each drawn at random.
    "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 6}},
}
# At once: where something is looked up, and of a file that is wanted whole.
_LOOK_BYTES, _FETCH_BYTES = 1 << 16, 1 << 24


def is_in_store(text: str) -> bool:
    """Whether a text names a place in a kind of store that is known."""
    found = _URL.fullmatch(text)
    return found is not None and found[1] in _PACKAGES


def as_path(text: str | os.PathLike) -> Path | StoredFile:
    """The path of a file or folder on this machine, or of one in a store."""
    text = os.fspath(text)
    return StoredFile(text) if _URL.fullmatch(text) else Path(text)


@functools.total_ordering
@dataclass(frozen=True)
class StoredFile(os.PathLike):
    """A file or folder in a store.

    Attributes:
        url: its name.
        size_bytes, changed_ns: as it was listed; None: not known yet.
    """

    url: str
    size_bytes: int | None = field(default=None, compare=False)
    changed_ns: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def __lt__(self, other) -> bool:
        # Folder by folder, as paths are sorted; behind those of this machine.
        return isinstance(other, StoredFile) and self._key.parts < other._key.parts

    @property
    def _key(self) -> PurePosixPath:
        return PurePosixPath(_URL.fullmatch(self.url)[2])

    @property
    def _scheme(self) -> str:
        return _URL.fullmatch(self.url)[1]

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def stem(self) -> str:
        return self._key.stem

    @property
    def suffix(self) -> str:
        return self._key.suffix

    @property
    def parent(self) -> StoredFile:
        return self._sibling(self._key.parent)

    def with_suffix(self, suffix: str) -> StoredFile:
        return self._sibling(self._key.with_suffix(suffix))

    def relative_to(self, folder: StoredFile) -> PurePosixPath:
        return self._key.relative_to(folder._key)

    def resolve(self) -> StoredFile:
        return self

    def _sibling(self, key: PurePosixPath) -> StoredFile:
        return StoredFile(f"{self._scheme}://{key}")

    def is_file(self) -> bool:
        """Whether there is a file of this name; OSError where the store does not say."""
        with self._told() as files:
            return files.isfile(self.url)

    def stat(self) -> SimpleNamespace:
        """Its size and the time of its last change, as `Path.stat` names them."""
        found = self
        if self.size_bytes is None:
            with self._told() as files:
                found = _listed(self._scheme, files.info(self.url))
        return SimpleNamespace(st_size=found.size_bytes, st_mtime_ns=found.changed_ns)

    def read(self, begin: int, end: int) -> bytes:
        """Bytes of it, fewer at its end; OSError where they do not come."""
        if begin >= end:
            return b""
        with self._told() as files:
            return files.cat_file(self.url, start=begin, end=end)

    def open(self, mode: str = "rb") -> BinaryIO:
        """A stream for a look at parts of it, which come one by one."""
        assert mode == "rb"
        return io.BufferedReader(_Ranges(self), _LOOK_BYTES)

    def fetch(self) -> BinaryIO:
        """All of it, in a file without a name on this machine that is gone when it is closed."""
        with ExitStack() as unless_it_fails:
            stream = unless_it_fails.enter_context(tempfile.TemporaryFile(buffering=0))
            size = self.stat().st_size
            for begin in range(0, size, _FETCH_BYTES):
                end = min(begin + _FETCH_BYTES, size)
                piece = self.read(begin, end)
                if len(piece) != end - begin:
                    raise OSError(errno.EIO, f"{begin + len(piece)} of {size} bytes came")
                while piece:
                    piece = piece[stream.write(piece) :]
            stream.seek(0)
            unless_it_fails.pop_all()
            return stream

    def files(self) -> list[StoredFile]:
        """All files in a folder and its subfolders, or the file itself; sorted.

        Raises:
            OSError: if there is nothing of this name, or it cannot be listed.
        """
        with self._told() as files:
            found = files.find(self.url, detail=True)
        if not found:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        # Consoles of stores make folders by empty files whose names end in a slash.
        return sorted(
            _listed(self._scheme, about) for name, about in found.items() if name[-1] != "/"
        )

    @contextmanager
    def _told(self) -> Iterator:
        """Gives the file system; whatever goes wrong with it becomes an OSError in one line."""
        files = _file_system(self._scheme)
        try:
            yield files
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        except Exception as error:
            line = " ".join(str(getattr(error, "strerror", None) or error).split())
            number = getattr(error, "errno", None) or errno.EIO
            raise OSError(number, line or type(error).__name__) from None


class _Ranges(io.RawIOBase):
    """A stored file, asked for what is read."""

    def __init__(self, file: StoredFile):
        self._file, self._size, self._at = file, file.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer) -> int:
        found = self._file.read(self._at, min(self._at + len(buffer), self._size))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _listed(scheme: str, about: dict) -> StoredFile:
    changed = about.get("LastModified") or about.get("mtime") or about.get("last_modified")
    changed_ns = int(changed.timestamp() * 1e9) if hasattr(changed, "timestamp") else 0
    return StoredFile(f"{scheme}://{about['name']}", int(about["size"]), changed_ns)


@functools.cache
def _file_system(scheme: str):
    """Of fsspec.

    Raises:
        ModuleNotFoundError: naming the package that is to be installed.
        OSError: for a kind of store that is not known.
    """
    if scheme not in _PACKAGES:
        raise OSError(errno.EINVAL, f"stores are {', '.join(_PACKAGES)}, not {scheme}")
    package = _PACKAGES[scheme]
    try:
        import fsspec

        options = _S3_OPTIONS if scheme == "s3" else {}
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package) from None
