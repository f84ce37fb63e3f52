"""How far work has come, on standard error: a bar on a terminal, else a line every few seconds."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 5.0


class ProgressLine:
    """A context manager whose `update` says how far it is; with `quiet` it says nothing, as ranks other than 0."""

    def __init__(self, quiet: bool = False) -> None:
        # Asked of the stream: FORCE_COLOR, which notebooks set for the processes they start, makes rich take any pipe
        # for a terminal, and every move of the bar would be a line.
        on_terminal = sys.stderr.isatty()
        screen = Console(file=sys.stderr, force_terminal=on_terminal)
        self._bar = Progress(
            BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=screen, disable=quiet or not on_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=1.0)
        self._writes_lines = not quiet and not on_terminal
        self._line_due = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def update(self, text: str, done_share: float) -> None:
        """What is being done, and the share of the whole that is behind it."""
        self._bar.update(self._task, completed=done_share, description=text)
        if self._writes_lines and (done_share >= 1 or time.monotonic() >= self._line_due):
            self._line_due = time.monotonic() + _LINE_SECONDS
            sys.stderr.write(f"{100 * done_share:3.0f} %  {text}\n")
            sys.stderr.flush()
