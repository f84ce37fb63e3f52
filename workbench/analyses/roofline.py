"""Every operator against the ceilings of the machine: how fast it ran, how fast it could, what holds it back.

A point is an operator (name, shapes, dtypes) over its calls in the sampled steps. FLOPs and compulsory bytes come from
`workbench.costs`, the time was measured, the roof is min(peak, bandwidth x intensity) with the ceilings that hold for
one rank while all ranks are active (Williams and others, "Roofline", CACM 2009).
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_calls import VIEW, operator_calls, operator_costs
from workbench.analyses.core.operator_limits import footprint_bytes, limits, random_rows
from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.result import Result, not_applicable
from workbench.costs import BYTES_BASIS, Cost
from workbench.trace.run import Run

# Slower than its roof by more than this, an operator is held back by neither arithmetic nor memory ...
FAR_FROM_ROOF = 3.0
# ... and if its time is within this of a call with next to nothing to do, by the call itself.
NEAR_EMPTY = 2.0

# On a device nobody measured that call: the time of the shortest kernels of the trace stands for it, though never more
# than a kernel takes that does nothing (2 to 5 us, as profilers time it).
SHORT_QUANTILE = 0.05
LONGEST_EMPTY_KERNEL_NS = 5000

COLUMNS = (
    "name", "shapes", "dtypes", "phase", "calls", "flops", "bytes", "bytes_basis", "tier", "precision", "duration_ns",
    "duration_per_step_ns", "time_share", "intensity", "flops_per_s", "bytes_per_s", "roof_flops_per_s",
    "roof_bytes_per_s", "bound_ns", "bound", "headroom_ns", "headroom_share", "ceiling_source", "model",
)  # fmt: skip
_MEASURED = ["duration_ns", "compute_ns", "kernels", "copied_bytes"]
_MODELLED = ["flops", "bytes", "compute_limit_ns", "memory_limit_ns", "bound_ns"]


def roofline(run: Run, *, by: Literal["operator", "kernel"] = "operator", rank: int | None = None) -> Result:
    """One row an operator and its shapes, or a device's kernel, by headroom; `rank` restricts it to one rank. Time
    shares sum to 1.

    Operators without a cost model (and views) stand with their self time, by name. A call of several kernels stands
    whole under the longest of them: its FLOPs cannot be told apart. Communication is left out.
    """
    run = with_paired_lookups(run)
    costs = operator_costs(run)
    calls = operator_calls(run, costs, rank)
    busy_ns = int(calls["duration_ns"].sum())
    if busy_ns == 0:
        return not_applicable("roofline", "the run holds neither operators nor kernels, as a profiler records them")
    on_device = bool((calls["kernels"] > 0).any())
    if by == "kernel" and not on_device:
        return not_applicable("roofline", "by=kernel needs a device's kernels, and no device worked in this run")
    share = RankShare.of(run)
    steps = len(calls[["process", "step"]].drop_duplicates())
    table = _table(run, calls, costs, share, by, busy_ns)
    table["duration_per_step_ns"] = table["duration_ns"] / steps
    covered_share = float(calls.loc[calls["covered"], "duration_ns"].sum() / busy_ns)
    summary = {
        "covered_time_share": covered_share,
        "steps": steps,
        "busy_per_step_ns": busy_ns / steps,
        "step_bound_ns": _total(table["bound_ns"]) / steps,
        "headroom_per_step_ns": _total(table["headroom_ns"]) / steps,
        "beyond_roof_time_share": float(table.loc[table["headroom_ns"] < 0, "time_share"].sum()),
        "device": share.device,
        "active_ranks": share.active,
        "threads_per_rank": share.threads,
        "roofs": _roofs(share, costs, calls),
    }
    if on_device:
        compute_ns = calls["compute_ns"]
        summary["other_kernel_time_pct"] = float(100 * compute_ns[~calls["named"]].sum() / max(compute_ns.sum(), 1))
    notes = _notes(summary, table, on_device)
    if by == "kernel":
        several_share = calls.loc[calls["kernels"] > 1, "duration_ns"].sum() / busy_ns
        notes.append(
            f"{several_share:.1%} of the time is in calls of several kernels, which stand under the longest one"
        )
    return Result("roofline", table[list(COLUMNS)], summary, notes)


def bound_by(duration_ns: float, compute_ns: float, memory_ns: float, near_empty_ns: float | None) -> str:
    """What holds a call back, from its time, its two limits, and the time of a call with next to nothing to do.

    compute or memory, whichever limit is longer, within FAR_FROM_ROOF of it; beyond, overhead when the time is within
    NEAR_EMPTY of a near-empty call (or there is no work at all, as in a view), else inefficient; unknown without roof.
    """
    limit_ns = max(compute_ns, memory_ns) if not math.isnan(compute_ns + memory_ns) else math.nan
    if math.isnan(limit_ns):
        return "unknown"
    if limit_ns == 0 or (duration_ns > FAR_FROM_ROOF * limit_ns and duration_ns <= NEAR_EMPTY * (near_empty_ns or 0)):
        return "overhead"
    if duration_ns > FAR_FROM_ROOF * limit_ns:
        return "inefficient"
    return "compute" if compute_ns >= memory_ns else "memory"


def _table(
    run: Run, calls: pd.DataFrame, costs: Mapping[int, Cost], share: RankShare, by: str, busy_ns: int
) -> pd.DataFrame:
    """COLUMNS, one row an operator or kernel, by headroom."""
    alike = _alike(calls, "name" if by == "operator" else "longest_kernel")
    alike = alike.join(_per_call(calls, costs, share), on="operator_id")
    alike[_MODELLED] = alike[_MODELLED].mul(alike["calls"], axis=0)
    shaped = alike["covered"] & (alike["model"] != VIEW)
    signatures = run.operators.reindex(alike["operator_id"])
    alike["shapes"] = np.where(shaped & (by == "operator"), signatures["input_dims"], "")
    alike["dtypes"] = np.where(shaped, signatures["input_types"], "")
    texts = ["model", "tier", "precision", "ceiling_source"]
    alike[texts] = alike[texts].astype("object").fillna("")
    groups = alike.groupby(["name", "shapes", "dtypes", "model"], sort=False)
    table = groups[[*_MEASURED, *_MODELLED, "calls"]].sum(min_count=1)
    table = table.join(groups[["tier", "precision", "ceiling_source"]].first())
    table["phase"] = groups["phase"].agg(lambda phases: ", ".join(sorted(set(phases) - {""})))
    table = table.reset_index()
    _mark_copies(table)
    _rate(table, busy_ns)
    per_call = [table[name] / table["calls"] for name in ("duration_ns", "compute_limit_ns", "memory_limit_ns")]
    table["bound"] = list(map(bound_by, *per_call, _near_empty_ns(table, share)))
    return table.sort_values(["headroom_ns", "duration_ns"], ascending=False, na_position="last", ignore_index=True)


def _alike(calls: pd.DataFrame, name: str) -> pd.DataFrame:
    """Measured sums over calls of one operator, signature and phase, which are few where calls are millions; `name` is
    the column with what the row is called."""
    groups = calls.groupby([name, "operator_id", "covered", "phase"], sort=False, observed=True)
    table = groups[_MEASURED].sum().assign(calls=groups.size()).reset_index().rename(columns={name: "name"})
    return table.astype({"name": "object", "phase": "object"})


def _per_call(calls: pd.DataFrame, costs: Mapping[int, Cost], share: RankShare) -> pd.DataFrame:
    """What one call costs and the limits of its time, by operator_id."""
    columns = ("flops", "bytes", "model", "precision", "tier", "ceiling_source", "compute_limit_ns", "memory_limit_ns",
               "bound_ns")  # fmt: skip
    rows = {}
    for key in _known(calls, costs):
        known = costs[key]
        limit = limits(known, share)
        rows[key] = (limit.flops, known.bytes, known.model, known.precision, limit.tier, limit.source,
                     limit.compute_ns, limit.memory_ns, limit.bound_ns)  # fmt: skip
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    numbers = ["flops", "bytes", "compute_limit_ns", "memory_limit_ns", "bound_ns"]
    return found.astype(dict.fromkeys(numbers, float))  # also where nothing is known, and pandas cannot tell


def _known(calls: pd.DataFrame, costs: Mapping[int, Cost]) -> list[int]:
    return [int(key) for key in calls["operator_id"].unique() if key in costs]


def _mark_copies(table: pd.DataFrame) -> None:
    """Copies between host and device cross PCIe: their bytes are those that the profiler counted, and no roof of the
    device's memory is theirs."""
    table["bytes_basis"] = np.where(table["bytes"].notna(), BYTES_BASIS, "")
    copies = (table["copied_bytes"] > 0) & (table["compute_ns"] == 0)
    table.loc[copies, "bytes"] = table.loc[copies, "copied_bytes"]
    table.loc[copies, ["bytes_basis", "tier", "ceiling_source"]] = ["copied", "pcie", ""]
    table.loc[copies, ["compute_limit_ns", "memory_limit_ns", "bound_ns"]] = np.nan


def _rate(table: pd.DataFrame, busy_ns: int) -> None:
    """Achieved and attainable rates, in place."""
    seconds = (table["duration_ns"] / 1e9).where(table["duration_ns"] > 0)
    bound_seconds = (table["bound_ns"] / 1e9).where(table["bound_ns"] > 0)
    with_flops = table["flops"].where(table["flops"] > 0)
    table["time_share"] = table["duration_ns"] / busy_ns
    table["intensity"] = table["flops"] / table["bytes"].where(table["bytes"] > 0)
    table["flops_per_s"], table["bytes_per_s"] = table["flops"] / seconds, table["bytes"] / seconds
    table["roof_flops_per_s"], table["roof_bytes_per_s"] = with_flops / bound_seconds, table["bytes"] / bound_seconds
    table["headroom_ns"] = table["duration_ns"] - table["bound_ns"]
    table["headroom_share"] = table["headroom_ns"] / busy_ns


def _near_empty_ns(table: pd.DataFrame, share: RankShare) -> list[float | None]:
    """Per row, the time of one call with next to nothing to do: measured for that operator on the host; on a device
    that of a short kernel of this trace, for each kernel that a call launches."""
    if (table["kernels"] > 0).any():
        short_ns = min((table["duration_ns"] / table["kernels"]).quantile(SHORT_QUANTILE), LONGEST_EMPTY_KERNEL_NS)
        return list(short_ns * table["kernels"] / table["calls"])
    if share.ceilings is None:
        return [None] * len(table)
    measured = [share.ceilings.overhead_ns(name) for name in table["name"]]
    return [ceiling.value if ceiling is not None else None for ceiling in measured]


def _roofs(share: RankShare, costs: Mapping[int, Cost], calls: pd.DataFrame) -> list[dict]:
    """The ceilings that the rows stand against: {name, kind, tier, precision, value, unit, source, method}."""
    used = [costs[key] for key in _known(calls, costs)]
    found = []
    for precision in sorted({known.precision for known in used if known.flops > 0}):
        found.append((f"{precision} peak", "compute", "", precision, share.peak(precision)))
    for tier, _ in share.tiers():
        own, ceiling = share.stream(tier)
        if own == tier:
            # Vendors promise the bandwidth of the part, not what a triad gets of it.
            measured = "bandwidth" if ceiling is not None and ceiling.source == "promised" else "triad"
            found.append((f"{tier} {measured}", "bandwidth", tier, "", ceiling))
    gathers = {}  # one a tier: that of the call which reads the most rows
    for rows in sorted(filter(None, map(random_rows, used)), key=lambda rows: rows.rows):
        tier, stream = share.stream(share.tier_of(footprint_bytes(rows)))
        ceiling = share.gather(tier, rows.row_bytes, footprint_bytes(rows))
        if ceiling != stream:  # otherwise no gather was measured
            gathers[tier] = (f"{tier} gather of {rows.row_bytes:g} B rows", "gather", tier, "", ceiling)
    found += gathers.values()
    return [
        {"name": name, "kind": kind, "tier": tier, "precision": precision, "value": ceiling.value,
         "unit": ceiling.unit, "source": ceiling.source, "method": ceiling.method}
        for name, kind, tier, precision, ceiling in found if ceiling is not None
    ]  # fmt: skip


def _total(values: pd.Series) -> float:
    return float(values.sum(min_count=1))


def _notes(summary: dict, table: pd.DataFrame, on_device: bool) -> list[str]:
    notes = []
    covered_pct, beyond_pct = (100 * summary[key] for key in ("covered_time_share", "beyond_roof_time_share"))
    if covered_pct < 90:
        missing = ", ".join(name[:60] for name in table[table["model"] == ""].nlargest(3, "duration_ns")["name"])
        notes.append(f"only {covered_pct:.1f} % of the busy time has a cost model; the most of the rest is {missing}")
    if not summary["roofs"]:
        notes.append("no ceilings are known for this device: no roof, no bound, no headroom")
    if on_device:
        times, whose = "of the kernels launched under a call", "one device"
    else:
        times = "of a call with all that it calls, on the host"
        threads, ranks = summary["threads_per_rank"] or "all", summary["active_ranks"]
        whose = f"{threads} core{'s' * (threads != 1)} a rank, {ranks} rank{'s' * (ranks != 1)} at work"
    sources = " or ".join(sorted({roof["source"] for roof in summary["roofs"]})) or "unknown"
    notes.append(
        f"times are measured, {times}; bytes are {BYTES_BASIS} (each operand once); ceilings are {sources}, "
        f"of {whose}; communication is left out"
    )
    if beyond_pct > 0:
        notes.append(
            f"{beyond_pct:.1f} % of the time lies beyond its roof: operands came from a nearer tier than the one whose "
            "bandwidth is known, or fewer of them were touched than the model says"
        )
    return notes
