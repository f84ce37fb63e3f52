"""An analysis's options as pages know them: read from its signature, where kinds and defaults are written once."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from workbench import registry
from workbench.analyses import PACKAGE


@dataclass(frozen=True)
class Option:
    """`default` is None for an option that need not be set."""

    key: str
    hint: object
    default: object

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may have; empty where any will do."""
        return tuple(map(str, get_args(self.hint))) if get_origin(self.hint) is Literal else ()

    @property
    def takes_run(self) -> bool:
        """Whether it is the path of another run. Pages give the name of one of the folder, and never a path."""
        return Path in (self.hint, *get_args(self.hint))


@cache
def options_of(analysis: str) -> Mapping[str, Option]:
    """The options of `analysis` by name, in the order of its signature."""
    function = registry.function(PACKAGE, analysis, "analysis")
    hints = get_type_hints(function)
    return {
        key: Option(key, hints[key], parameter.default)
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
