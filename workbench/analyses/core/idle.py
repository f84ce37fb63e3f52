"""Why a device stream stood still: each gap between two of its events is charged to one cause.

host: the next event was launched after the gap began. kernel, collective: it was launched in time, and work on
another stream ended inside the gap, at most WAIT_THRESHOLD_NS before the next event began. other: launched in time and
nothing to be seen that it waited for (the launch path of the device itself), or the launch is unknown.
"""

import numpy as np
import pandas as pd

from workbench.analyses.core.intervals import Intervals, merge
from workbench.analyses.core.rows import NO_OPERATOR, positions, recorded
from workbench.analyses.core.segments import Segments, joined, self_segments
from workbench.analyses.core.timeline import Timeline
from workbench.trace.run import Run

CAUSES = ("host", "kernel", "collective", "other")
# A stream that waits for an event starts within microseconds of it; a later start had another reason.
WAIT_THRESHOLD_NS = 10_000
_HOST_KINDS = ("compute", "memory", "communication", "runtime", "wait")


def idle_gaps(run: Run, timeline: Timeline) -> pd.DataFrame:
    """One row a gap [lane, cause, name, idle_ns]: `name` is the host operator that took most of a late launch's gap
    by self time, or the event on another stream that was waited for."""
    events = run.events
    launch_of = positions(events, events["launch_id"].to_numpy())
    is_collective = (events["kind"] == "communication").to_numpy()
    host = _HostThreads(events, timeline.process)
    tables = []
    for lane in dict.fromkeys(layer.lane for layer in timeline.layers):
        stream = joined([layer.segments for layer in timeline.layers if layer.lane == lane])
        others = joined([layer.segments for layer in timeline.layers if layer.lane != lane])
        gaps, following = _gaps(stream, timeline.windows)
        launches = launch_of[following]
        late = (launches >= 0) & (events["start_ns"].to_numpy()[launches] > gaps[:, 0])
        ended_last = _ended_last(others, gaps)
        waited = ~late & (launches >= 0) & (ended_last >= 0)
        collective = waited & is_collective[ended_last]
        cause = np.select([late, collective, waited], ["host", "collective", "kernel"], "other")
        name = np.where(waited, events["name"].array[ended_last], "").astype(object)
        name[late] = host.busiest(gaps[late], launches[late])
        tables.append(pd.DataFrame({"lane": lane, "cause": cause, "name": name, "idle_ns": gaps[:, 1] - gaps[:, 0]}))
    return pd.concat(tables, ignore_index=True)


def _gaps(stream: Segments, windows: Intervals) -> tuple[Intervals, np.ndarray]:
    """Gaps [n, 2] between the events of a stream inside one window, and the row of the event after each."""
    busy = merge(stream.start_ns, stream.end_ns)
    gaps = np.stack((busy[:-1, 1], busy[1:, 0]), axis=1)
    window = np.searchsorted(windows[:, 1], gaps, side="left")
    gaps = gaps[window[:, 0] == window[:, 1]]
    return gaps, stream.event[np.searchsorted(stream.start_ns, gaps[:, 1], side="left")]


def _ended_last(others: Segments, gaps: Intervals) -> np.ndarray:
    """Row of the event on other streams that ended last inside each gap, within the threshold of its end; else -1."""
    if len(others.event) == 0:
        return np.full(len(gaps), -1)
    order = np.argsort(others.end_ns, kind="stable")
    ends = others.end_ns[order]
    at = np.searchsorted(ends, gaps[:, 1], side="right") - 1
    found = (at >= 0) & (ends[at] > gaps[:, 0]) & (gaps[:, 1] - ends[at] <= WAIT_THRESHOLD_NS)
    return np.where(found, others.event[order][at], -1)


class _HostThreads:
    """Self time of one process's host operators and runtime calls, thread by thread, made when first asked for."""

    def __init__(self, events: pd.DataFrame, process: str) -> None:
        of_process = (events["process"] == process) & (events["device"] == "cpu") & ~recorded(events)
        self._rows = np.flatnonzero(of_process & events["kind"].isin(_HOST_KINDS))
        self._events, self._lanes = events, events["lane"].cat.codes.to_numpy()
        self._segments: dict[int, Segments] = {}

    def busiest(self, gaps: Intervals, launches: np.ndarray) -> np.ndarray:
        """Name of what took most of each gap [n, 2] on the thread that made the launch [n]: an operator or none."""
        names = np.full(len(gaps), NO_OPERATOR, dtype=object)
        lanes = self._lanes[launches]
        for lane in np.unique(lanes):
            chosen = np.flatnonzero(lanes == lane)
            names[chosen] = self._busiest_on(int(lane), gaps[chosen])
        return names

    def _busiest_on(self, lane: int, gaps: Intervals) -> np.ndarray:
        pieces, gap = self._on(lane).within(gaps)
        codes = self._events["name"].cat.codes.to_numpy()[pieces.event]
        spent = pd.DataFrame({"gap": gap, "name": codes, "ns": pieces.end_ns - pieces.start_ns})
        nobody = pd.DataFrame({"gap": np.arange(len(gaps)), "name": -1, "ns": gaps[:, 1] - gaps[:, 0]})
        nobody["ns"] -= np.bincount(gap, spent["ns"], len(gaps)).astype(np.int64)
        sums = pd.concat([nobody, spent]).groupby(["gap", "name"], as_index=False)["ns"].sum()
        most = sums.loc[sums.groupby("gap")["ns"].idxmax(), "name"].to_numpy()
        names = self._events["name"].cat.categories.to_numpy(object)
        return np.where(most >= 0, names[most], NO_OPERATOR)

    def _on(self, lane: int) -> Segments:
        if lane not in self._segments:
            rows = self._rows[self._lanes[self._rows] == lane]
            starts = self._events["start_ns"].to_numpy()[rows]
            ends = starts + self._events["duration_ns"].to_numpy()[rows]
            self._segments[lane] = self_segments(starts, ends, rows, np.zeros(len(rows), dtype=bool))
        return self._segments[lane]
