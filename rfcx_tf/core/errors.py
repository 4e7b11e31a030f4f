"""The one exception for bad input from outside: data, files, arguments."""


class InputError(ValueError):
    """Input that cannot be used.

    The text is one line for the user: the rule, what was found and where, what to do.
    Scripts print it and exit with status 2.
    """
