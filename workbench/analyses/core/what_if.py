"""A change to try out: "aten::mm=0.5,communication=0" makes everything of that name or kind take so many times as long.

A name stands for an event with all that runs inside it and all that is launched there, unless something inside has a
factor of its own; the name of a launching call stands for that call alone. A kind stands for the self time of its
events; a name wins over a kind.
"""

import difflib
import math
import re

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import positions
from workbench.errors import InputError
from workbench.trace.readers.links import inherit

# Names hold commas and equals signs (C++ templates): an entry ends at a number that a comma or the end follows.
_ENTRY = re.compile(r"\s*(.+?)\s*=\s*([0-9.eE+-]+)\s*(?:,|$)")


def parse_factors(text: str) -> dict[str, float]:
    """'aten::mm=0.5,communication=0' -> {'aten::mm': 0.5, 'communication': 0.0}; InputError where it is none."""
    factors, at = {}, 0
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise InputError(f"what_if {text[at:]!r} is not of the form name=factor,kind=factor")
        factors[entry[1]], at = _factor(*entry.groups()), entry.end()
    return factors


def work_factors(events: pd.DataFrame, factors: dict[str, float]) -> np.ndarray:
    """Factor [events] of each event's work, 1 where nothing names it."""
    by_name = _numbered(events["name"], factors)
    parents = positions(events, events["parent_id"].to_numpy())
    by_name = inherit(by_name, parents)
    is_call = (events["kind"] == "runtime").to_numpy()
    launched = np.flatnonzero((by_name == 0) & (events["launch_id"] >= 0).to_numpy())
    launch = positions(events, events["launch_id"].to_numpy()[launched])
    by_name[launched] = np.append(by_name, 0)[np.where(is_call[launch], parents[launch], launch)]
    number = np.where(by_name > 0, by_name, _numbered(events["kind"], factors))
    return np.array([1.0, *factors.values()])[number]


def check_named(factors: dict[str, float], known: set[str]) -> None:
    """InputError for a factor of something that is not there, with what may have been meant."""
    for name in factors:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
            meant = f": did you mean {' or '.join(near)}?" if near else "; use a name or kind of the table"
            raise InputError(f"what_if names {name!r}, and nothing in this run is called so{meant}")


def _factor(name: str, text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise InputError(f"what_if {name}={text}: a factor is a number of at least 0")
    return factor


def _numbered(column: pd.Series, factors: dict[str, float]) -> np.ndarray:
    """1 + the place of each event's name or kind among `factors`, 0 where it is not there [events]."""
    place = {name: number for number, name in enumerate(factors, 1)}
    return np.array([place.get(name, 0) for name in column.cat.categories] + [0])[column.cat.codes]
