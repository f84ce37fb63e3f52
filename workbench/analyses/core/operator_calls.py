"""Which operator's time is whose: one row a call of an operator, over the sampled steps, with its time counted once.

Profilers nest operators (aten::linear holds aten::addmm, aten::reshape may hold a copy). The *outermost* operator
with a cost model owns everything below it; a view costs nothing, so it is looked through and owns only its self time,
as does an operator without a model. Where a device worked, the time of a call is that of the device events launched
under it. Communication and waiting belong to other analyses, as does the self time of runtime wrappers.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.analyses.core.ancestors import nearest, outermost
from workbench.analyses.core.intervals import covered_ns, merge
from workbench.analyses.core.rows import positions, recorded, tagged
from workbench.costs import Cost, cost, model_of
from workbench.errors import InputError
from workbench.trace.run import Run

VIEW = "view"
BUSY_KINDS = ("compute", "memory")
APART_KINDS = ("communication", "wait")


def operator_costs(run: Run) -> dict[int, Cost]:
    """Cost of each row of `run.operators` that has a model, by operator_id."""
    found = {}
    for operator_id, signature in enumerate(run.operators.itertuples(index=False)):
        known = cost(signature.name, signature.input_dims, signature.input_types, signature.concrete_inputs)
        if known is not None:
            found[operator_id] = known
    return found


def operator_calls(run: Run, costs: Mapping[int, Cost], rank: int | None = None) -> pd.DataFrame:
    """One row a call over the sampled steps (see `sampled`), of one rank or all; empty when there are no operators.

    Columns: operator_id (-1 where there is none), name, process, rank, step, phase, start_ns, duration_ns, covered
    (its cost is known; views count), named (a model knows the operator, even where shapes are missing), compute_ns
    (device time in linked compute kernels; 0 on the host), kernels (device events; 0 on the host), longest_kernel (name
    of the longest of them; "" on the host), copied_bytes (over PCIe, as the profiler counted).

    On the host the duration is inclusive for an operator whose cost is known and self time otherwise; on a device it is
    the sum over the events launched under the call, and calls that launched nothing are left out. An unknown rank is an
    InputError.
    """
    if rank is not None and rank not in run.ranks:
        raise InputError(f"rank {rank} is not in this run: it has {', '.join(map(str, run.ranks)) or 'none'}")
    events = run.events
    parents = positions(events, events["parent_id"].to_numpy())
    apart = outermost(parents, events["kind"].isin(APART_KINDS).to_numpy()) >= 0
    ids = events["operator_id"].to_numpy()
    covered = np.isin(ids, list(costs)) & ~recorded(events) & ~apart
    busy = (_operators(events) & ~apart) | covered
    chosen = busy & sampled(events) & ((events["rank"] == rank).to_numpy() if rank is not None else True)
    views = [operator_id for operator_id, known in costs.items() if known.model == VIEW]
    owner = outermost(parents, covered & ~np.isin(ids, views))
    on_device = chosen & (events["device"] != "cpu").to_numpy()
    if on_device.any():
        calls, frame = _device_calls(run, parents, owner, np.flatnonzero(on_device))
    else:
        calls, frame = _host_calls(events, parents, owner, chosen)
    columns = ["operator_id", "name", "process", "rank", "step", "phase", "start_ns"]
    described = events[columns].iloc[calls].reset_index(drop=True).assign(covered=covered[calls])
    known = {name: model_of(str(name)) is not None for name in described["name"].unique()}
    described["named"] = described["covered"] | described["name"].astype("object").map(known).astype(bool)
    return pd.concat([described, frame], axis=1)


def sampled(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of the steps that a profiler saw and nobody tagged warm-up; of everything when there is none."""
    steps = events["step"].to_numpy()
    keys = pd.MultiIndex.from_arrays([events["process"].cat.codes, steps])
    steady = keys.isin(keys[_operators(events)].unique()) & ~keys.isin(keys[tagged(events, "warmup")].unique())
    steady &= steps >= 0
    return steady if steady.any() else np.ones(len(events), dtype=bool)


def _operators(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of a profiler's compute and memory events."""
    return events["kind"].isin(BUSY_KINDS).to_numpy() & ~recorded(events)


def _host_calls(
    events: pd.DataFrame, parents: np.ndarray, owner: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, pd.DataFrame]:
    """Owners with their inclusive time; busy events that nobody owns with their self time. (rows of events, times)"""
    durations = events["duration_ns"].to_numpy()
    worked = durations - _waited_ns(events)
    nested = parents >= 0
    children = np.bincount(parents[nested], worked[nested], minlength=len(events)).astype(np.int64)
    owns = owner == np.arange(len(events))
    calls = np.flatnonzero(chosen & (owns | (owner < 0)))
    # A writer that rounds may let children outlast their parent by a microsecond.
    own_ns = np.where(owns, durations, np.maximum(worked - children, 0))[calls]
    frame = {"duration_ns": own_ns, "compute_ns": 0, "kernels": 0, "longest_kernel": "", "copied_bytes": 0.0}
    return calls, pd.DataFrame(frame)


def _waited_ns(events: pd.DataFrame) -> np.ndarray:
    """ns [events] of each event that the recorder spent in communication or waiting, in the same process: what wraps an
    exchange (an autograd function in Python) shows no operator for it, and would seem to work."""
    waiting = recorded(events) & events["kind"].isin(APART_KINDS).to_numpy()
    start_ns = events["start_ns"].to_numpy()
    end_ns = start_ns + events["duration_ns"].to_numpy()
    processes = events["process"].cat.codes.to_numpy()
    found = np.zeros(len(events), dtype=np.int64)
    for process in np.unique(processes[waiting]):
        own = processes == process
        waits = merge(start_ns[own & waiting], end_ns[own & waiting])
        found[own] = covered_ns(waits, start_ns[own], end_ns[own])
    return found


def _device_calls(
    run: Run, parents: np.ndarray, owner: np.ndarray, kernels: np.ndarray
) -> tuple[np.ndarray, pd.DataFrame]:
    """Device events summed by the call they were launched under: the owner, else the innermost event around the launch
    that is no annotation, else (no launch, or none in anything) the device event itself. (rows of events, times)"""
    events = run.events
    launches = positions(events, events["launch_id"].to_numpy()[kernels])
    not_annotation = (events["kind"] != "span").to_numpy()
    around = nearest(np.where(launches >= 0, parents[launches], -1), parents, not_annotation)
    owners = np.where(launches >= 0, owner[launches], -1)
    calls = np.where(owners >= 0, owners, np.where(around >= 0, around, kernels))
    durations = events["duration_ns"].to_numpy()[kernels]
    is_compute = (events["kind"] == "compute").to_numpy()[kernels] & (launches >= 0)
    pcie = run.traffic[run.traffic["tier"] == "pcie"]
    copied = (pcie["read_bytes"] + pcie["write_bytes"]).groupby(pcie["event_id"]).sum()
    parts = pd.DataFrame(
        {
            "duration_ns": durations, "compute_ns": durations * is_compute, "kernels": 1,
            "copied_bytes": copied.reindex(events["event_id"].to_numpy()[kernels], fill_value=0.0).to_numpy(),
        }
    )  # fmt: skip
    sums = parts.groupby(calls).sum()
    by_length = np.lexsort((durations, calls))
    longest = kernels[by_length[np.diff(calls[by_length], append=-1) != 0]]  # the last of each call, in order of calls
    sums["longest_kernel"] = events["name"].array[longest]
    return sums.index.to_numpy(), sums.reset_index(drop=True)
