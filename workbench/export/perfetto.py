"""Chrome JSON that Perfetto opens: every event on its lane, arrows from launches, counters, and the critical path.

Trace Event Format: `X` an event, `M` a name, `C` a counter, `s` and `f` the ends of an arrow, `b` and `e` the ends of a
part of the critical path, which has a track of its own.
"""

import gzip
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_calls import VIEW
from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.analyses.core.rows import positions
from workbench.analyses.critical_path import path_events
from workbench.analyses.roofline import roofline
from workbench.export.counters import counters
from workbench.export.items import items
from workbench.trace.run import Run

# Rows that are turned into plain values at a time.
_ROWS = 20_000
# Columns that become arguments where they say something.
_ARGUMENTS = ("step", "phase", "collective", "group_size", "process_group", "source", "tags", "flops", "message_bytes")
_SAYS_NOTHING = ("", -1)
_PATH = "critical path"


def write_perfetto(run: Run, path: Path) -> None:
    """Write `run` to `path`, gzipped. One process a rank, one thread a lane; times are us since the first event, whose
    Unix time is the base. Operators that `roofline` knows carry its verdict."""
    base_ns = int(run.events["start_ns"].min()) if len(run.events) else 0
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"displayTimeUnit":"ms","baseTimeNanoseconds":%d,"traceEvents":[\n' % base_ns)
        file.writelines(items(_records(run, base_ns)))
        file.write(b"\n]}\n")


def _records(run: Run, base_ns: int) -> Iterator[dict]:
    events = run.events
    # Perfetto keeps process and thread 0 for the idle task.
    tids = events.groupby(["process", "device", "lane"], observed=True).ngroup() + 1
    events = events.assign(pid=events["process"].cat.codes + 1, tid=tids)
    yield from _names(events)
    yield from _events(events, _verdicts(run), base_ns)
    yield from _arrows(events, base_ns)
    pid_of = {process: pid for pid, process in enumerate(events["process"].cat.categories, 1)}
    for counter in counters(run):
        for time_ns, value in zip(counter.time_ns.tolist(), counter.value.tolist(), strict=True):
            yield {
                "ph": "C", "name": counter.name, "pid": pid_of[counter.process], "ts": (time_ns - base_ns) / 1000,
                "args": {counter.unit: value},
            }  # fmt: skip
    yield from _critical_path(run, len(pid_of) + 1, base_ns)


def _names(events: pd.DataFrame) -> Iterator[dict]:
    for row in events.drop_duplicates("pid").itertuples(index=False):
        yield _name("process_name", row.pid, 0, row.process)
    for row in events.drop_duplicates("tid").itertuples(index=False):
        yield _name("thread_name", row.pid, row.tid, f"{row.device} {row.lane}")


def _name(what: str, pid: int, tid: int, name: str) -> dict:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _events(events: pd.DataFrame, verdicts: dict[int, dict], base_ns: int) -> Iterator[dict]:
    columns = ["name", "kind", "pid", "tid", "start_ns", "duration_ns", "event_id", *_ARGUMENTS]
    for row, verdict in zip(_rows(events[columns]), events["event_id"].map(verdicts), strict=True):
        name, kind, pid, tid, start_ns, duration_ns, event_id, *values = row
        arguments = {
            key: value
            for key, value in zip(_ARGUMENTS, values, strict=True)
            if value not in _SAYS_NOTHING and value == value  # NaN is unknown
        }
        if isinstance(verdict, dict):
            arguments["roofline"] = verdict
        yield {
            "ph": "X", "name": name, "cat": kind, "pid": pid, "tid": tid, "ts": (start_ns - base_ns) / 1000,
            "dur": duration_ns / 1000, "args": {"event_id": event_id} | arguments,
        }  # fmt: skip


def _rows(table: pd.DataFrame) -> Iterator[Iterable]:
    """Rows as plain Python values, a part of the table at a time."""
    for first in range(0, len(table), _ROWS):
        part = table.iloc[first : first + _ROWS]
        yield from zip(*(part[name].to_list() for name in part), strict=True)


def _verdicts(run: Run) -> dict[int, dict]:
    """event_id -> what holds the operator back, its intensity [FLOP/B] and its headroom [ns a call], as `roofline` says
    of all calls of that name and shape."""
    run = with_paired_lookups(run)
    result = roofline(run)
    if not result.applies:
        return {}
    table = result.table
    table = table[(table["shapes"] != "") & (table["model"] != VIEW)]
    rows = table[["name", "shapes", "dtypes", "bound", "intensity", "headroom_ns", "calls"]].itertuples(index=False)
    known = {
        (row.name, row.shapes, row.dtypes): {
            "bound": row.bound, "intensity": _finite(row.intensity),
            "headroom_ns": _finite(row.headroom_ns / row.calls),
        }
        for row in rows
    }  # fmt: skip
    signatures = zip(*(run.operators[name] for name in ("name", "input_dims", "input_types")), strict=True)
    of_operator = {number: known[key] for number, key in enumerate(signatures) if key in known}
    told = run.events[run.events["operator_id"].isin(of_operator.keys())]
    return dict(zip(told["event_id"], told["operator_id"].map(of_operator), strict=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _arrows(events: pd.DataFrame, base_ns: int) -> Iterator[dict]:
    """From each launch to the device event that it launched."""
    launched = np.flatnonzero((events["launch_id"] >= 0).to_numpy())
    launch = positions(events, events["launch_id"].to_numpy()[launched])
    known = launch >= 0
    for kind, rows in (("s", launch[known]), ("f", launched[known])):
        ends = events.iloc[rows][["pid", "tid", "start_ns"]].assign(id=launched[known])
        for pid, tid, start_ns, number in _rows(ends):
            arrow = {"ph": kind, "name": "launch", "cat": "launch", "id": number, "pid": pid, "tid": tid}
            yield arrow | {"ts": (start_ns - base_ns) / 1000} | ({"bp": "e"} if kind == "f" else {})


def _critical_path(run: Run, pid: int, base_ns: int) -> Iterator[dict]:
    """Its parts one after the other; where clocks of ranks differ, a part begins when the one before it has ended."""
    path = path_events(run)
    if len(path) == 0:
        return
    yield _name("process_name", pid, 0, _PATH)
    end_ns = (path["start_ns"] + path["duration_ns"]).cummax()
    start_ns = np.maximum(path["start_ns"], end_ns.shift(fill_value=0))
    parts = path.assign(start_ns=start_ns, end_ns=end_ns)[end_ns > start_ns]
    columns = ["name", "kind", "process", "lane", "event_id", "start_ns", "end_ns"]
    for name, kind, process, lane, event_id, begin_ns, finish_ns in _rows(parts[columns]):
        part = {"name": name, "cat": _PATH, "id": 1, "pid": pid, "tid": pid}
        arguments = {"kind": kind, "process": process, "lane": lane, "event_id": event_id}
        yield part | {"ph": "b", "ts": (begin_ns - base_ns) / 1000, "args": arguments}
        yield part | {"ph": "e", "ts": (finish_ns - base_ns) / 1000}
