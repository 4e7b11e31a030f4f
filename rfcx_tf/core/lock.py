"""One command at a time writes to a data folder, a run, shards, an export, a table or a page.

A lock is a hidden file that is there only while it is held:

DIR/.rfcx-tf-lock             of a folder
DIR/.scores.csv.rfcx-tf-lock  of a file

The operating system takes the lock (`flock`) off a process that is killed, so the file that it
leaves blocks nobody. Where files cannot be locked, a lock counts as long as the process that the
file names may be there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable, is_gone, remove_stale

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".rfcx-tf-lock"


@contextmanager
def lock_folder(folder: str | Path, verb: str) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be and goes again if nothing gets into it.

    What killed processes left half-written below the folder is removed.

    Args:
        folder: that is read and written.
        verb: of the command, for whoever comes second.

    Raises:
        UserError: naming the process that holds the lock, or if nothing can be written there.
    """
    folder = Path(os.path.realpath(folder))
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _hold(folder / _NAME, folder, verb):
            remove_stale(folder.rglob("*"))
            yield
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def lock_file(path: str | Path, verb: str) -> Iterator[None]:
    """Holds the lock of a file that is to be written, see `lock_folder`."""
    path = Path(os.path.realpath(path))
    check_writable(path)
    # Of a long name the end and a hash, since ours must not be too long.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    name = path.name if len(path.name) <= 50 else f"{digest}-{path.name[-41:]}"
    with _hold(path.with_name(f".{name}{_NAME}"), path, verb):
        remove_stale(path.parent.iterdir())
        yield


@contextmanager
def lock_files(paths: Iterable[str | Path | None], verb: str) -> Iterator[None]:
    """Holds the locks of all files that a command writes, see `lock_file`.

    Args:
        paths: of the files; None for one that is not asked for. Two ways to a file are one.
        verb: of the command.
    """
    # In one order, so that of two commands with the same files one holds them all.
    files = sorted({os.path.realpath(path) for path in paths if path})
    with ExitStack() as held:
        for file in files:
            held.enter_context(lock_file(file, verb))
        yield


@contextmanager
def _hold(file: Path, place: Path, verb: str) -> Iterator[None]:
    try:
        descriptor = _acquire(file, place)
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror}). Name another place."
        ) from None
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "verb": verb, "since": since}
    try:
        # Where the disk is full, the lock holds without a name.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            # While the lock is held: who opened the file meanwhile sees that it has gone.
            file.unlink()
        os.close(descriptor)
        if fcntl is None:  # Windows removes no open file, of whomever it is.
            with suppress(OSError):
                file.unlink()


def _acquire(file: Path, place: Path) -> int:
    """Opens and locks the file; its descriptor."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # Whoever made the folder removed it just now.
            continue
        try:
            if not _lock(descriptor):
                _refuse(descriptor, file, place)
            # Whoever had it may have removed it between our opening and locking it.
            if fcntl is None or os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the lock could be had."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
    owner = _read_owner(descriptor)
    return owner is None or is_gone(owner["host"], owner["pid"])


def _read_owner(descriptor: int) -> dict | None:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = json.loads(os.read(descriptor, 4096))
        return owner if {"pid", "host", "verb", "since"} <= owner.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _refuse(descriptor: int, file: Path, place: Path):
    owner = _read_owner(descriptor)
    who = "Another process writes there"
    if owner:
        who = (
            f"Process {owner['pid']} on {owner['host']} ({owner['verb']}) has written there since "
            f"{owner['since']}"
        )
    raise UserError(
        f"One command at a time writes to {place}. {who}. Run this again when it has ended, or "
        "name another place."
    )
