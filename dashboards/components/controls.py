"""Controls of a page: what people may choose, and where the URL keeps it."""

from collections.abc import Iterable, Mapping, Sequence

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards.options import Option
from dashboards.view import FILTER

_TYPING_PAUSE_MS = 400


def control_id(key: str, default: object) -> dict:
    """Id of the control that sets `key` of the URL; `default` is the value that needs no word there."""
    return {"type": "control", "key": key, "default": "" if default is None else str(default)}


def controls(options: Iterable[Option], query: Mapping[str, str], runs: Sequence[str]) -> Component:
    """One control for each option, showing what `query` or else the default says, and the row filter. `runs` are the
    names to choose from where an option is another run."""
    made = [_control(option, query.get(option.key), runs) for option in options]
    return dmc.Group([*made, filter_control(query)], align="end")


def filter_control(query: Mapping[str, str]) -> Component:
    """Which rows of the page's table are shown: those with this text."""
    return _text_input(control_id(FILTER, None), query.get(FILTER), "Rows with", "any text")


def _control(option: Option, text: str | None, runs: Sequence[str]) -> Component:
    identity, label = control_id(option.key, option.default), option.key.replace("_", " ").capitalize()
    if option.takes_run:
        return dmc.Select(
            id=identity, value=text, data=list(runs), label=label, placeholder="no other run", clearable=True,
            searchable=True, nothingFoundMessage="no such run", size="xs", w=320,
        )  # fmt: skip
    if not option.choices:
        return _text_input(identity, text, label, "not set")
    choice = text or identity["default"]
    control = dmc.SegmentedControl(id=identity, value=choice, data=list(option.choices), size="xs")
    return dmc.Stack([dmc.Text(label, className="control-label"), control], gap=2)


def _text_input(identity: dict, text: str | None, label: str, placeholder: str) -> Component:
    return dmc.TextInput(
        id=identity, value=text or identity["default"], label=label, placeholder=placeholder,
        debounce=_TYPING_PAUSE_MS, size="xs", w=150,
    )  # fmt: skip
