"""What the threads of hosts and the ranks of a run needed of one another.

- thread: autograd's own threads work while the main thread stands still.
- call: a transfer on a thread of gloo's needs the call that asked for it, and a wait lasts until its end. A span that
  was caused by a span on another lane needs its start, and the cause waits for its end.
- collective: no rank is done before the last one has arrived.
"""

import numpy as np
import pandas as pd

from workbench.analyses.core.collectives import Collectives
from workbench.analyses.core.event_graph_lanes import Lanes
from workbench.analyses.core.event_graph_links import Collector
from workbench.analyses.core.intervals import merge, subtract
from workbench.analyses.core.rows import of_category, recorded

_AUTOGRAD = "autograd::engine::evaluate_function"
_NEVER = np.iinfo(np.int64).min


def clocks_ahead_ns(found: Collectives | None) -> dict[str, int]:
    """By how much the clock of each process is ahead, where the ends of collectives say so."""
    if found is None or not found.clocks_aligned:
        return {}
    # On one clock all ranks see the last arrival at the same time, unless they were gone by then.
    calls = found.calls[found.calls["complete"] & (found.calls["wait_ns"] < found.calls["duration_ns"])]
    last_ns = calls["start_ns"] + calls["wait_ns"].astype("int64")
    ahead_ns = last_ns - last_ns.groupby(calls["match"]).transform("min")
    ahead_ns -= ahead_ns.groupby(calls["match"]).transform("median")
    return ahead_ns.groupby(calls["process"]).median().round().astype("int64").to_dict()


def link_threads(events: pd.DataFrame, lanes: Lanes, into: Collector) -> None:
    """Main thread to autograd thread and back. Between two operators of the main thread, the first and the last thing
    on an autograd thread say when the one stood still for the other. What autograd gives the main thread to do
    meanwhile (to keep a gradient that lives on the host) does not end that."""
    backward = np.flatnonzero((lanes.lane >= 0) & of_category(events["name"], lambda name: name.startswith(_AUTOGRAD)))
    annotation = (events["kind"] == "span").to_numpy()
    for lane in np.unique(lanes.lane[backward]):
        main = lanes.main[lane]
        if main in (-1, lane):
            continue
        own = lanes.of(main)
        helping = own[np.isin(own, backward)]
        own = own[~annotation[own]]
        busy = subtract(
            merge(lanes.start_ns[own], lanes.end_ns[own]), merge(lanes.start_ns[helping], lanes.end_ns[helping])
        )
        rows = lanes.of(lane)
        rows = rows[np.isin(rows, backward)]
        gap = np.searchsorted(busy[:, 0], lanes.start_ns[rows], side="right")
        bounds = pd.DataFrame({"gap": gap, "start_ns": lanes.start_ns[rows], "end_ns": lanes.end_ns[rows]})
        runs = bounds.groupby("gap").agg({"start_ns": "min", "end_ns": "max"})
        silent_ns = np.append(_NEVER, busy[:, 1])[runs.index]
        resumes_ns = np.append(busy[:, 0], np.iinfo(np.int64).max)[runs.index]
        runs = runs[(silent_ns <= runs["start_ns"]) & (runs["end_ns"] <= resumes_ns)]
        start_ns, end_ns = runs["start_ns"].to_numpy(), runs["end_ns"].to_numpy()
        here, there = np.full(len(runs), main), np.full(len(runs), lane)
        into.edges("thread", here, start_ns, there, start_ns)
        into.waits(here, start_ns, end_ns)
        into.edges("thread", there, end_ns, here, end_ns)


def link_transfers(events: pd.DataFrame, lanes: Lanes, transfers: np.ndarray, into: Collector) -> None:
    """The last call of its type before each of gloo's transfers (rows [n]) asked for it. A wait on the main thread in
    which a transfer ends lasts until then, from its own start or the end of that call."""
    on_lane, ours = lanes.lane >= 0, recorded(events)
    communicates = (events["kind"] == "communication").to_numpy()
    is_call = on_lane & communicates & ~ours
    is_call[transfers] = False
    called = _last_call(events, lanes, transfers, np.flatnonzero(is_call))
    asked = called >= 0
    departs_ns = np.minimum(lanes.end_ns[called], lanes.start_ns[transfers])[asked]
    lane, start_ns, end_ns = (values[transfers] for values in (lanes.lane, lanes.start_ns, lanes.end_ns))
    into.edges("call", lanes.lane[called[asked]], departs_ns, lane[asked], start_ns[asked])

    waits = on_lane & ((events["kind"] == "wait").to_numpy() | (communicates & ours))
    main = lanes.main[lane]
    began_ns = _wait_around(lanes, waits, main, end_ns)
    inside = began_ns != _NEVER
    from_ns = np.where(asked, np.maximum(began_ns, lanes.end_ns[called]), began_ns)[inside]
    into.waits(main[inside], from_ns, end_ns[inside])
    into.edges("call", lane[inside], end_ns[inside], main[inside], end_ns[inside])


def _wait_around(lanes: Lanes, waits: np.ndarray, lane: np.ndarray, moment_ns: np.ndarray) -> np.ndarray:
    """When that began [n] of the `waits` (mask of rows) on each lane [n] which lasts at each moment [n]; _NEVER where
    none does."""
    began_ns = np.full(len(lane), _NEVER)
    for waiting in np.intersect1d(lane[lane >= 0], lanes.lane[waits]):
        rows = lanes.of(waiting)
        rows = rows[waits[rows]]
        intervals = merge(lanes.start_ns[rows], lanes.end_ns[rows])
        here = np.flatnonzero(lane == waiting)
        found = np.searchsorted(intervals[:, 0], moment_ns[here], side="left") - 1
        inside = (found >= 0) & (moment_ns[here] <= np.append(intervals[:, 1], 0)[found])
        began_ns[here[inside]] = intervals[found[inside], 0]
    return began_ns


def link_spans(events: pd.DataFrame, lanes: Lanes, into: Collector) -> None:
    """A span and the span on another lane that caused it, where both are known: the cause stands still meanwhile, or,
    if its lane works on and waits for it later, from then on."""
    spans = events[["trace", "span_id", "parent_span_id"]].assign(row=np.arange(len(events)))
    spans = spans[(lanes.lane >= 0) & (spans["span_id"] > 0)]
    pairs = spans[spans["parent_span_id"] > 0].merge(
        spans, left_on=["trace", "parent_span_id"], right_on=["trace", "span_id"], suffixes=("", "_cause")
    )
    row, cause = pairs["row"].to_numpy(), pairs["row_cause"].to_numpy()
    apart = lanes.lane[row] != lanes.lane[cause]
    row, cause = row[apart], cause[apart]
    start_ns, end_ns = lanes.start_ns[row], lanes.end_ns[row]
    into.edges("call", lanes.lane[cause], np.maximum(start_ns, lanes.start_ns[cause] + 1), lanes.lane[row], start_ns)
    waited = (start_ns >= lanes.start_ns[cause]) & (end_ns <= lanes.end_ns[cause])
    row, cause, start_ns, end_ns = (values[waited] for values in (row, cause, start_ns, end_ns))
    began_ns = _wait_around(lanes, (events["kind"] == "wait").to_numpy(), lanes.lane[cause], end_ns)
    into.waits(lanes.lane[cause], np.maximum(start_ns, began_ns), end_ns)
    into.edges("call", lanes.lane[row], end_ns, lanes.lane[cause], end_ns)


def link_ranks(lanes: Lanes, found: Collectives, transfers: np.ndarray, into: Collector) -> None:
    """The collectives whose ranks are all here; `transfers` [calls] are the rows of `found.calls`."""
    complete = found.calls["complete"].to_numpy()
    rows, match = transfers[complete], found.calls["match"].to_numpy()[complete]
    arrives_ns, end_ns = lanes.start_ns[rows], lanes.end_ns[rows]
    last_ns = pd.Series(arrives_ns).groupby(match).transform("max").to_numpy()
    held = end_ns > last_ns
    into.meetings(match, lanes.lane[rows], arrives_ns, np.where(held, last_ns, arrives_ns), held)


def _last_call(events: pd.DataFrame, lanes: Lanes, transfers: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Row of the last of the `calls` (rows) that started before each transfer, of its process and type; else -1."""

    def timed(rows: np.ndarray) -> pd.DataFrame:
        by = {name: events[name].cat.codes.to_numpy()[rows] for name in ("process", "collective")}
        return pd.DataFrame(by | {"start_ns": lanes.start_ns[rows], "row": rows}).sort_values("start_ns")

    found = pd.merge_asof(
        timed(transfers), timed(calls), on="start_ns", by=["process", "collective"], allow_exact_matches=False,
        suffixes=("", "_call"),
    )  # fmt: skip
    return found.set_index("row")["row_call"].reindex(transfers).fillna(-1).to_numpy(dtype=np.int64)
