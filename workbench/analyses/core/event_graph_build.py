"""From a run to its event graphs, one for each window of its steps.

Events are cut to their self time, and a link between lanes is tied to the pieces that it falls on. Times are int64 ns
since the start of the window.
"""

from dataclasses import dataclass

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
    """The graph of `events` (lane, start_ns, end_ns, event: their row) from time 0 on, and of their links."""
    pieces = _pieces(events, links.waits, links.meetings)
    # Only work takes time of its own.
    pieces["finish_ns"] = pieces["end_ns"].where(pieces["role"] == WORK, pieces["start_ns"])
    edges = pd.concat([_tied(pieces, links.edges), _gathered(pieces, links.meetings)])
    edges = edges.sort_values("target", kind="stable")
    return EventGraph(
        start_ns=pieces["start_ns"].to_numpy(float), finish_ns=pieces["finish_ns"].to_numpy(float),
        lane=pieces["lane"].to_numpy(), role=pieces["role"].to_numpy(), event=pieces["event"].to_numpy(),
        first_edge=np.searchsorted(edges["target"], np.arange(len(pieces) + 1)),
        source=edges["source"].to_numpy(), offset_ns=edges["offset_ns"].to_numpy(float),
        cause=edges["cause"].to_numpy(),
    )  # fmt: skip


def _pieces(events: pd.DataFrame, waits: pd.DataFrame, meetings: pd.DataFrame) -> pd.DataFrame:
    """lane, start_ns, end_ns, event, role, by lane and start: an arrival before what else starts at its instant, each
    meeting on a lane of its own behind the others."""
    early = meetings[meetings["held"] & (meetings["leaves_ns"] > meetings["arrives_ns"])]
    early = early.rename(columns={"arrives_ns": "start_ns", "leaves_ns": "end_ns"})
    waits = pd.concat([waits, early]).assign(event=NO_EVENT)
    works = _self_time(_stacked([events, waits], ["lane", "start_ns", "end_ns", "event"]))
    works["role"] = np.where(works["event"] == NO_EVENT, WAITING, WORK)
    arrivals = meetings[["lane"]].assign(start_ns=meetings["arrives_ns"], role=ARRIVAL)
    last_ns = meetings.groupby("meeting", as_index=False)["arrives_ns"].max().rename(columns={"arrives_ns": "start_ns"})
    gathered = last_ns.assign(lane=works["lane"].max() + 1 + last_ns.index, role=MEETING)
    instants = _stacked([arrivals, gathered], ["lane", "start_ns", "role"])
    instants = instants.assign(end_ns=instants["start_ns"], event=NO_EVENT)
    pieces = _stacked([instants, works], list(works))
    return pieces.take(np.lexsort((pieces["start_ns"], pieces["lane"]))).reset_index(drop=True)


def _self_time(events: pd.DataFrame) -> pd.DataFrame:
    """Each lane's events cut to their self time, lane by lane."""
    order = np.argsort(events["lane"].to_numpy(), kind="stable")
    lane, start_ns, end_ns, event = (events[name].to_numpy()[order] for name in events)
    first = np.flatnonzero(np.diff(lane, prepend=-1))
    cut = []
    for low, high in zip(first, [*first[1:], len(lane)], strict=True):
        own, whole = slice(low, high), np.zeros(high - low, dtype=bool)
        segments = vars(self_segments(start_ns[own], end_ns[own], event[own], whole))
        cut.append(pd.DataFrame(segments, copy=False).assign(lane=lane[low]))
    return _stacked(cut, list(cut[0]))


def _stacked(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The rows of all tables. Column by column: for millions of rows pd.concat would copy each of them three times."""
    return pd.DataFrame({name: np.concatenate([table[name] for table in tables]) for name in columns}, copy=False)


def _tied(pieces: pd.DataFrame, edges: pd.DataFrame) -> pd.DataFrame:
    """target, source, offset_ns, cause of the edges that fall on pieces at both ends."""
    find = _Finder(pieces)
    source = find.under_way(edges["source_lane"], edges["departs_ns"])
    target = find.starting(edges["target_lane"], edges["arrives_ns"])
    left_ns = np.minimum(edges["departs_ns"], pieces["finish_ns"].to_numpy()[source])
    tied = edges[["cause"]].assign(
        source=source, target=target, offset_ns=left_ns - pieces["start_ns"].to_numpy()[source]
    )
    return tied[(source >= 0) & (target >= 0)]


def _gathered(pieces: pd.DataFrame, meetings: pd.DataFrame) -> pd.DataFrame:
    """The edges from each arrival to its meeting, and from there to what a rank goes on with that was held."""
    find, role = _Finder(pieces), pieces["role"].to_numpy()
    arrival = find.starting(meetings["lane"], meetings["arrives_ns"])
    meeting = (len(pieces) - meetings["meeting"].nunique()) + meetings["meeting"].factorize(sort=True)[0]
    onward = find.starting(meetings["lane"], meetings["leaves_ns"])
    onward += role[onward] == ARRIVAL  # of a rank that came last: it goes on at once
    held = (meetings["held"] & (onward >= 0)).to_numpy()
    gathered = pd.DataFrame(
        {"target": np.concatenate([meeting, onward[held]]), "source": np.concatenate([arrival, meeting[held]])}
    )
    return gathered.assign(offset_ns=0, cause=CAUSES.index("collective"))


class _Finder:
    """Pieces by lane and time."""

    def __init__(self, pieces: pd.DataFrame) -> None:
        self._lane = pieces["lane"].to_numpy()
        self._beyond_ns = int(pieces["start_ns"].max()) + 1
        self._keys = self._key(self._lane, pieces["start_ns"].to_numpy())

    def starting(self, lane: pd.Series, at_ns: pd.Series) -> np.ndarray:
        """Index of the first piece on each lane that starts at the time or later, -1 for none."""
        return self._on(lane, np.searchsorted(self._keys, self._key(lane, at_ns)))

    def under_way(self, lane: pd.Series, at_ns: pd.Series) -> np.ndarray:
        """Index of the last piece on each lane that had started before the time, -1 for none."""
        return self._on(lane, np.searchsorted(self._keys, self._key(lane, at_ns)) - 1)

    def _key(self, lane: np.ndarray | pd.Series, at_ns: np.ndarray | pd.Series) -> np.ndarray:
        """One number that sorts as (lane, time) does."""
        return np.asarray(lane) * (self._beyond_ns + 1) + np.minimum(at_ns, self._beyond_ns)

    def _on(self, lane: pd.Series, found: np.ndarray) -> np.ndarray:
        there = (found >= 0) & (found < len(self._lane))
        there[there] = self._lane[found[there]] == lane.to_numpy()[there]
        return np.where(there, found, -1)
