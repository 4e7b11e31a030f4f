"""Errors: most of them a user can mend, in data, files, arguments, settings."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Input that cannot be used.

    The text is one line for the user: the rule, what was found and where, what to do. A verb
    prints it and exits with status 2.
    """


class WorkStopped(RuntimeError):
    """Work that cannot go on although its input is right: another worker is gone.

    The text is one line that says what is kept and how to go on. A verb prints it and exits with
    status 1.
    """


class DecodingError(Exception):
    """A sound file that cannot be decoded, or not to its end; the message says why."""


def first_few(names: Iterable[str], limit: int = 3) -> str:
    """A count and the first few of many names, for an error message: `5 (a, b, c, ...)`."""
    names = list(names)
    if not names:
        return "none"
    shown = names[:limit] + ["..."] * (len(names) > limit)
    return f"{len(names)} ({', '.join(shown)})"
