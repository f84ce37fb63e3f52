"""Controls of a page, made from the signature of its analysis: kinds and defaults are written down once, there."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Literal, get_args, get_origin, get_type_hints

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dashboards.view import FILTER
from workbench import registry
from workbench.analyses import PACKAGE

_TYPING_PAUSE_MS = 400


def control_id(key: str, default: object) -> dict:
    """Id of the control that sets `key` of the URL; `default` is the value that needs no word there."""
    return {"type": "control", "key": key, "default": "" if default is None else str(default)}


def controls(analysis: str, keys: Iterable[str], query: Mapping[str, str]) -> Component:
    """One control for each option in `keys`, showing what `query` or else the analysis says, and the row filter."""
    function = registry.function(PACKAGE, analysis, "analysis")
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    made = [_control(control_id(key, parameters[key].default), hints[key], query.get(key)) for key in keys]
    return dmc.Group([*made, filter_control(query)], align="end")


def filter_control(query: Mapping[str, str]) -> Component:
    """Which rows of the page's table are shown: those with this text."""
    return _text_input(control_id(FILTER, None), query.get(FILTER), "Rows with", "any text")


def _control(identity: dict, hint: object, text: str | None) -> Component:
    label = identity["key"].replace("_", " ").capitalize()
    if get_origin(hint) is not Literal:
        return _text_input(identity, text, label, "not set")
    choices = [str(choice) for choice in get_args(hint)]
    control = dmc.SegmentedControl(id=identity, value=text or identity["default"], data=choices, size="xs")
    return dmc.Stack([dmc.Text(label, className="control-label"), control], gap=2)


def _text_input(identity: dict, text: str | None, label: str, placeholder: str) -> Component:
    return dmc.TextInput(
        id=identity, value=text or identity["default"], label=label, placeholder=placeholder,
        debounce=_TYPING_PAUSE_MS, size="xs", w=150,
    )  # fmt: skip
