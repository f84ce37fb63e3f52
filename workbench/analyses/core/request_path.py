"""Requests as trees of spans over all processes, and the spans that each one waited for: its critical path.

The path is walked backward from the end of every span, as CRISP does (Zhang et al., USENIX ATC 2022): what ended last
is what was waited for. Spans on a span's own lane follow one another. Strands beside it count only where the lane waits
for them (a span `..._wait`), and of those only the last to end. A span of another process counts by its duration, so
no two machines' clocks are ever subtracted. What a span on the path spends outside its children is its own: the own
times of a request's path sum to its duration.

A run that worked through its strands one after the other (setting `uncontended`) has strands that no other slowed.
Put side by side again they model a machine with a core for each: a wait then takes as long as the longest of them.
"""

from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd

from workbench.analyses.core.rows import of_category, tagged
from workbench.trace.run import Run

_SAME_LANE, _BESIDE, _ELSEWHERE = range(3)


@dataclass(frozen=True)
class Paths:
    """Spans of distributed requests [spans], `events` in the run's order; all arrays are by row of it.

    `parent` and `request` are rows, -1 for none: the span that caused this one, and the root of its tree. `own_ns` is
    the time on the request's critical path outside children, 0 off the path.
    """

    events: pd.DataFrame
    parent: np.ndarray
    request: np.ndarray
    on_path: np.ndarray
    own_ns: np.ndarray
    modelled: bool

    @property
    def roots(self) -> np.ndarray:
        """Rows of the requests, by their start."""
        rows = np.unique(self.request[self.request >= 0])
        return rows[np.argsort(self.events["start_ns"].to_numpy()[rows], kind="stable")]


def request_paths(run: Run) -> Paths | None:
    """The paths of all requests that were answered, warm-up left out; None where the run traced no request.

    A request is the caller's span, or the main shard's handler where no caller was recorded.
    """
    events = run.events[run.events["span_id"] != 0].drop_duplicates("span_id").reset_index(drop=True)
    parent = pd.Index(events["span_id"]).get_indexer(events["parent_span_id"])
    is_root = _roots(events, parent)
    if not is_root.any():
        return None
    start_ns = events["start_ns"].to_numpy()
    end_ns = start_ns + events["duration_ns"].to_numpy()
    children = np.lexsort((-end_ns, parent))  # by parent, the last to end first
    first = np.searchsorted(parent[children], np.arange(len(events) + 1))
    waits = of_category(events["name"], lambda name: name.endswith("_wait"))
    modelled = bool(run.manifest.get("config", {}).get("uncontended", False))
    roots, link = np.flatnonzero(is_root), _links(events, parent)
    on_path, own_ns = _walk(roots, children, first, link, waits, start_ns, end_ns, modelled)
    return Paths(events, parent, ancestors(parent, is_root), on_path, own_ns, modelled)


def _roots(events: pd.DataFrame, parent: np.ndarray) -> np.ndarray:
    """Mask [spans] of the requests that were answered."""
    top, name = parent < 0, events["name"]
    named = top & (name == "request").to_numpy()
    if not named.any():
        named = top & (name == "handler").to_numpy() & (events["process"] == "main").to_numpy()
    return named & ~tagged(events, "warmup") & ~tagged(events, "error")


def _links(events: pd.DataFrame, parent: np.ndarray) -> np.ndarray:
    """How each span [spans] runs to the span that caused it: on its lane, beside it, or in another process."""
    process, lane = (events[column].cat.codes.to_numpy() for column in ("process", "lane"))
    beside = np.where(lane == lane[parent], _SAME_LANE, _BESIDE)
    return np.where(process == process[parent], beside, _ELSEWHERE)


@numba.njit(cache=True)
def ancestors(parent, marked):
    """For each span [spans]: itself or its nearest ancestor that is marked; -1 for none, or causes in a circle."""
    found = np.full(len(parent), -1)
    for span in range(len(parent)):
        above, steps = span, 0
        while above >= 0 and not marked[above] and steps <= len(parent):
            above, steps = parent[above], steps + 1
        if above >= 0 and marked[above]:
            found[span] = above
    return found


@numba.njit(cache=True)
def _walk(roots, children, first, link, waits, start_ns, end_ns, side_by_side):
    """(on the path?, own time) of every span."""
    on_path, own_ns = np.zeros(len(start_ns), dtype=np.bool_), np.zeros(len(start_ns), dtype=np.int64)
    left = list(roots)
    while left:
        span = left.pop()
        on_path[span] = True
        cursor_ns, covered_ns = end_ns[span], 0
        for child in children[first[span] : first[span + 1]]:
            duration_ns = end_ns[child] - start_ns[child]
            if link[child] == _ELSEWHERE:
                covered_ns += duration_ns
                left.append(child)
                continue
            if link[child] == _BESIDE or end_ns[child] > cursor_ns:
                continue
            strand, from_ns, to_ns = -1, start_ns[child], start_ns[child]
            if waits[child]:
                strands = children[first[span] : first[span + 1]], children[first[child] : first[child + 1]]
                strand, from_ns, to_ns = _waited_for(child, strands, link, start_ns, end_ns, side_by_side)
            if strand < 0:
                cursor_ns = start_ns[child]
                covered_ns += duration_ns
                left.append(child)
                continue
            # The wait itself costs what passes before the first strand begins and after the last has ended.
            cursor_ns = min(from_ns, start_ns[child])
            own_ns[child] = end_ns[child] - max(to_ns, start_ns[child]) + from_ns - cursor_ns
            on_path[child] = True
            covered_ns += end_ns[child] - cursor_ns
            meanwhile_ns = 0
            for other in children[first[span] : first[span + 1]]:
                if link[other] == _SAME_LANE and start_ns[other] >= cursor_ns and end_ns[other] <= start_ns[child]:
                    meanwhile_ns += end_ns[other] - start_ns[other]
            if end_ns[strand] - start_ns[strand] >= meanwhile_ns:
                left.append(strand)
            else:  # side by side only: what the lane itself did meanwhile takes longer than any strand
                cursor_ns = start_ns[child]
                covered_ns -= meanwhile_ns
        own_ns[span] = end_ns[span] - start_ns[span] - covered_ns
    return on_path, own_ns


@numba.njit(cache=True)
def _waited_for(wait, strands, link, start_ns, end_ns, side_by_side):
    """(the strand that a wait ends with, -1 for none; start of the first, end of the last that count).

    As measured that is the last to end, and alone counts; side by side it is the longest, and all count.
    """
    found, from_ns, to_ns = -1, start_ns[wait], start_ns[wait]
    for children in strands:
        for child in children:
            if link[child] != _BESIDE or end_ns[child] > end_ns[wait]:
                continue
            if not side_by_side and end_ns[child] <= to_ns:
                continue
            longer = found < 0 or end_ns[child] - start_ns[child] > end_ns[found] - start_ns[found]
            from_ns = min(from_ns, start_ns[child]) if side_by_side and found >= 0 else start_ns[child]
            to_ns = max(to_ns, end_ns[child])
            found = child if longer or not side_by_side else found
    return found, from_ns, to_ns
