"""Progress of long work: a bar in a terminal, a line every so often in a log file."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

_LINE_EVERY_S = 30.0
_LINE = (
    "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


def progress_bar(iterable=None, *, shown: bool = True, bar_format: str | None = None, **options):
    """A `tqdm` on stderr.

    Where that is no terminal, every state is a line without control characters and without a bar:
    the first, one every half minute, and the last.

    Args:
        iterable, options: as of `tqdm`.
        shown: whether there is anything to see.
        bar_format: as of `tqdm`, with the bar as `|{bar}|`.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(iterable, disable=not shown, bar_format=bar_format, **options)
    bar_format = (bar_format or _LINE).replace("|{bar}|", "")
    return tqdm(
        iterable,
        disable=not shown,
        bar_format=bar_format,
        file=_Lines(sys.stderr),
        mininterval=_LINE_EVERY_S,
        maxinterval=_LINE_EVERY_S,
        **options,
    )


def keras_verbosity(shown: bool) -> int:
    """`verbose` of Keras: its bar in a terminal, else a line an epoch; 0 where nothing is shown.

    Its own choice is a bar with colours and backspaces, whatever stdout is.
    """
    if not shown:
        return 0
    return 1 if sys.stdout is not None and sys.stdout.isatty() else 2


class _Lines:
    """Takes what `tqdm` writes to a terminal, and writes lines; the same line twice is one."""

    def __init__(self, file: TextIO):
        self._file = file
        self._last = ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:
            self._file.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        self._file.flush()
