"""Files that are either written whole or left as they were."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rfcx_tf.core.errors import UserError

# A temporary file or folder says which process on which machine it is of.
_TEMPORARY = re.compile(r"\.rfcx-tf-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(\..*)?", re.DOTALL)
# What another machine has not touched for so long is of a process that is gone.
_STALE_S = 24 * 3600


@contextmanager
def atomic_file(path: str | Path, *, room_bytes: int = 0) -> Iterator[Path]:
    """Yields a temporary path to write to; it takes the place of `path` when the block ends.

    The temporary file lies in the same folder (made if need be), since only within one file
    system is the replacement a single step. It ends in the name of `path`, so that writers
    that go by the extension (`.weights.h5`, `.npz`) behave. If the block raises, it is
    removed, and an earlier `path` stays as it was.

    Args:
        path: of the file.
        room_bytes: that there must be on the disk before anything is written, for writers that
            end badly where it is full (HDF5 ends the process).

    Example:
        with atomic_file("runs/a/history.json") as temporary:
            temporary.write_text(text)

    Raises:
        UserError: if nothing can be written there, or the disk is full.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        _check_room(temporary, room_bytes)
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        if is_disk_full(error):
            raise full_disk(path) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: str | Path) -> Iterator[Path]:
    """Yields a new folder in `parent` for what is moved to its place when it is whole."""
    folder = Path(parent) / _temporary_name()
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(paths: Iterable[Path]) -> None:
    """Removes those of the paths that are temporary files and folders of killed processes."""
    for path in list(paths):
        found = _TEMPORARY.fullmatch(path.name)
        if not found:
            continue
        with suppress(OSError):
            is_old = time.time() - path.lstat().st_mtime > _STALE_S
            host, pid = found[1], int(found[2])
            if is_gone(host, pid) or (host != _host() and is_old):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def is_gone(host: str, pid: int) -> bool:
    """Whether a process has ended for sure; of another machine's nobody knows.

    Args:
        host: name of its machine, or what temporary files have in place of it.
        pid: its number.
    """
    if os.name == "nt" or host not in (socket.gethostname(), _host()):
        return False
    try:
        os.kill(pid, 0)  # Only asks.
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # Another user's.
        return False
    return False


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that nothing more can be stored.

    TensorFlow and HDF5 say so in words only.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error)


def full_disk(path: str | Path) -> UserError:
    """The error for a place on a full disk."""
    return UserError(
        f"There must be room on the disk. {path} could not be written whole, and what was there "
        "before is as it was. Make room and run the same command again."
    )


def check_writable(path: str | Path) -> None:
    """Raises UserError if nothing can be written to `path`: to know before long work."""
    _temporary_beside(Path(path)).unlink()


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text to `path` in one step; see `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_beside(path: Path) -> Path:
    if os.path.exists(path) and not os.path.isfile(path):
        # Also keeps `--out /dev/null` from replacing the device.
        raise UserError(f"An output must be a regular file. {path} is not one; name another.")
    # Of a long name only the end, since ours must not be too long.
    temporary = path.with_name(f"{_temporary_name()}.{path.name[-50:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.stat()  # Raises what the temporary name would not, such as for one too long.
        temporary.touch(exist_ok=False)
    except OSError as error:
        if is_disk_full(error):
            raise full_disk(path) from None
        raise UserError(
            f"{path} cannot be written: its folder cannot be made or written to "
            f"({error.strerror}). Name another place."
        ) from None
    return temporary


def _check_room(path: Path, room_bytes: int) -> None:
    """Raises OSError if a file cannot become so large; it is empty afterwards."""
    if room_bytes and hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, room_bytes)
            file.truncate(0)


def _temporary_name() -> str:
    return f".rfcx-tf-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
