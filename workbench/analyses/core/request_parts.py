"""What the time of a request went into: every span on its path belongs to one part, and so does every CPU second."""

import numpy as np
import pandas as pd

from workbench.analyses.core.request_path import Paths, ancestors
from workbench.trace.run import Run

# The paper's stack (Lui et al., ISPASS 2021), and that of its embedded portion: the shard that a net waited for last.
PARTS = ("dense", "embedded", "serialization", "service", "scheduling", "unaccounted")
EMBEDDED_PARTS = ("network", "serialization", "service", "scheduling", "sparse")
CPU_PARTS = ("dense", "sparse", "serialization", "service", "scheduling", "outside")
QUEUES = ("send_delay", "queue")

_EMBEDDED_SPANS = ("rpc_operator", "sparse_lookup")
_SCHEDULING_SPANS = ("batch", "net", "rpc_operator")
_CLIENT = "client"
_SIMULATED = "network"  # spans of messages that cross a simulated link


def path_parts(paths: Paths) -> pd.DataFrame:
    """Nanoseconds of every request's path by part, a row a request, in the order of `paths.roots`.

    Columns: end_to_end_ns, one for each of PARTS (summing to it), `embedded_<part>_ns` (summing to embedded_ns) and
    queued_ns, which is within scheduling_ns.
    """
    embedded = _inside(paths, _EMBEDDED_SPANS)
    part = _part_of(paths.events, embedded)
    kinds = np.where(embedded & (part != "unaccounted"), "embedded_" + part, part)
    sums = _by_request(paths, paths.own_ns, kinds)
    names = [f"embedded_{name}" for name in EMBEDDED_PARTS]
    sums = sums.reindex(columns=[name for name in PARTS if name != "embedded"] + names, fill_value=0)
    sums.insert(1, "embedded", sums[names].sum(axis=1))
    sums = sums.add_suffix("_ns")
    queued = paths.events["name"].isin(QUEUES).to_numpy()
    sums["queued_ns"] = _by_request(paths, np.where(queued, paths.own_ns, 0), np.full(len(part), "queued"))["queued"]
    whole_ns = _by_request(paths, paths.own_ns, np.full(len(part), "all"))["all"]
    parts_ns = sums[[f"{name}_ns" for name in PARTS]].sum(axis=1)
    assert (parts_ns == whole_ns).all(), "parts of requests do not sum to their end-to-end time"
    sums.insert(0, "end_to_end_ns", whole_ns)
    return sums


def cpu_parts(run: Run, paths: Paths) -> pd.DataFrame:
    """CPU time of every request on all servers (not its caller), by part: `cpu_<part>_ns`, rows as in `path_parts`.

    All spans count, those that no one waited for too, but not what simulating a network takes. What servers spend
    outside of any span (gRPC's own threads, the recorder) cannot be told by request: `outside` is its mean.
    """
    events = paths.events
    own_ns = _own_cpu_ns(paths)
    served = (events["process"] != _CLIENT).to_numpy()
    part = _part_of(events, _inside(paths, _EMBEDDED_SPANS))
    part = np.where(np.isin(part, ("network", "unaccounted")), "service", part)  # what an RPC costs its caller
    part = np.where(events["name"] == _SIMULATED, "simulated", part)
    sums = _by_request(paths, np.where(served, own_ns, 0.0), part)
    sums = sums.reindex(columns=[name for name in CPU_PARTS if name != "outside"], fill_value=0.0)
    sums["outside"] = _outside_cpu_ns(run, own_ns[served].sum(), len(np.unique(events["step"][served])))
    return sums.add_prefix("cpu_").add_suffix("_ns")


def shard_calls(paths: Paths) -> pd.DataFrame:
    """Every RPC to a sparse shard: process, request (row), whether a net waited for it last, how long it was
    outstanding at its caller, how long the shard worked on it, how much of that in sparse operators, and its bytes."""
    events, parent = paths.events, paths.parent
    process = events["process"].to_numpy()
    called = (events["name"] == "handler").to_numpy() & (parent >= 0) & (paths.request >= 0)
    handlers = np.flatnonzero(called & _inside(paths, ("rpc_operator",)) & (process != process[parent]))
    duration_ns = events["duration_ns"].to_numpy()
    handler_of = ancestors(parent, np.isin(np.arange(len(events)), handlers))
    lookups = np.flatnonzero((events["name"] == "sparse_lookup").to_numpy() & (handler_of >= 0))
    sparse_ns = np.bincount(handler_of[lookups], duration_ns[lookups], len(events))
    return pd.DataFrame(
        {
            "process": process[handlers],
            "request": paths.request[handlers],
            "bounding": paths.on_path[handlers],
            "outstanding_ns": duration_ns[parent[handlers]],
            "shard_ns": duration_ns[handlers],
            "sparse_ns": sparse_ns[handlers],
            "message_bytes": events["message_bytes"].to_numpy()[parent[handlers]],
        }
    )


def _inside(paths: Paths, names: tuple[str, ...]) -> np.ndarray:
    """Mask [spans] of those that bear one of the names, and of all below them."""
    return ancestors(paths.parent, paths.events["name"].isin(names).to_numpy()) >= 0


def _part_of(events: pd.DataFrame, embedded: np.ndarray) -> np.ndarray:
    """The part [spans] that a span's own time belongs to."""
    kind, name = (events[column].astype(str).to_numpy() for column in ("kind", "name"))
    conditions = {
        "serialization": kind == "serialization",
        "sparse": np.isin(kind, ("compute", "memory")) & embedded,
        "dense": np.isin(kind, ("compute", "memory")),
        "network": (kind == "communication") & embedded,
        "service": (kind == "communication") | (name == "handler"),
        "scheduling": (kind == "wait") | np.isin(name, _SCHEDULING_SPANS),
    }
    return np.select(list(conditions.values()), list(conditions), "unaccounted")


def _by_request(paths: Paths, values: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Sums of values [spans] by request and label: a row a request, in order, a column a label."""
    traced = paths.request >= 0
    found = pd.DataFrame({"request": paths.request[traced], "label": labels[traced], "value": values[traced]})
    return found.pivot_table(index="request", columns="label", values="value", aggfunc="sum", fill_value=0).reindex(
        paths.roots, fill_value=0
    )


def _own_cpu_ns(paths: Paths) -> np.ndarray:
    """CPU time [spans] of each span outside its children on the same lane, which its own clock includes."""
    events, parent = paths.events, paths.parent
    cpu_ns = events["cpu_ns"].fillna(0.0).to_numpy()
    process, lane = (events[column].cat.codes.to_numpy() for column in ("process", "lane"))
    inner = (parent >= 0) & (process == process[parent]) & (lane == lane[parent])
    return cpu_ns - np.bincount(parent[inner], cpu_ns[inner], len(events))


def _outside_cpu_ns(run: Run, in_spans_ns: float, requests: int) -> float:
    """Mean CPU time a request that servers spent outside of spans, between each one's first and last request.

    `requests` left spans, which took `in_spans_ns` together; those that were not sampled left readings alone.
    """
    clock = run.metrics
    clock = clock[(clock["name"] == "process_cpu_ns") & (clock["process"] != _CLIENT)]
    if not len(clock) or requests < 2:
        return 0.0
    spent = clock.groupby("process", observed=True)["value"].agg(["first", "last"])
    whole_ns = float((spent["last"] - spent["first"]).sum())
    served = max(requests, clock["step"].nunique())
    return max(whole_ns / (served - 1) - in_spans_ns / requests, 0.0)
