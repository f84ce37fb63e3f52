"""Which nn.Module ran: the profiler (with_stack or with_modules) records a Python event around each forward call."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import of_category
from workbench.trace.nesting import parents

NO_MODULE = "(no module)"
_PREFIX = "nn.Module: "
# As the reader names the lane of a thread's Python calls.
_PYTHON_LANE = "/python"


def module_calls(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of the calls of modules."""
    in_python = of_category(events["lane"], lambda lane: lane.endswith(_PYTHON_LANE))
    return in_python & of_category(events["name"], lambda name: name.startswith(_PREFIX))


def modules_around(events: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(module [n], path [n]) of host events (their rows [n] in `events`, -1 for none): the innermost module open on the
    same thread when the event began, and the modules around that one, outermost first and joined by dots.

    NO_MODULE and "" where none was open, as in the backward pass, which runs on another thread.
    """
    calls, asked = np.flatnonzero(module_calls(events)), np.flatnonzero(rows >= 0)
    together = np.concatenate([calls, rows[asked]])
    durations_ns = events["duration_ns"].to_numpy()[together]
    durations_ns[len(calls) :] = 0  # where an event began is all that matters
    around = parents(_threads(events)[together], events["start_ns"].to_numpy()[together], durations_ns)
    names = events["name"].iloc[calls].astype(object).str.removeprefix(_PREFIX).to_numpy()
    path = _paths(names, around[: len(calls)])
    module, paths = np.full(len(rows), NO_MODULE, dtype=object), np.full(len(rows), "", dtype=object)
    inside = around[len(calls) :] >= 0
    innermost = around[len(calls) :][inside]
    module[asked[inside]] = names[innermost]
    paths[asked[inside]] = [path(call) for call in innermost.tolist()]
    return module, paths


def _threads(events: pd.DataFrame) -> np.ndarray:
    """Code [events] of the process and thread; a thread's Python calls share it."""
    lanes = events["lane"].cat.categories.str.removesuffix(_PYTHON_LANE)
    threads = pd.factorize(lanes)[0][events["lane"].cat.codes.to_numpy()]
    return events["process"].cat.codes.to_numpy(dtype=np.int64) * len(lanes) + threads


def _paths(names: np.ndarray, parent: np.ndarray) -> Callable[[int], str]:
    """A function that joins the names of the calls around call i; `parent` [calls] is -1 at the outermost."""

    @cache
    def path(call: int) -> str:
        above = int(parent[call])
        return "" if above < 0 else f"{path(above)}.{names[above]}".removeprefix(".")

    return path
