"""Commands that are killed at one file operation after the other."""

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_CHANGES = ("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir")


class Killed(BaseException):
    """Stands for SIGKILL: from then on every file operation raises it, so nothing is cleaned up."""


class _Killer:
    """An audit hook, since Python tells those of all its file operations before it does them."""

    def __init__(self):
        self.folder: Path | None = None
        self.ending = ""
        self.left = 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple):
        if self.folder is None or event not in _CHANGES:
            return
        path = str(arguments[0])
        # `shutil.rmtree` goes by open folders.
        is_below = path.startswith(str(self.folder)) or (
            event in ("os.remove", "os.rmdir") and arguments[-1] != -1
        )
        # The lock of a killed process goes with it, here it has to be given back.
        counts = path.endswith(self.ending) or self.left < 0
        if is_below and counts and not path.endswith("-lock"):
            self.left -= 1
            if self.left < 0:
                raise Killed


_KILLER = None


def killed_at_every_operation(
    command: Callable[[Path], object],
    folders: Iterator[Path],
    monkeypatch,
    operations: Iterable[int] | None = None,
    ending: str = "",
) -> Iterator[Path]:
    """Runs a command in one folder after the other, and kills it one operation later each time.

    Args:
        command: takes the folder; file operations below it count.
        folders: equal ones, as many as are asked for.
        monkeypatch: of the test.
        operations: before which it is killed, one after the other, where every one takes too long.
        ending: of the paths whose operations count.

    Yields:
        Each folder after the kill; at last one in which the command was not killed.
    """
    global _KILLER
    _KILLER = _KILLER or _Killer()
    numbers = itertools.count() if operations is None else operations
    for number, folder in zip(numbers, folders, strict=False):
        with monkeypatch.context() as patch:
            # No process has this number: half-written files are of one that is gone.
            patch.setattr(os, "getpid", lambda: 2**31 - 1)
            _KILLER.folder, _KILLER.left, _KILLER.ending = folder, number, ending
            try:
                command(folder)
                done = True
            except Killed:
                done = False
            finally:
                _KILLER.folder = None
        yield folder
        if done:
            return


def content(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder: bytes of files by path, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
