"""What callers cause, and what fails by itself: each is one line, never a traceback."""


class InputError(ValueError):
    """What the caller gave cannot be used: the message is one line - what is wrong, where, and what would be right.

    The command line prints it and exits with 2. Anything else that escapes is our own defect (exit 1).
    """


class WorkFailed(RuntimeError):
    """The work itself failed (a rank died, a server did not answer): one line - what, where and why. Exit code 1."""
