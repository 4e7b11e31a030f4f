"""Files that are either written whole or left as they were."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rfcx_tf.core.errors import UserError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it takes the place of `path` when the block ends.

    The temporary file lies in the same folder (made if need be), since only within one file
    system is the replacement a single step. It ends in the name of `path`, so that writers
    that go by the extension (`.weights.h5`, `.npz`) behave. If the block raises, it is
    removed, and an earlier `path` stays as it was.

    Example:
        with atomic_file("runs/a/history.json") as temporary:
            temporary.write_text(text)

    Raises:
        UserError: if nothing can be written there.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name[-50:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.stat()  # Raises what the temporary name would not, such as for one too long.
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: its folder cannot be made or written to "
            f"({error.strerror}). Name another place."
        ) from None
    return temporary
