"""Results as text: a table for people, JSON or CSV for programs; progress goes to standard error."""

import csv
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from workbench.analyses.core.result import Result
from workbench.errors import InputError
from workbench.metrics import define
from workbench.units import format_row, format_value, printable

# A pipe has no width: wide enough that no column of ours is cut.
_PIPE_WIDTH = 240
_TABLE_ROWS = 30
_PATIENCE_SECONDS = 1.0


def console(stream=None) -> Console:
    """A console on `stream` (standard output) as wide as the terminal, or wide when there is none."""
    stream = stream or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=False)


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Say on standard error what is being done inside, once it has taken a second."""
    timer = threading.Timer(_PATIENCE_SECONDS, sys.stderr.write, [f"{what} ...\n"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def write(results: Sequence[Result], style: str, out: Path | None, single: bool) -> None:
    """Print or save results as table, json or csv. `single`: one object rather than a list of them."""
    if style == "csv" and not single:
        raise InputError("--format csv holds one table: choose one with --analysis")
    if style == "table" and out is None:
        screen = console()
        for result in results:
            print_result(screen, result)
        return
    text = {"json": _json, "csv": _csv, "table": _plain_table}[style](results, single)
    if out is None:
        sys.stdout.write(text)
    else:
        save(out, text)


def save(out: Path, text: str) -> None:
    """Write `text` to `out` whole or not at all."""
    scratch = out.with_name(f".{out.name}.part")
    try:
        scratch.write_text(text)
        scratch.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None


def print_result(screen: Console, result: Result, rows: int = _TABLE_ROWS) -> None:
    """Title, notes, summary, then the first rows."""
    screen.print(f"\n[bold]{result.analysis}[/bold]")
    for note in result.notes:
        screen.print(printable(f"  note: {note}"), markup=False)
    for key, value in result.shown.items():
        screen.print(printable(f"  {key} = {format_value(key, value)}"), markup=False)
    shown = _shown(result)
    if len(result.table):
        print_frame(screen, result.table[shown], rows)
    if len(shown) < len(result.table.columns):
        left_out = ", ".join(column for column in result.table if column not in shown)
        screen.print(f"  json and csv also show: {left_out}", markup=False)


def print_frame(screen: Console, frame: pd.DataFrame, rows: int = _TABLE_ROWS) -> None:
    """A DataFrame with every value in its pretty unit; says how many rows it left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(str(column), justify="right" if numeric else "left", overflow="ellipsis", max_width=44)
    for row in frame.head(rows).to_dict("records"):
        table.add_row(*map(_escape, format_row(row).values()))
    screen.print(table)
    if len(frame) > rows:
        screen.print(f"  ... {len(frame) - rows} more rows: --format json or csv shows all", markup=False)


def _shown(result: Result) -> list[str]:
    """The table's columns without details. Processes without ranks, such as servers, are told by their names."""
    instead, table = {"rank", "process"}, result.table
    named = instead <= set(table) and (table["rank"] == -1).all()

    def is_shown(column: str) -> bool:
        if column in instead and named:
            return column == "process"
        definition = define(result.analysis, column)
        return definition is None or not definition.detail

    return list(filter(is_shown, table))


def progress_reporter() -> tuple[Progress, Callable[[str, float], None]]:
    """A progress bar on standard error and the callback (text, share done) that moves it; use the first with `with`.

    Without a terminal it prints a line when the text changes, so that logs show where the work is.
    """
    # FORCE_COLOR is about colours: a pipe that gets them is still no place for a bar that moves.
    screen = Console(file=sys.stderr, force_terminal=sys.stderr.isatty())
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        console=screen, disable=not screen.is_terminal, transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=1.0)
    last = [""]

    def report(text: str, done_share: float) -> None:
        bar.update(task, description=text, completed=done_share)
        if not screen.is_terminal and text != last[0]:
            last[0] = text
            sys.stderr.write(f"{text} ({100 * done_share:.0f} %)\n")
            sys.stderr.flush()

    return bar, report


def _escape(text: str) -> str:
    """Event names may hold brackets, which rich would read as markup, and control characters."""
    return printable(text).replace("[", "\\[")


def _json(results: Sequence[Result], single: bool) -> str:
    dicts = [result.to_dict() for result in results]
    return json.dumps(dicts[0] if single else dicts, indent=1, allow_nan=False) + "\n"


def _csv(results: Sequence[Result], single: bool) -> str:
    out = io.StringIO()
    frame = results[0].table
    writer = csv.writer(out)
    writer.writerow(frame.columns)
    writer.writerows(["" if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False))
    return out.getvalue()


def _plain_table(results: Sequence[Result], single: bool) -> str:
    out = io.StringIO()
    screen = Console(file=out, width=_PIPE_WIDTH, highlight=False)
    for result in results:
        print_result(screen, result)
    return out.getvalue()
