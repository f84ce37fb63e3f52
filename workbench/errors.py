"""The one exception that callers cause."""


class InputError(ValueError):
    """What the caller gave cannot be used: the message is one line - what is wrong, where, and what would be right.

    The command line prints it and exits with 2. Anything else that escapes is our own defect (exit 1).
    """
