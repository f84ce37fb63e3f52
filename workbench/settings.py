"""Typed `key=value` settings: one parser for workload configurations and analysis options.

A field's annotation decides: int, float, str, bool, `X | None`, `tuple[X, ...]` (comma-separated) and Literal.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from workbench.errors import InputError

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def split_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """['ranks=2', 'data=x'] -> {'ranks': '2', 'data': 'x'}."""
    pairs = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key:
            raise InputError(f"--set {assignment!r} is not of the form key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def configure(config: Any, settings: Mapping[str, Any]) -> Any:
    """A copy of the frozen dataclass `config` with `settings` applied; a wrong key or type is an InputError."""
    hints = get_type_hints(type(config))
    known = {field.name: hints[field.name] for field in dataclasses.fields(config) if field.init}
    return dataclasses.replace(config, **_cast_all(known, settings, type(config).__name__))


def options(function: Callable, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword options for `function(run, *, option=...)`, cast by its annotations."""
    hints = get_type_hints(function)
    known = {
        name: hints.get(name, str)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return _cast_all(known, settings, f"analysis {function.__name__}")


def _cast_all(known: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = [key for key in settings if key not in known]
    if unknown:
        choices = ", ".join(sorted(known)) or "none"
        raise InputError(f"unknown setting {unknown[0]!r} for {where}: settings are {choices}")
    return {key: cast(value, known[key], key) for key, value in settings.items()}


def cast(value: Any, kind: Any, key: str) -> Any:
    """`value` (usually text) as the annotated type `kind`; InputError names the key, the value and the type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _cast_union(value, arguments, key)
    if origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"setting {key}={value!r}: choose one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(cast(part, arguments[0], key) for part in parts if part != "")
    if kind is bool:
        return _cast_bool(value, key)
    numeric = kind in (int, float)
    if isinstance(value, kind) and not (numeric and isinstance(value, bool)):
        return value
    if (
        not isinstance(value, (str, int, float))
        or isinstance(value, bool)
        or (kind is int and isinstance(value, float))
    ):
        raise InputError(f"setting {key}={value!r} is not {_type_name(kind)}")
    try:
        return kind(value.replace("_", "") if kind is int and isinstance(value, str) else value)
    except ValueError:
        raise InputError(f"setting {key}={value!r} is not {_type_name(kind)}") from None


def _cast_union(value: Any, arguments: tuple, key: str) -> Any:
    if value is None or (type(None) in arguments and value == "none"):
        return None
    return cast(value, next(kind for kind in arguments if kind is not type(None)), key)


def _cast_bool(value: Any, key: str) -> bool:
    text = str(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InputError(f"setting {key}={value!r} is not true or false")


def _type_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text"}.get(kind, getattr(kind, "__name__", str(kind)))
