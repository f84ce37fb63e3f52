"""From a run to its event graphs, one for each window of its steps.

Events are cut to their self time, and a link between lanes is tied to the pieces that it falls on. Times are int64 ns
since the start of the window.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.analyses.core.collectives import collectives
from workbench.analyses.core.event_graph import ARRIVAL, MEETING, NO_EVENT, WAITING, WORK, EventGraph
from workbench.analyses.core.event_graph_device import link_devices
from workbench.analyses.core.event_graph_host import (
    clocks_ahead_ns,
    link_ranks,
    link_spans,
    link_threads,
    link_transfers,
)
from workbench.analyses.core.event_graph_lanes import Lanes, Window, lanes, windows, within
from workbench.analyses.core.event_graph_links import CAUSES, Collector, Links
from workbench.analyses.core.rows import positions
from workbench.analyses.core.segments import self_segments
from workbench.trace.run import Run


@dataclass(frozen=True)
class EventGraphs:
    """`graphs` [w] and the `windows` [w] they cover, in time since a window's start; `ahead_ns`: by how much the clock
    of each process is ahead of theirs; `acausal`: links that contradict the clock and were left out."""

    lanes: Lanes
    links: Links
    windows: list[Window]
    graphs: list[EventGraph]
    ahead_ns: dict[str, int]
    acausal: int


def event_graphs(run: Run) -> EventGraphs | None:
    """The graphs of the sampled steps; None for a run in which nothing took any time on a thread or stream."""
    events = run.events
    if len(events) == 0:
        return None
    found = collectives(run)
    ahead_ns = clocks_ahead_ns(found)
    on = lanes(events, ahead_ns)
    if len(on.rows) == 0:
        return None
    collector = Collector()
    link_devices(events, on, collector)
    link_threads(events, on, collector)
    link_spans(events, on, collector)
    if found is not None:
        transfers = positions(events, found.calls["event_id"].to_numpy())
        link_ranks(on, found, transfers, collector)
        if found.seen_by == "gloo":
            link_transfers(events, on, transfers, collector)
    links, formed, graphs = collector.links(), [], []
    for window in windows(events, on):
        inside = within(events, on, window)
        if len(inside):
            formed.append(window)
            graphs.append(event_graph(inside, links.within(window.start_ns, window.end_ns)))
    return EventGraphs(on, links, formed, graphs, ahead_ns, collector.acausal) if formed else None


def event_graph(events: pd.DataFrame, links: Links) -> EventGraph:
    """The graph of `events` (lane, start_ns, end_ns, event: their row), by lane, from time 0 on, and of their links."""
    pieces = _pieces(events, links.waits, links.meetings)
    find = _Finder(pieces.lane, pieces.start_ns)
    edges = pd.concat([_tied(pieces, find, links.edges), _gathered(pieces, find, links.meetings)])
    edges = edges.sort_values("target", kind="stable")
    return EventGraph(
        start_ns=pieces.start_ns.astype(float), finish_ns=pieces.finish_ns.astype(float),
        lane=pieces.lane, role=pieces.role, event=pieces.event,
        first_edge=np.searchsorted(edges["target"], np.arange(len(pieces.lane) + 1, dtype=np.int32)).astype(np.int32),
        source=edges["source"].to_numpy(), offset_ns=edges["offset_ns"].to_numpy(float),
        cause=edges["cause"].to_numpy(),
    )  # fmt: skip


class _Pieces(NamedTuple):
    """Pieces [p] by lane and start: an arrival before what else starts at its instant, each meeting on a lane of its
    own behind the others. Only work takes time of its own."""

    lane: np.ndarray
    start_ns: np.ndarray
    finish_ns: np.ndarray
    event: np.ndarray
    role: np.ndarray


def _pieces(events: pd.DataFrame, waits: pd.DataFrame, meetings: pd.DataFrame) -> _Pieces:
    early = meetings[meetings["held"] & (meetings["leaves_ns"] > meetings["arrives_ns"])]
    early = early.rename(columns={"arrives_ns": "start_ns", "leaves_ns": "end_ns"})
    waits = pd.concat([waits, early]).assign(event=NO_EVENT).sort_values("lane", kind="stable")
    works = _self_time(_inserted(events, np.searchsorted(events["lane"], waits["lane"], side="right"), waits))
    end_ns, waiting = works.pop("end_ns"), works["event"] == NO_EVENT
    works |= {
        "finish_ns": np.where(waiting, works["start_ns"], end_ns),
        "role": np.where(waiting, np.int8(WAITING), np.int8(WORK)),
    }
    arrivals = meetings[["lane"]].assign(start_ns=meetings["arrives_ns"], role=ARRIVAL)
    last_ns = meetings.groupby("meeting", as_index=False)["arrives_ns"].max().rename(columns={"arrives_ns": "start_ns"})
    gathered = last_ns.assign(lane=works["lane"].max() + 1 + last_ns.index, role=MEETING)
    instants = pd.concat([arrivals, gathered]).sort_values(["lane", "start_ns"], kind="stable")
    instants = instants.assign(finish_ns=instants["start_ns"], event=NO_EVENT)
    at = _Finder(works["lane"], works["start_ns"]).place(instants["lane"], instants["start_ns"])
    return _Pieces(**_inserted(works, at, instants))


def _inserted(table: Mapping, at: np.ndarray, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of `table` with each of the `rows` [n] put in before the place [n]."""
    columns = {name: np.asarray(table[name]) for name in table}
    if len(rows) == 0:
        return columns  # millions of rows, which need no copy
    return {name: np.insert(column, at, rows[name]) for name, column in columns.items()}


def _self_time(events: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """lane, start_ns, end_ns, event of the events' self time, lane by lane, as they are given."""
    lane, start_ns, end_ns, event = (events[name] for name in ("lane", "start_ns", "end_ns", "event"))
    first, cut = np.flatnonzero(np.diff(lane, prepend=-1)), []
    for low, high in zip(first, [*first[1:], len(lane)], strict=True):
        own, whole = slice(low, high), np.zeros(high - low, dtype=bool)
        cut.append(self_segments(start_ns[own], end_ns[own], event[own], whole))
    columns = {name: np.concatenate([getattr(part, name) for part in cut]) for name in ("start_ns", "end_ns", "event")}
    return {"lane": np.repeat(lane[first], [len(part.event) for part in cut])} | columns


def _tied(pieces: _Pieces, find: "_Finder", edges: pd.DataFrame) -> pd.DataFrame:
    """target, source, offset_ns, cause of the edges that fall on pieces at both ends."""
    source = find.under_way(edges["source_lane"], edges["departs_ns"])
    target = find.starting(edges["target_lane"], edges["arrives_ns"])
    left_ns = np.minimum(edges["departs_ns"], pieces.finish_ns[source])
    tied = edges[["cause"]].assign(source=source, target=target, offset_ns=left_ns - pieces.start_ns[source])
    return tied[(source >= 0) & (target >= 0)]


def _gathered(pieces: _Pieces, find: "_Finder", meetings: pd.DataFrame) -> pd.DataFrame:
    """The edges from each arrival to its meeting, and from there to what a rank goes on with that was held."""
    arrival = find.starting(meetings["lane"], meetings["arrives_ns"])
    meeting = (len(pieces.lane) - meetings["meeting"].nunique()) + meetings["meeting"].factorize(sort=True)[0]
    onward = find.starting(meetings["lane"], meetings["leaves_ns"])
    onward += pieces.role[onward] == ARRIVAL  # of a rank that came last: it goes on at once
    held = (meetings["held"] & (onward >= 0)).to_numpy()
    gathered = pd.DataFrame(
        {"target": np.concatenate([meeting, onward[held]]), "source": np.concatenate([arrival, meeting[held]])}
    )
    return gathered.assign(offset_ns=0, cause=CAUSES.index("collective"))


class _Finder:
    """Pieces by lane and time."""

    def __init__(self, lane: np.ndarray, start_ns: np.ndarray) -> None:
        self._lane, self._beyond_ns = lane, int(start_ns.max()) + 1
        self._keys = self._key(lane, start_ns)

    def place(self, lane: pd.Series, at_ns: pd.Series) -> np.ndarray:
        """Index before which a piece on each lane belongs that starts at the time, ahead of those that do so too."""
        return np.searchsorted(self._keys, self._key(lane, at_ns))

    def starting(self, lane: pd.Series, at_ns: pd.Series) -> np.ndarray:
        """Index of the first piece on each lane that starts at the time or later, -1 for none."""
        return self._on(lane, self.place(lane, at_ns))

    def under_way(self, lane: pd.Series, at_ns: pd.Series) -> np.ndarray:
        """Index of the last piece on each lane that had started before the time, -1 for none."""
        return self._on(lane, self.place(lane, at_ns) - 1)

    def _key(self, lane: np.ndarray | pd.Series, at_ns: np.ndarray | pd.Series) -> np.ndarray:
        """One number that sorts as (lane, time) does."""
        return np.asarray(lane) * np.int64(self._beyond_ns + 1) + np.minimum(at_ns, self._beyond_ns)

    def _on(self, lane: pd.Series, found: np.ndarray) -> np.ndarray:
        there = (found >= 0) & (found < len(self._lane))
        there[there] = self._lane[found[there]] == lane.to_numpy()[there]
        return np.where(there, found, -1)
