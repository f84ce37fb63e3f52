"""Collectives: how much of their time moves data, how much waits for the last rank, at what bandwidth, and who is late.

transfer = shortest duration over the ranks, a lower bound of the time that the data need; wait of a rank = latest start
- own start. algbw = message bytes / transfer; busbw = algbw x the collective's factor, comparable with a link's rate.
"""

from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.collectives import SEEN_BY, Collectives, collectives
from workbench.analyses.core.intervals import EMPTY, covered_ns
from workbench.analyses.core.peers import farthest_link, hosts_of, matrix
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.timeline import timelines
from workbench.costs.collectives import COLLECTIVES, SIZE_MEANING, busbw_factor
from workbench.trace.run import Run
from workbench.units import format_ns

_GROUP = ["process_group", "group_ranks", "group_size", "link"]
_KEYS = {
    "collective": ["rank", "process", "collective", "group_size"],
    "rank": ["rank", "process"],
    "call": ["rank", "process", "step", "collective", *_GROUP, "sequence", "match", "start_ns"],
    "process_group": ["rank", "process", *_GROUP],
    "link": ["rank", "process", "link"],
}


def communication(
    run: Run, *, by: Literal["collective", "call", "rank", "process_group", "link", "matrix"] = "collective"
) -> Result:
    """Rows by rank and collective type (or by rank, process group, link, or one a call): calls, bytes, duration, its
    wait and transfer, what compute hides of it; bandwidths against the ceiling at that size and group. Or `matrix`: the
    bytes of all-to-alls from each rank to each other. NaN where unknown."""
    if not ((run.events["kind"] == "communication") | (run.events["collective"] != "")).any():
        return not_applicable("communication", "the run has no collectives")
    found = collectives(run)
    if found is None and not (run.events["collective"] != "").any():
        return not_applicable("communication", "the run's communication is RPCs, no collectives: `latency` splits them")
    if found is None:
        return not_applicable("communication", "calls of collectives are here, but not the transfers behind them")
    hosts = hosts_of(run)
    table = matrix(found.calls, hosts) if by == "matrix" else None
    if table is not None and len(table) == 0:
        return not_applicable("communication", "no all-to-all is here whose splits are known")
    calls = _with_ceilings(run, _with_overlap(run, _with_links(found.calls, hosts)))
    calls["start_ns"] -= run.events["start_ns"].min()
    table = _rows(calls, _KEYS[by]) if table is None else table
    return Result("communication", table, _summary(found, calls), _notes(run, found, calls))


def _with_links(calls: pd.DataFrame, hosts: dict[int, str]) -> pd.DataFrame:
    """`calls` with group_ranks (text) and the farthest link within the group."""
    groups = {ranks: (_ranges(ranks), farthest_link(ranks, hosts)) for ranks in set(calls["members"])}
    texts, links = zip(*calls["members"].map(groups), strict=True)
    return calls.assign(group_ranks=texts, link=links)


def _ranges(ranks: tuple[int, ...]) -> str:
    """(0, 1, 2, 8) -> '0-2, 8'."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    return ", ".join("-".join(map(str, ends)) for ends in runs)


def _with_overlap(run: Run, calls: pd.DataFrame) -> pd.DataFrame:
    """`calls` with overlapped_ns (under compute of the same rank) and exposed_ns (the rest of the duration)."""
    hidden = {(line.process, line.device): line.foreground() for line in timelines(run)}
    overlapped_ns = pd.Series(0, index=calls.index)
    for key, rows in calls.groupby(["process", "device"], observed=True):
        end_ns = rows["start_ns"] + rows["duration_ns"]
        overlapped_ns[rows.index] = covered_ns(hidden.get(key, EMPTY), rows["start_ns"].to_numpy(), end_ns.to_numpy())
    return calls.assign(overlapped_ns=overlapped_ns, exposed_ns=calls["duration_ns"] - overlapped_ns)


def _with_ceilings(run: Run, calls: pd.DataFrame) -> pd.DataFrame:
    """`calls` with time_ns (transfer, or duration where ranks are missing), busbw_bytes, ceiling_ns and its source."""
    signatures = calls[["collective", "group_size", "message_bytes", "uneven"]].drop_duplicates()
    # Nobody knows the factor of a transfer whose type is unknown.
    factors = np.array([
        busbw_factor(row.collective, row.group_size) if row.collective in COLLECTIVES else np.nan
        for row in signatures.itertuples()
    ])  # fmt: skip
    # The size of an uneven all-to-all is already without the rank's own part; ceilings were measured on even ones.
    signatures["busbw_bytes"] = signatures["message_bytes"] * np.where(signatures["uneven"], 1, factors)
    even_bytes = signatures["message_bytes"] / np.where(signatures["uneven"], factors, 1)
    on_device = (calls["device"] != "cpu").any()
    found = [
        _ceiling(run, on_device, row.collective, row.group_size, size_bytes, row.busbw_bytes)
        for row, size_bytes in zip(signatures.itertuples(), even_bytes, strict=True)
    ]
    signatures["ceiling_ns"], signatures["ceiling_source"] = zip(*found, strict=True)
    time_ns = calls["transfer_ns"].fillna(calls["duration_ns"])
    return calls.assign(time_ns=time_ns.where(time_ns > 0)).merge(signatures, how="left")


def _ceiling(
    run: Run, on_device: bool, collective: str, group_size: int, message_bytes: float, busbw_bytes: float
) -> tuple[float, str]:
    """(ns, source) of the collective where it was measured at this size and group; on a device whose vendor promises a
    link rate, the time at that rate; else NaN."""
    if run.ceilings is None:
        return np.nan, ""
    backend = next((part["backend"] for part in run.parts if part.get("backend")), None)
    measured = run.ceilings.collective_ns(collective, group_size, message_bytes, backend)
    if measured:
        return measured.value, measured.source
    link = run.ceilings.bandwidth("nvlink", device="cuda:0") if on_device else None
    return (1e9 * busbw_bytes / link.value, link.source) if link and busbw_bytes > 0 else (np.nan, "")


def _rows(calls: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Sums over each group of calls; a rate is the ratio of two sums over the calls for which both are known."""
    sized = calls["message_bytes"].notna() & calls["time_ns"].notna()
    roofed = sized & calls["ceiling_ns"].notna()
    table = calls.assign(
        sized_bytes=calls["message_bytes"].where(sized), sized_busbw_bytes=calls["busbw_bytes"].where(sized),
        sized_ns=calls["time_ns"].where(sized), roofed_busbw_bytes=calls["busbw_bytes"].where(roofed),
        roofed_ns=calls["time_ns"].where(roofed), roof_ns=calls["ceiling_ns"].where(roofed),
        largest_part_bytes=calls["sent_bytes"].map(np.max, na_action="ignore").astype("float64"),
        mean_part_bytes=calls["sent_bytes"].map(np.mean, na_action="ignore").astype("float64"),
    )  # fmt: skip
    groups = table.groupby(keys, observed=True)
    summed = [name for name in table if name.endswith(("_bytes", "_ns")) and name not in keys]
    sums = groups[summed].sum(min_count=1)
    rows = pd.DataFrame({"calls": groups.size(), "bytes": sums["message_bytes"]})
    rows = rows.join(sums[["duration_ns", "wait_ns", "transfer_ns"]])
    rows["algbw_bytes_per_s"] = 1e9 * sums["sized_bytes"] / sums["sized_ns"]
    rows["busbw_bytes_per_s"] = 1e9 * sums["sized_busbw_bytes"] / sums["sized_ns"]
    rows["ceiling_bytes_per_s"] = 1e9 * sums["roofed_busbw_bytes"] / sums["roof_ns"]
    rows["efficiency_share"] = sums["roof_ns"] / sums["roofed_ns"]
    rows["split_imbalance"] = sums["largest_part_bytes"] / sums["mean_part_bytes"]
    rows = rows.join(sums[["exposed_ns", "overlapped_ns"]])
    rows["times_last"] = groups["last"].sum()
    rows["bytes_source"] = groups["bytes_source"].agg(_together)
    # In the order of the alphabet, measured < modelled < simulated: one simulated call makes the row simulated.
    rows = rows.join(groups[["ceiling_source", "source"]].max()).reset_index()
    if "collective" in rows:
        rows["size_meaning"] = rows["collective"].map(SIZE_MEANING).fillna("")
    return rows


def _together(words: pd.Series) -> str:
    """What differs within a row, in one text."""
    return ", ".join(sorted(set(words)))


def _summary(found: Collectives, calls: pd.DataFrame) -> dict:
    complete = calls[calls["complete"]]
    shared_share = complete["transfer_ns"].sum() / complete["duration_ns"].sum() if len(complete) else np.nan
    last = complete.loc[complete["last"], "rank"].value_counts()
    return {
        "collectives": int(calls["match"].nunique()),
        "calls": len(calls),
        "bytes": float(calls["message_bytes"].sum(min_count=1)),
        "duration_ns": int(calls["duration_ns"].sum()),
        "wait_ns": float(complete["wait_ns"].sum(min_count=1)),
        "transfer_ns": float(complete["transfer_ns"].sum(min_count=1)),
        "shared_pct": 100 * float(shared_share),
        "exposed_ns": int(calls["exposed_ns"].sum()),
        "overlapped_ns": int(calls["overlapped_ns"].sum()),
        "last_arrivals": {int(rank): int(times) for rank, times in last.items()},
        "clock_residual_ns": found.clock_residual_ns,
    }


def _notes(run: Run, found: Collectives, calls: pd.DataFrame) -> list[str]:
    notes = [f"durations are of {SEEN_BY[found.seen_by]}; matched over ranks by {found.matched_by}"]
    incomplete = int((~calls["complete"]).sum())
    if incomplete:
        lacking = f"{incomplete} of {len(calls)} calls lack ranks of their group"
        together = "their wait and transfer cannot be told apart, and their bandwidth is over both, a lower bound"
        notes.insert(0, f"{lacking}: {together}")
    unknown = int(calls["message_bytes"].isna().sum())
    if unknown:
        notes.append(
            f"the size of {unknown} of {len(calls)} calls is unknown: they are left out of bytes and bandwidths"
        )
    exchanges = calls[calls["collective"] == "all_to_all"]
    if unsplit := int(exchanges["sent_bytes"].isna().sum()):
        notes.append(f"the splits of {unsplit} of {len(exchanges)} all-to-alls are unknown: they are taken as even")
    if found.clocks_aligned:
        notes.append(
            "ranks' clocks were aligned on the ends of synchronising collectives, which still differ by "
            f"{format_ns(found.clock_residual_ns)} (95th percentile)"
        )
    elif found.clock_residual_ns >= 0:
        notes.append(
            "ranks' clocks were taken as they are: the ends of synchronising collectives differ by "
            f"{format_ns(found.clock_residual_ns)} (95th percentile), and so do transfer + wait from the duration"
        )
    if (calls["ceiling_source"] == "promised").any():
        notes.append("the promised ceiling is one device's links, one way, without latency: for groups inside one host")
    if run.ceilings is not None and calls["ceiling_ns"].isna().any():
        notes.append(f"no ceiling is known for {int(calls['ceiling_ns'].isna().sum())} of {len(calls)} calls")
    return notes
