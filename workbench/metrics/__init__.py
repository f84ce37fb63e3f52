"""Every metric, defined once: `<analysis>.toml` here holds title, unit, formula, source, limits and overlap rule.

Help text (`workbench list --definitions`), table headers, tooltips and docs are made from these records; a test demands
that every key an analysis puts into its rows or summary has one. `common.toml` holds the keys that mean
the same everywhere.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workbench.errors import InputError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One metric. `unit` is the base unit that the key ends in; `overlap` says what concurrent work counts as.

    A `detail` is left out where room is scarce (terminals); JSON, CSV and pages hold every column.
    """

    analysis: str
    key: str
    title: str
    unit: str
    formula: str
    source: str
    limits: str = ""
    overlap: str = ""
    detail: bool = False

    @property
    def text(self) -> str:
        """One paragraph for a tooltip."""
        parts = [f"{self.title} [{self.unit}]" if self.unit else self.title, self.formula]
        parts += [f"Overlap: {self.overlap}"] if self.overlap else []
        parts += [f"Limits: {self.limits}"] if self.limits else []
        return ". ".join(part.rstrip(".") for part in parts) + f". Source: {self.source.rstrip('.')}."


@cache
def definitions(analysis: str | None = None) -> tuple[Definition, ...]:
    """All definitions, or those of one analysis (without the common ones)."""
    names = [analysis] if analysis else sorted(path.stem for path in _FOLDER.glob("*.toml"))
    found = []
    for name in names:
        path = _FOLDER / f"{name}.toml"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.toml")))
            raise InputError(f"no definitions for {name!r}: choose one of {known}")
        for key, fields in tomllib.loads(path.read_text()).items():
            found.append(Definition(analysis=name, key=key, **fields))
    return tuple(found)


@cache
def define(analysis: str, key: str) -> Definition | None:
    """The definition of `key` in `analysis`, else the common one, else None."""
    own = definitions(analysis) if (_FOLDER / f"{analysis}.toml").exists() else ()
    return next((d for d in (*own, *definitions("common")) if d.key == key), None)
