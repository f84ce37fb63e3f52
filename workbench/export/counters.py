"""What changes over a run beside its events: bandwidths, lengths of queues, allocated memory; as steps in time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.analyses.communication import communication
from workbench.analyses.core.device_kernels import LANE, device_kernels
from workbench.analyses.core.memory_use import DEVICE, memory_use
from workbench.analyses.core.operator_calls import operator_calls, operator_costs
from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.analyses.core.rows import positions
from workbench.trace.run import Run


class Counter(NamedTuple):
    """A quantity of one process: from `time_ns` [n] on (Unix time, ascending) it is `value` [n]; `unit` is its key in
    the file."""

    process: str
    name: str
    unit: str
    time_ns: np.ndarray
    value: np.ndarray


def counters(run: Run) -> Iterator[Counter]:
    """All that can be counted in this run, in base units."""
    yield from _collectives(run)
    yield from _operators(run)
    yield from _copies(run)
    yield from _queues(run)
    if len(run.memory):
        for (_, process, device), changes in memory_use(run).groupby(DEVICE, observed=True):
            yield Counter(
                process, f"allocated memory, {device}", "bytes", changes["time_ns"].to_numpy(),
                changes["allocated_bytes"].to_numpy(),
            )  # fmt: skip


def _collectives(run: Run) -> Iterator[Counter]:
    """Bus bandwidth by type, while a collective moves data: its transfer, which ends with it."""
    result = communication(run, by="call")
    if not result.applies:
        return
    calls = result.table[result.table["busbw_bytes_per_s"] > 0]
    end_ns = run.events["start_ns"].min() + calls["start_ns"] + calls["duration_ns"]
    start_ns = end_ns - calls["transfer_ns"].fillna(calls["duration_ns"]).astype("int64")
    calls = calls.assign(start_ns=start_ns, end_ns=end_ns)
    for (process, collective), own in calls.groupby(["process", "collective"], observed=True):
        yield _summed(process, f"bus bandwidth, {collective}", "bytes/s", own, own["busbw_bytes_per_s"])


def _operators(run: Run) -> Iterator[Counter]:
    """Compulsory bytes of the host's operators over their time; a device's operators work apart from their calls."""
    run = with_paired_lookups(run)
    costs = operator_costs(run)
    calls = operator_calls(run, costs)
    calls = calls[(calls["kernels"] == 0) & calls["covered"] & (calls["duration_ns"] > 0)]
    moved_bytes = calls["operator_id"].map({operator_id: known.bytes for operator_id, known in costs.items()})
    calls = calls.assign(end_ns=calls["start_ns"] + calls["duration_ns"], rate=1e9 * moved_bytes / calls["duration_ns"])
    for process, own in calls[calls["rate"] > 0].groupby("process", observed=True):
        yield _summed(process, "achieved bandwidth, operators (compulsory bytes)", "bytes/s", own, own["rate"])


def _copies(run: Run) -> Iterator[Counter]:
    """Bytes that a profiler or a cache of rows counted, over the time of their events, by tier."""
    traffic = run.traffic.assign(row=positions(run.events, run.traffic["event_id"].to_numpy()))
    traffic = traffic[traffic["row"] >= 0]
    events = run.events.iloc[traffic["row"]].reset_index(drop=True)
    traffic = traffic.reset_index(drop=True).assign(process=events["process"], start_ns=events["start_ns"])
    took_ns = events["duration_ns"].where(events["duration_ns"] > 0)
    traffic["rate"] = 1e9 * (traffic["read_bytes"] + traffic["write_bytes"]) / took_ns
    traffic["end_ns"] = traffic["start_ns"] + events["duration_ns"]
    for (process, tier), own in traffic[traffic["rate"] > 0].groupby(["process", "tier"], observed=True):
        yield _summed(process, f"achieved bandwidth, copies over {tier}", "bytes/s", own, own["rate"])


def _queues(run: Run) -> Iterator[Counter]:
    """Events launched on a stream and not yet finished."""
    for (process, device, lane), own in device_kernels(run).groupby(LANE, observed=True):
        stays = own.assign(start_ns=own["launch_ns"])
        yield _summed(process, f"queue, {device} {lane}", "events", stays, pd.Series(1.0, index=own.index))


def _summed(process: str, name: str, unit: str, intervals: pd.DataFrame, value: pd.Series) -> Counter:
    """The sum of the values of all `intervals` (start_ns, end_ns) that are open at a time."""
    time_ns, at = np.unique(np.concatenate([intervals["start_ns"], intervals["end_ns"]]), return_inverse=True)
    open_by = np.bincount(at, np.concatenate([np.ones(len(value)), -np.ones(len(value))])).cumsum()
    total = np.bincount(at, np.concatenate([value, -value])).cumsum()
    # What rates leave behind when they are added and taken away again is no rate.
    return Counter(process, name, unit, time_ns, np.where(open_by > 0, total, 0.0))
