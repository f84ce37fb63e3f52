"""Where memory traffic goes: bytes, time and reuse of embedding rows and dense operands by memory tier.

From the sampled accesses, by reuse distance, with the rank's share of each tier (core/tier_cut.py says how, and
core/access_stream.py what is assumed of the order). A trace without accesses gets the compulsory bytes of its
operators, all to and from memory.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.access_stream import PARTS, PHASES, ROW_LOOKUP, ROW_PARTS, windows
from workbench.analyses.core.cache_rows import cache_rows_table
from workbench.analyses.core.operator_tiers import measured_tiers, operator_tiers
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.replay import Replay, replay
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.software_cache import RankRows, curve, miss_share, rank_rows, table_rows
from workbench.errors import InputError
from workbench.trace.run import Run
from workbench.units import format_bytes

# Where nobody states a software cache's size: so much of the rows that the sample touches.
CACHE_SHARE = 0.1


def memory_tiers(
    run: Run,
    *,
    by: Literal["tier", "operator", "table", "capacity", "phase", "cache", "measured"] = "tier",
    cache_rows: int | None = None,
    last_level_bytes: float | None = None,
    memory_bytes_per_s: float | None = None,
    backing_bytes_per_s: float | None = None,
) -> Result:
    """Rows by memory tier, by operator (its compulsory bytes), by embedding table, by capacity of a software cache (the
    miss-ratio curve), by phase, by rank the row cache that the run trained through (cache), as replayed and as
    measured, or by operator or span the bytes that the run itself counted (measured).

    `cache_rows` states the software cache, in rows a rank, that the hit shares hold for. What-if: `last_level_bytes`
    (the whole last cache level) and `memory_bytes_per_s` (what a rank gets from memory) re-cut the same distances; with
    by=cache, `cache_rows` and `backing_bytes_per_s` (at which rows move behind the cache) give another step time.
    """
    stated = {"cache_rows": cache_rows, "last_level_bytes": last_level_bytes,
              "memory_bytes_per_s": memory_bytes_per_s, "backing_bytes_per_s": backing_bytes_per_s}  # fmt: skip
    for name, value in stated.items():
        if value is not None and not value > 0:
            raise InputError(f"setting {name}={value} must be above 0")
    if by == "cache":
        return _by_cache(run, cache_rows, backing_bytes_per_s)
    if by == "measured":
        return _measured(run)
    share = RankShare.of(run)
    share = dataclasses.replace(share, last_level_bytes=last_level_bytes, memory_bytes_per_s=memory_bytes_per_s)
    tables = run.manifest.get("tables", [])
    if by == "operator":
        return _compulsory(run, share, by_operator=True)
    if run.accesses["rows"].map(len).sum() == 0 or run.accesses["table"].max() >= len(tables):
        if by != "tier":
            return not_applicable("memory_tiers", f"by={by} needs embedding accesses, as our own workloads record them")
        return _compulsory(run, share, by_operator=False)
    ranks = [rank_rows(window, tables) for window in windows(run.accesses)]
    replayed = replay(run, tables, share)
    summary = _summary(ranks, replayed, share, cache_rows)
    if by == "capacity":
        table = curve(ranks, summary["supported_rows"])
    elif by == "table":
        table = _by_table(ranks, replayed, tables, summary)
    else:
        table = _by_tier(replayed, share, split=by == "phase")
    notes = _notes(ranks, replayed, summary, share)
    if len(run.traffic):
        notes.append("bytes that the run counted itself are not in the modelled rows: by=measured shows them")
    if len(table) == 0:
        notes.append("the sample is too short for a single row here: sample more steps")
    return Result("memory_tiers", table.assign(source="modelled"), summary, notes)


def _by_tier(replayed: Replay, share: RankShare, split: bool) -> pd.DataFrame:
    """One row a tier; with `split`, one a phase and tier."""
    touches, read_bytes, write_bytes, time_ns = (
        sum(getattr(own, name) for own in replayed.cuts).sum(axis=2)  # [tier, part]
        for name in ("touches", "read_bytes", "write_bytes", "time_ns")
    )
    rows = []
    for phase in dict.fromkeys(PHASES) if split else (None,):
        parts = [part for part in range(len(PARTS)) if phase in (None, PHASES[part])]
        row_parts = [part for part in parts if part in ROW_PARTS]
        row_touches = touches[:, row_parts].sum(axis=1)
        for place, (tier, capacity_bytes) in enumerate(share.tiers()):
            rows.append({
                "phase": phase, "tier": tier, "capacity_bytes": capacity_bytes,
                "accesses_share": row_touches[place] / row_touches.sum() if row_touches.any() else np.nan,
                "read_bytes": read_bytes[place, parts].sum(), "write_bytes": write_bytes[place, parts].sum(),
                "time_ns": time_ns[place, parts].sum(),
            })  # fmt: skip
    table = _with_shares(pd.DataFrame(rows))
    return table if split else table.drop(columns="phase")


def _with_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Shares of all bytes and all time, and the bandwidth at which bytes moved; no capacity where it is unbounded."""
    moved = table["read_bytes"] + table["write_bytes"]
    seconds = (table["time_ns"] / 1e9).where(table["time_ns"] > 0)
    return table.assign(
        bytes_share=moved / moved.sum(), time_share=table["time_ns"] / table["time_ns"].sum(),
        bandwidth_bytes_per_s=moved / seconds, capacity_bytes=table["capacity_bytes"].replace(np.inf, np.nan),
    )  # fmt: skip


def _by_table(ranks: Sequence[RankRows], replayed: Replay, tables: Sequence[dict], summary: dict) -> pd.DataFrame:
    """One row a table and rank that looked it up, the most lookups first."""
    found = []
    for rank, own in zip(ranks, replayed.cuts, strict=True):
        rows = table_rows(rank, tables, summary["cache_rows"])
        lookups = own.touches[:, ROW_LOOKUP, :]
        served = lookups[-1] / np.where(lookups.sum(axis=0) > 0, lookups.sum(axis=0), np.nan)
        found.append(rows.assign(memory_share=served[rows.pop("table_index")]))
    table = pd.concat(found).sort_values("lookups", ascending=False, ignore_index=True)
    if summary["cache_rows"] > summary["supported_rows"]:
        table[["lookup_hit_share", "unique_row_hit_share"]] = np.nan
    return table


def _by_cache(run: Run, cache_rows: int | None, backing_bytes_per_s: float | None) -> Result:
    """One row a rank."""
    if "cache" not in run.manifest or run.accesses["rows"].map(len).sum() == 0:
        return not_applicable("memory_tiers", "by=cache needs a run that trained through a row cache (cache_share)")
    table = cache_rows_table(run, cache_rows, backing_bytes_per_s)
    if len(table) == 0:
        return not_applicable("memory_tiers", "the sampled steps recorded nothing of their cache")
    whole = {name: float(table[name].mean()) for name in table if name.endswith("_hit_share")}
    whole |= {name: float(table[name].max()) for name in ("step_predicted_ns", "step_measured_ns")}
    notes = [
        "the cache is replayed from the sampled accesses, from empty; measured are the same steps, the second half of "
        "the sample; step times are of the slowest rank, modelled as max(own, fetch) with costs a row from the run"
    ]
    if cache_rows is not None or backing_bytes_per_s is not None:
        notes.insert(0, "what-if: capacities or bandwidths are the caller's, not the run's")
    return Result("memory_tiers", table.assign(source="simulated"), whole, notes)


def _measured(run: Run) -> Result:
    """One row an operator or span and tier: what the run counted, such as copies of row caches and to a device."""
    table = measured_tiers(run)
    if len(table) == 0:
        return not_applicable("memory_tiers", "by=measured: the sampled steps counted no bytes of their own")
    notes = [
        "bytes are as counted while they were copied, in the sampled steps; times are of the events that copied them, "
        "with all else that these did and once in every tier they touched: the copies had these bandwidths at least"
    ]
    return Result("memory_tiers", _with_shares(table), {}, notes)


def _compulsory(run: Run, share: RankShare, by_operator: bool) -> Result:
    """Operators' compulsory bytes: all that can be told without accesses."""
    table, steps = operator_tiers(run, share, by_operator)
    if len(table) == 0:
        return not_applicable("memory_tiers", "the run holds neither embedding accesses nor operators with shapes")
    notes = [
        "bytes are compulsory (each operand once), all to and from the device's memory: what caches keep from one "
        "operator to the next is not modelled; of links such as PCIe they are those that the profiler counted"
    ]
    if not by_operator:
        notes.insert(0, "no embedding accesses were recorded, so nothing is known of reuse, by tier or by table")
    return Result("memory_tiers", _with_shares(table), {"steps": steps} | _machine(share), notes)


def _summary(ranks: Sequence[RankRows], replayed: Replay, share: RankShare, cache_rows: int | None) -> dict:
    supported_rows = min(rank.supported_rows for rank in ranks)
    if cache_rows is None:
        touched = min(int(rank.unique.unit.max(initial=-1)) + 1 for rank in ranks)
        cache_rows = max(1, min(int(CACHE_SHARE * touched), supported_rows))
    hits = {
        f"{per}_hit_share": 1 - miss_share(ranks, stream, cache_rows) if cache_rows <= supported_rows else np.nan
        for per, stream in (("lookup", "lookups"), ("unique_row", "unique"))
    }
    lookups = sum(own.touches[:, ROW_LOOKUP].sum(axis=1) for own in replayed.cuts)  # [tier]
    return {
        "memory_share": float(lookups[-1] / max(lookups.sum(), 1)),
        "cache_rows": cache_rows,
        "cache_bytes": cache_rows * max(rank.slot_bytes for rank in ranks),
        **hits,
        "supported_rows": supported_rows,
        "counted_steps": max(rank.window.counted_steps for rank in ranks),
        "prefix_steps": min(len(rank.window.steps) - rank.window.counted_steps for rank in ranks),
        "replayed_steps": replayed.steps,
        "lookups": int(sum(rank.lookups.counted.sum() for rank in ranks)),
        "unique_rows": int(sum(rank.unique.counted.sum() for rank in ranks)),
        "followed_share": min(rank.lookups.reuse.rate for rank in ranks),
        "embedding_predicted_ns": replayed.embedding_predicted_ns,
        "embedding_measured_ns": replayed.embedding_measured_ns,
        "predicted_over_measured": replayed.embedding_predicted_ns / replayed.embedding_measured_ns,
    } | _machine(share)


def _machine(share: RankShare) -> dict:
    tiers = [{"tier": tier, "capacity_bytes": capacity_bytes} for tier, capacity_bytes in share.tiers()]
    return {"device": share.device, "active_ranks": share.active, "tiers": tiers}


def _notes(ranks: Sequence[RankRows], replayed: Replay, summary: dict, share: RankShare) -> list[str]:
    notes = []
    supported_rows, steps, prefix = summary["supported_rows"], summary["counted_steps"], summary["prefix_steps"]
    if share.last_level_bytes is not None or share.memory_bytes_per_s is not None:
        notes.append("what-if: capacities or bandwidths are the caller's, not this machine's")
    if share.ceilings is None:
        notes.append("no ceilings are known for this device: only its memory is modelled, without caches and times")
    notes.append(
        f"{steps} steps count, after {prefix} that only fill the caches; of software caches the sample speaks up to "
        f"{supported_rows:,} rows ({format_bytes(supported_rows * ranks[0].slot_bytes)}) a rank"
    )
    if summary["cache_rows"] > supported_rows:
        notes.append(f"a cache of {summary['cache_rows']:,} rows is larger: its hit shares need more sampled steps")
    if replayed.steps < steps + prefix:
        notes.append(
            f"tiers: only the first {replayed.steps} of these steps are replayed, the second half of them counted"
        )
    filled_bytes = min(own.prefix_bytes for own in replayed.cuts)
    unfilled = [tier for tier, capacity_bytes in share.tiers()[:-1] if capacity_bytes > filled_bytes]
    if unfilled:
        notes.append(
            f"the steps that fill caches touch {format_bytes(filled_bytes)}, less than {', '.join(unfilled)} holds: "
            "a longer run may hit there more"
        )
    if not replayed.has_dense:
        notes.append("no operators were profiled: without their operands the caches look warmer than they are")
    if summary["followed_share"] < 1:
        notes.append(f"software caches: SHARDS sampling follows {100 * summary['followed_share']:.2g} % of the rows")
    notes.append(
        "tiers are modelled: inclusive, fully associative LRU with the rank's share of each, write-back and "
        "write-allocate, 64 B lines; a dense operator's operands are one block, and what it leaves for the next is not "
        "modelled"
    )
    return notes
