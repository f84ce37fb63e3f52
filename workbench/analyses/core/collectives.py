"""Collectives as the ranks lived them: one row a rank and collective, matched over ranks, on one clock.

Each collective is counted once a rank, by the event that lasts as long as the transfer: the device kernel, else gloo's
own annotation (its thread blocks until the data are there), else the recorder's span. Calls on the host return at
once and say nothing about the transfer.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import of_category, recorded, tagged
from workbench.trace.clocks import SYNCHRONISING, clock_offsets
from workbench.trace.run import Run

SEEN_BY = {
    "device": "device kernels",
    "gloo": "gloo's own annotations, which last until the data are there",
    "spans": "the recorder's spans, since no profiler saw a transfer",
}
# A device's communication kernel whose name and launch tell no type; a size that nothing tells.
UNKNOWN = "unknown"
# Where the sizes of a recorder's spans are from; the others' sources are BYTES_SOURCES.
RECORDER = "recorder's span"
_TEXTS = ("process", "collective", "device", "process_group", "bytes_source", "source")
_COLUMNS = [
    "event_id", "rank", "process", "device", "step", "collective", "process_group", "group_size", "sequence",
    "message_bytes", "bytes_source", "start_ns", "duration_ns", "source",
]  # fmt: skip


@dataclass(frozen=True)
class Collectives:
    """`calls`: event_id, rank, process, device, step, collective, process_group, group_size, sequence, message_bytes
    (the largest over the ranks), bytes_source, start_ns, duration_ns, source; `members`, the ranks of the group as a
    tuple, empty where unknown; `sent_bytes`, an array by member, None where unknown; `uneven`, some rank's splits are;
    `match`, the same number on all ranks of one collective; `complete`, all its ranks are here; and where they are:
    transfer_ns (shortest duration over the ranks), wait_ns (latest start - own start) and `last` (this rank arrived
    last).

    `clock_residual_ns`: how far the ends of one synchronising collective still lie apart (95th percentile).
    """

    calls: pd.DataFrame
    seen_by: str
    matched_by: str
    clocks_aligned: bool
    clock_residual_ns: float


def collectives(run: Run) -> Collectives | None:
    """The collectives of a run, warm-up steps left out; None when no event lasts as long as a transfer."""
    calls, seen_by = _transfers(run.events)
    if len(calls) == 0:
        return None
    calls, matched_by = _match(_in_groups(run, calls))
    here = calls.groupby("match")["process"].transform("nunique")
    calls["complete"] = complete = (here == calls["group_size"]) & (here > 1)
    calls = _with_splits(run, calls)
    together = calls[calls["complete"] & calls["collective"].isin(SYNCHRONISING)]
    ends = together[["process", "match"]].assign(end_ns=together["start_ns"] + together["duration_ns"])
    offset_ns, residual_ns = clock_offsets(ends, one_clock=_on_one_host(run))
    start_ns = calls["start_ns"] - calls["process"].map(offset_ns).fillna(0).astype("int64")
    by_match, over_ranks = start_ns.groupby(calls["match"]), calls.groupby("match")
    calls["message_bytes"] = calls["message_bytes"].mask(complete, over_ranks["message_bytes"].transform("max"))
    calls["transfer_ns"] = over_ranks["duration_ns"].transform("min").where(complete)
    calls["wait_ns"] = np.minimum(by_match.transform("max") - start_ns, calls["duration_ns"]).where(complete)
    calls["last"] = complete & calls.index.isin(by_match.idxmax())
    return Collectives(calls, seen_by, matched_by, bool(offset_ns.any()), residual_ns)


def lasts(events: pd.DataFrame) -> dict[str, np.ndarray]:
    """Masks [events], by SEEN_BY, of what lasts as long as a transfer; in order of preference."""
    spans, device = recorded(events), (events["device"] != "cpu").to_numpy()
    named = (events["collective"] != "").to_numpy()
    gloo = of_category(events["name"], lambda name: name.startswith("gloo:"))
    return {
        "device": (events["kind"] == "communication").to_numpy() & device & ~spans,
        "gloo": named & gloo & ~spans,
        "spans": named & spans,
    }


def _transfers(events: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The best seen transfers, by rank and start, and how they were seen; warm-up steps left out."""
    masks = lasts(events)
    seen_by = next((by for by, mask in masks.items() if mask.any()), "device")
    calls = events.loc[masks[seen_by], _COLUMNS].astype(dict.fromkeys(_TEXTS, str))
    calls["collective"] = calls["collective"].replace("", UNKNOWN)
    if seen_by == "spans":
        calls["bytes_source"] = RECORDER
    calls["bytes_source"] = calls["bytes_source"].where(calls["message_bytes"].notna(), "").replace("", UNKNOWN)
    warm = events.loc[tagged(events, "warmup"), ["process", "step"]].astype({"process": str})
    calls = calls[~pd.MultiIndex.from_frame(calls[["process", "step"]]).isin(pd.MultiIndex.from_frame(warm))]
    return calls.sort_values(["rank", "process", "start_ns"], ignore_index=True), seen_by


def _in_groups(run: Run, calls: pd.DataFrame) -> pd.DataFrame:
    """`calls` with `members`, and the world as the group where the trace names none."""
    world_size = max([calls["process"].nunique(), *(int(part.get("world_size") or 0) for part in run.parts)])
    group_size = calls["group_size"].where(calls["group_size"] > 0, world_size)
    listed = {
        (part.get("rank"), group["name"]): tuple(group["ranks"])
        for part in run.parts
        for group in part.get("process_groups") or ()
    }

    def members(rank: int, group: str, size: int) -> tuple[int, ...]:
        ranks = listed.get((rank, group)) or (tuple(range(size)) if size == world_size else ())
        return ranks if len(ranks) == size else ()

    found = {key: members(*key) for key in set(zip(calls["rank"], calls["process_group"], group_size, strict=True))}
    keys = zip(calls["rank"], calls["process_group"], group_size, strict=True)
    return calls.assign(group_size=group_size, members=[found[key] for key in keys])


def _match(calls: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """`calls` with `match`, and what they were matched by: process group and sequence number where all have them, else
    the n-th of its type and group (or group size), within its step where ranks agree on the counts."""
    named = (calls["process_group"] != "").all()
    if named and (calls["sequence"] >= 0).all():
        # Several collectives that were started as one share a number.
        matched_by, keys = "process group and sequence number", ["process_group", "members", "sequence", "collective"]
    else:
        group = ["process_group", "members"] if named else ["group_size"]
        matched_by, keys = "order and type within a step", ["collective", *group, "step"]
        counts = calls.groupby([*keys, "process"]).size().groupby(keys)
        if (counts.nunique() > 1).any():
            matched_by, keys = "order and type", ["collective", *group]
        matched_by = f"process group, {matched_by}" if named else matched_by
    order = calls.groupby(["process", *keys]).cumcount().rename("order")
    return calls.assign(match=calls.groupby([*(calls[key] for key in keys), order]).ngroup()), matched_by


def _with_splits(run: Run, calls: pd.DataFrame) -> pd.DataFrame:
    """`calls` with `sent_bytes` and `uneven`; where one rank's splits are uneven, the size of all is what leaves or
    enters a rank, its own part left out."""
    known = {
        event_id: (sent, np.ptp(sent) > 0 or np.ptp(received) > 0)
        for event_id, sent, received in run.splits.itertuples(index=False)
    }
    sent, uneven = zip(*(known.get(event_id, (None, False)) for event_id in calls["event_id"]), strict=True)
    calls = calls.assign(sent_bytes=pd.Series(sent, calls.index, dtype=object), uneven=np.array(uneven, dtype=bool))
    of_match = calls.groupby("match")["uneven"].transform("any")
    of_others = calls["message_bytes"] * (calls["group_size"] - 1) / calls["group_size"]
    size_bytes = calls["message_bytes"].mask(of_match & ~calls["uneven"], of_others)
    return calls.assign(uneven=of_match, message_bytes=size_bytes)


def _on_one_host(run: Run) -> bool:
    hosts = {part.get("host") for part in run.parts}
    return len(hosts) == 1 and None not in hosts
