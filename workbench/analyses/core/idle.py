"""Why a device stream stood still: each gap between two of its events is charged to one cause.

host: the next event was launched after the gap began. kernel, collective: it was launched in time, and work on
another stream ended inside the gap, at most WAIT_THRESHOLD_NS before the next event began. other: launched in time and
nothing to be seen that it waited for (the launch path of the device itself), or the launch is unknown.
"""

import numba
import numpy as np
import pandas as pd

from workbench.analyses.core.ancestors import nearest
from workbench.analyses.core.intervals import Intervals, merge
from workbench.analyses.core.rows import NO_OPERATOR, OPERATOR_KINDS, positions, recorded
from workbench.analyses.core.segments import Segments, joined, self_segments
from workbench.analyses.core.timeline import Timeline
from workbench.trace.run import Run

CAUSES = ("host", "kernel", "collective", "other")
# A stream that waits for an event starts within microseconds of it; a later start had another reason.
WAIT_THRESHOLD_NS = 10_000
_HOST_KINDS = ("compute", "memory", "communication", "runtime", "wait")


def idle_gaps(run: Run, timeline: Timeline) -> pd.DataFrame:
    """One row a gap [lane, cause, name, before_operator, idle_ns]: `name` is the host operator that took most of a late
    launch's gap by self time, or the event on another stream that was waited for; `before_operator` the operator that
    launched the event after the gap."""
    events, host = run.events, _HostThreads(run.events, timeline.process)
    parents = positions(events, events["parent_id"].to_numpy())
    is_operator = events["kind"].isin(OPERATOR_KINDS).to_numpy()
    launch_ids, is_collective = events["launch_id"].to_numpy(), (events["kind"] == "communication").to_numpy()
    tables, lanes = [], list(dict.fromkeys(layer.lane for layer in timeline.layers))
    for number, lane in enumerate(lanes):
        stream = joined([layer.segments for layer in timeline.layers if layer.lane == lane])
        others = joined([layer.segments for layer in timeline.layers if layer.lane != lane])
        gaps, following = _gaps(stream, timeline.windows)
        launches = positions(events, launch_ids[following])
        late = (launches >= 0) & (events["start_ns"].to_numpy()[launches] > gaps[:, 0])
        ended_last = _ended_last(others, gaps)
        waited = ~late & (launches >= 0) & (ended_last >= 0)
        collective = waited & is_collective[ended_last]
        causes = [CAUSES.index(cause) for cause in ("host", "collective", "kernel", "other")]
        cause = np.select([late, collective, waited], causes[:3], causes[3])
        name = np.where(waited, host.names.codes[ended_last], host.names.nothing)
        name[late] = host.busiest(gaps[late], launches[late])
        launcher = nearest(launches, parents, is_operator)
        before = np.where(launcher >= 0, host.names.codes[launcher], host.names.nothing)
        columns = {
            "lane": (np.full(len(gaps), number), lanes),
            "cause": (cause, CAUSES),
            "name": (name, host.names.texts),
            "before_operator": (before, host.names.texts),
        }
        table = {column: pd.Categorical.from_codes(*coded) for column, coded in columns.items()}
        tables.append(pd.DataFrame(table | {"idle_ns": gaps[:, 1] - gaps[:, 0]}))
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


class _Names:
    """Names as numbers: of each event, of nobody (NO_OPERATOR) and of nothing (""). Millions of texts are slow."""

    def __init__(self, events: pd.DataFrame) -> None:
        names = events["name"].cat
        self.codes = names.codes.to_numpy(dtype=np.int64)
        self.texts = list(dict.fromkeys([*names.categories, NO_OPERATOR, ""]))
        self.nobody, self.nothing = self.texts.index(NO_OPERATOR), self.texts.index("")


class _HostThreads:
    """Self time of one process's host operators and runtime calls, thread by thread, made when first asked for."""

    def __init__(self, events: pd.DataFrame, process: str) -> None:
        of_process = (events["process"] == process) & (events["device"] == "cpu") & ~recorded(events)
        self._rows = np.flatnonzero(of_process & events["kind"].isin(_HOST_KINDS))
        self._events, self._lanes = events, events["lane"].cat.codes.to_numpy()
        self._segments: dict[int, Segments] = {}
        self.names = _Names(events)

    def busiest(self, gaps: Intervals, launches: np.ndarray) -> np.ndarray:
        """Name, as a number, of what took most of each gap [n, 2] on the thread that made the launch [n]."""
        names = np.empty(len(gaps), dtype=np.int64)
        lanes = self._lanes[launches]
        for lane in np.unique(lanes):
            chosen = np.flatnonzero(lanes == lane)
            names[chosen] = self._busiest_on(int(lane), gaps[chosen])
        return names

    def _busiest_on(self, lane: int, gaps: Intervals) -> np.ndarray:
        work = self._on(lane)
        codes, texts = self.names.codes[work.event], len(self.names.texts)
        return _most(gaps, work.start_ns, work.end_ns, codes, texts, self.names.nobody)

    def _on(self, lane: int) -> Segments:
        if lane not in self._segments:
            rows = self._rows[self._lanes[self._rows] == lane]
            starts = self._events["start_ns"].to_numpy()[rows]
            ends = starts + self._events["duration_ns"].to_numpy()[rows]
            self._segments[lane] = self_segments(starts, ends, rows, np.zeros(len(rows), dtype=bool))
        return self._segments[lane]


@numba.njit(cache=True)
def _most(gaps, start_ns, end_ns, codes, texts, nobody):
    """The code [n] with the most time in each gap [n, 2], of disjoint segments [m]; `nobody` where none covers more."""
    most, spent_ns = np.full(len(gaps), nobody), np.zeros(texts, dtype=np.int64)
    for gap in range(len(gaps)):
        from_ns, to_ns = gaps[gap]
        first = np.searchsorted(end_ns, from_ns, side="right")
        last, free_ns = first, to_ns - from_ns
        while last < len(codes) and start_ns[last] < to_ns:
            inside_ns = min(end_ns[last], to_ns) - max(start_ns[last], from_ns)
            spent_ns[codes[last]] += inside_ns
            free_ns -= inside_ns
            last += 1
        most_ns = free_ns
        for code in codes[first:last]:
            if spent_ns[code] > most_ns:
                most[gap], most_ns = code, spent_ns[code]
        spent_ns[codes[first:last]] = 0
    return most
