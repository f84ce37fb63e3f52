"""What of a run to load: an interval of time, some ranks, some kinds of events.

Ranks decide which files are read at all, and the interval which events of a profiler trace are kept while it is
decoded. Kinds cut the finished tables: which operator launched a kernel is only known while both are there.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.settings import cast
from workbench.trace.run import Run
from workbench.trace.schema import KINDS

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Filters:
    """`between_s` counts from the first event of the loaded ranks; None: everything."""

    between_s: tuple[float, float] | None
    ranks: tuple[int, ...] | None
    kinds: tuple[str, ...] | None

    def takes(self, rank: int | None) -> bool:
        """Whether to load this rank; None stands for one that is not known yet."""
        return self.ranks is None or rank is None or rank in self.ranks

    def window_ns(self, first_ns: int) -> tuple[int, int]:
        """The interval on the clock on which the first event starts at `first_ns`."""
        start_s, end_s = self.between_s
        return first_ns + round(start_s * _NANOSECONDS), first_ns + round(end_s * _NANOSECONDS)

    def note(self, run: Run) -> list[str]:
        """What `run` was cut down to, and what of it is not there."""
        parts = [f"{self.between_s[0]:g} to {self.between_s[1]:g} s from its first event"] if self.between_s else []
        parts += [f"ranks {', '.join(map(str, self.ranks))}"] if self.ranks else []
        parts += [f"events that are {', '.join(self.kinds)}"] if self.kinds else []
        if not parts:
            return []
        missing = sorted(set(self.ranks or ()) - {part["rank"] for part in run.parts})
        absent = [f"no rank {', '.join(map(str, missing))} is here"] if missing else []
        empty = [] if len(run.events) else ["no event is left"]
        return ["; ".join([f"only this was loaded: {' and '.join(parts)}", *absent, *empty])]


def filters(between: object = None, ranks: object = None, kinds: object = None) -> Filters:
    """Filters from numbers, or from their text: `between` "0.5:2" or (0.5, 2), `ranks` "0,3" or [0, 3], `kinds`
    "compute,communication" or a list. InputError names what is wrong."""
    return Filters(
        None if between is None else _between(between),
        None if ranks is None else _several(ranks, int, "ranks"),
        None if kinds is None else _several(kinds, Literal[KINDS], "kinds"),
    )


def cut_interval(run: Run, chosen: Filters) -> None:
    """Keep what lies wholly in the chosen interval."""
    if chosen.between_s is None or len(run.events) == 0:
        return
    start_ns = run.events["start_ns"].to_numpy()
    end_ns = start_ns + run.events["duration_ns"].to_numpy()
    first_ns, last_ns = chosen.window_ns(int(start_ns.min()))
    _keep(run, (start_ns >= first_ns) & (end_ns <= last_ns))
    run.memory = run.memory[run.memory["time_ns"].between(first_ns, last_ns)].reset_index(drop=True)


def cut_kinds(run: Run, chosen: Filters) -> None:
    """Keep the chosen kinds."""
    if chosen.kinds is not None:
        _keep(run, run.events["kind"].isin(chosen.kinds).to_numpy())


def _keep(run: Run, kept: np.ndarray) -> None:
    """Cut the tables down to the events [n] of the mask, which are numbered anew. An event whose parent goes becomes a
    child of the nearest ancestor that stays."""
    events = run.events
    rows = events["event_id"].to_numpy()
    number = np.full(int(rows.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last stands for id -1
    number[rows[kept]] = np.arange(int(kept.sum()))
    above = np.full(len(number), -1, dtype=np.int64)
    above[rows] = events["parent_id"].to_numpy()
    parents = events["parent_id"].to_numpy()[kept]
    while (gone := (parents >= 0) & (number[parents] < 0)).any():
        parents[gone] = above[parents[gone]]
    run.events = events[kept].reset_index(drop=True).assign(
        event_id=np.arange(int(kept.sum())), parent_id=number[parents],
        launch_id=number[events["launch_id"].to_numpy()[kept]],
    )  # fmt: skip
    for name in ("traffic", "splits"):
        table = getattr(run, name)
        of = number[table["event_id"].to_numpy()]
        setattr(run, name, table.assign(event_id=of)[of >= 0].reset_index(drop=True))
    run.memory = run.memory.assign(event_id=number[run.memory["event_id"].to_numpy()])
    edges = number[run.dependencies.to_numpy()]
    run.dependencies = pd.DataFrame(edges[(edges >= 0).all(axis=1)], columns=list(run.dependencies))


def _between(value: object) -> tuple[float, float]:
    found = value.split(":") if isinstance(value, str) else value
    try:
        start_s, end_s = map(float, found)
        good = 0 <= start_s < end_s < math.inf
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"between={value!r} is no interval: give START:END in seconds from the first event")
    return start_s, end_s


def _several(value: object, kind: object, key: str) -> tuple:
    """Distinct values of this kind, in order; at least one."""
    found = cast(value, tuple[kind, ...], key) if isinstance(value, Iterable) else ()
    if not found:
        raise InputError(f"{key}={value!r} names none: give one or more, separated by commas")
    return tuple(sorted(set(found)))
