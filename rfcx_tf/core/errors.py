"""Errors that a user can mend: data, files, arguments, settings."""


class UserError(ValueError):
    """Input that cannot be used.

    The text is one line for the user: the rule, what was found and where, what to do. A verb
    prints it and exits with status 2.
    """


class WorkStopped(RuntimeError):
    """Work that cannot go on, through no fault of its input: another worker is gone.

    The text is one line that says what is kept and how to go on. A verb prints it and exits with
    status 1.
    """
