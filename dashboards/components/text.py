"""Words and numbers around the figures: notes, key figures, and the states in which there are none."""

import shlex
from collections.abc import Iterable
from pathlib import Path

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards.components.definitions import explained
from workbench.analyses.core.result import Result
from workbench.units import format_value


def notes(lines: Iterable[str]) -> list[Component]:
    """What a reader must know first: coverage, sampling, measured or promised."""
    items = [dmc.ListItem(line) for line in dict.fromkeys(lines)]
    return [dmc.Paper(dmc.List(items, size="sm"), className="card notes")] if items else []


def key_figures(result: Result, keys: Iterable[str]) -> Component:
    """Tiles with those `keys` of the summary that it has; the definition on hover."""
    tiles = [_tile(result, key) for key in keys if key in result.summary]
    return dmc.Box(tiles, className="tiles")


def _tile(result: Result, key: str) -> Component:
    title, explanation = explained(result.analysis, key)
    value = format_value(key, result.summary[key]) or "-"
    shown = dmc.Box([dmc.Text(title, className="tile-label"), dmc.Text(value, className="tile-value")])
    return dmc.Box(dmc.Tooltip(shown, label=explanation, multiline=True, w=380, openDelay=300), className="tile")


def message(title: str, *lines: Component | str, color: str = "gray") -> Component:
    """A state without data: what is the case and what to do."""
    body = [dmc.Text(line, size="sm") if isinstance(line, str) else line for line in lines]
    return dmc.Alert(dmc.Stack(body, gap=6), title=title, color=color, variant="light", className="message")


def no_run_yet(folder: Path) -> Component:
    """The folder holds no run: the command that makes one."""
    command = dmc.Code(f"workbench run training --preset tiny --traces {shlex.quote(str(folder))}", block=True)
    return message("No run yet", f"{folder} holds no run. This makes one in about a minute:", command)


def does_not_apply(result: Result) -> Component:
    """Why the analysis has nothing to say about this run."""
    reasons = [note.removeprefix("not applicable: ") for note in result.notes if note.startswith("not applicable:")]
    return message("This does not apply to this run", *(f"Because {reason.rstrip('.')}." for reason in reasons))


def cannot_show(line: str) -> Component:
    """An InputError's line."""
    return message("This cannot be shown", line, color="red")


def failed(error: Exception) -> Component:
    """A defect of ours: what is known of it here."""
    line = f"{type(error).__name__}: {error}. The server's standard error has the traceback."
    return message("This page failed, which is a defect of the workbench", line, color="red")
