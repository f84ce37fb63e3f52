"""Discovery by folder: a part exists because its file is there, and bears the file's name.

An analysis is `analyses/<name>.py` with a function `<name>`; a figure is `figures/<name>.py` with a function `<name>`;
a workload is a package `workloads/<name>/`; a study is `studies/<name>.py`. Modules that hold shared code live in
sub-packages (`analyses/core`) or do not define their own name, so nothing is listed twice or by hand.
"""

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

from workbench.errors import InputError


@cache
def functions(package: str) -> tuple[str, ...]:
    """Names of the modules of `package` that define a function of their own name, found without importing them."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(_folder(package))
            if not module.ispkg and _defines(_folder(package), module.name)
        )
    )


@cache
def packages(package: str) -> tuple[str, ...]:
    """Names of the sub-packages of `package`."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(_folder(package)) if module.ispkg))


def function(package: str, name: str, what: str) -> Callable:
    """The function `<package>.<name>.<name>`; an unknown name is an InputError that lists the known ones."""
    check(name, functions(package), what)
    return getattr(importlib.import_module(f"{package}.{name}"), name)


def module(package: str, name: str, what: str) -> ModuleType:
    """The sub-package `<package>.<name>`; an unknown name is an InputError that lists the known ones."""
    check(name, packages(package), what)
    return importlib.import_module(f"{package}.{name}")


def check(name: str, known: tuple[str, ...], what: str) -> None:
    """InputError that lists `known` unless `name` is one of them."""
    if name not in known:
        raise InputError(f"unknown {what} {name!r}: choose one of {', '.join(known) or '(none yet)'}")


def _folder(package: str) -> list[str]:
    return list(importlib.util.find_spec(package).submodule_search_locations)


def _defines(folder: list[str], name: str) -> bool:
    source = next(path for base in folder if (path := Path(base) / f"{name}.py").exists())
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(source.read_text()).body)
