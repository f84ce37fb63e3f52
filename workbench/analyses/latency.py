"""What a distributed request's time goes into, from its caller to the sparse shards; at percentiles, and in the tail.

A stack belongs to a request: the time on its critical path, split by what the spans there do (core/request_path.py,
core/request_parts.py). A percentile's stack is the mean of the requests nearest that percentile, never a sum of
percentiles. Parts and their names follow Lui et al. (ISPASS 2021).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.block_bootstrap import interval_95, percentile_draws
from workbench.analyses.core.request_parts import CPU_PARTS, PARTS, cpu_parts, path_parts, shard_calls
from workbench.analyses.core.request_path import Paths, request_paths
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.rows import tagged, weakest_source
from workbench.errors import InputError
from workbench.trace.loader import load
from workbench.trace.run import Run
from workbench.units import format_ns

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# Requests from which a percentile is good to a few percent.
WANTED_REQUESTS = {50.0: 100, 90.0: 1_000, 99.0: 10_000, 99.9: 100_000}
_NEAREST_SHARE, _NEAREST_LEAST = 0.01, 5  # of the requests, whose mean is a percentile's stack
_TAIL_PERCENTILE = 99.0
_UNACCOUNTED_SHARE = 0.01


@dataclass(frozen=True)
class _Requests:
    """Answered requests of a run: their paths, `stacks` [requests] in order of time, and their RPCs to shards."""

    run: Run
    paths: Paths
    stacks: pd.DataFrame
    calls: pd.DataFrame

    @property
    def cpu_ns(self) -> float:
        """Mean CPU time a request on all servers."""
        return float(self.stacks[[f"cpu_{part}_ns" for part in CPU_PARTS]].sum(axis=1).mean())

    @property
    def source(self) -> str:
        """The least sure of what the figures come from."""
        return max(weakest_source(self.paths.events), "modelled" if self.paths.modelled else "measured")


def latency(
    run: Run, *, by: Literal["percentile", "request", "shard", "tail"] = "percentile", baseline: Path | None = None
) -> Result:
    """End-to-end time of requests split into its parts, with the embedded portion's and the servers' CPU time.

    `by`: one row a percentile; or one a request; a sparse shard; or a part, compared between the slowest 1 % and the
    rest. `baseline` is the path of a run to compare percentiles with (the paper's: singular).
    """
    requests = _answered(run)
    if requests is None:
        return not_applicable("latency", "the run traced no distributed request that was answered")
    table, summary = _TABLES[by](requests), _summary(requests)
    if baseline is not None:
        base = _answered(load(baseline))
        if base is None:
            raise InputError(f"baseline={baseline}: that run traced no distributed request that was answered")
        summary["cpu_overhead_pct"] = 100 * (requests.cpu_ns / (base.cpu_ns or np.nan) - 1)
        if by == "percentile":
            table = _with_overhead(table, requests, base)
    table["source"] = requests.source
    return Result("latency", table, summary, _notes(requests))


def _answered(run: Run) -> _Requests | None:
    """The run's requests; None where it has none."""
    paths = request_paths(run)
    if paths is None:
        return None
    return _Requests(run, paths, pd.concat([path_parts(paths), cpu_parts(run, paths)], axis=1), shard_calls(paths))


def _by_percentile(requests: _Requests) -> pd.DataFrame:
    """One row a percentile: its value with interval, and the mean stack of the requests nearest it."""
    by_latency = requests.stacks.sort_values("end_to_end_ns", kind="stable")
    count = len(by_latency)
    nearest = max(round(_NEAREST_SHARE * count), _NEAREST_LEAST)
    rows = []
    for percentile in PERCENTILES:
        first = round(percentile / 100 * (count - 1)) - nearest // 2
        first = int(np.clip(first, 0, max(count - nearest, 0)))
        rows.append({"percentile": percentile, **by_latency.iloc[first : first + nearest].mean()})
    table = pd.DataFrame(rows)
    latencies_ns = requests.stacks["end_to_end_ns"].to_numpy(dtype=float)
    table.insert(1, "latency_ns", np.percentile(latencies_ns, PERCENTILES))
    table["latency_low_ns"], table["latency_high_ns"] = interval_95(percentile_draws(latencies_ns, PERCENTILES, seed=0))
    return table


def _with_overhead(table: pd.DataFrame, requests: _Requests, base: _Requests) -> pd.DataFrame:
    """Each percentile over the baseline's same percentile, with the interval of the ratio."""
    ours_ns, base_ns = (of.stacks["end_to_end_ns"].to_numpy(dtype=float) for of in (requests, base))
    ratios = percentile_draws(ours_ns, PERCENTILES, seed=0) / percentile_draws(base_ns, PERCENTILES, seed=1)
    table["baseline_latency_ns"] = np.percentile(base_ns, PERCENTILES)
    table["overhead_pct"] = 100 * (table["latency_ns"] / table["baseline_latency_ns"] - 1)
    table["overhead_low_pct"], table["overhead_high_pct"] = 100 * (interval_95(ratios) - 1)
    return table


def _by_request(requests: _Requests) -> pd.DataFrame:
    """One row a request in order of time, with its rank among all and the shard that it waited for longest."""
    calls, table = requests.calls, requests.stacks.copy()
    bounding = calls[calls["bounding"]].sort_values("outstanding_ns").drop_duplicates("request", keep="last")
    table.insert(0, "step", requests.paths.events["step"].to_numpy()[table.index])
    table.insert(1, "percentile", 100 * (table["end_to_end_ns"].rank() - 0.5) / len(table))
    table["bounding_shard"] = bounding.set_index("request")["process"].astype(str).reindex(table.index).fillna("")
    table["rpcs"] = calls.groupby("request").size().reindex(table.index, fill_value=0)
    return table.reset_index(drop=True)


def _by_shard(requests: _Requests) -> pd.DataFrame:
    """One row a sparse shard, each replica for itself: calls, how often it was waited for, and mean times a call."""
    calls = requests.calls
    grouped = calls.groupby(calls["process"].astype(str))
    table = grouped[["outstanding_ns", "shard_ns", "sparse_ns", "message_bytes"]].mean()
    table.insert(0, "calls", grouped.size())
    table.insert(1, "bounding_share", grouped["bounding"].sum() / max(calls["bounding"].sum(), 1))
    table["network_ns"] = table["outstanding_ns"] - table["shard_ns"]
    return table.reset_index(names="shard")


def _by_tail(requests: _Requests) -> pd.DataFrame:
    """One row a part: its mean in the slowest requests, in the others, and how much of the difference it explains."""
    stacks = requests.stacks
    slow = (stacks["end_to_end_ns"] >= np.percentile(stacks["end_to_end_ns"], _TAIL_PERCENTILE)).to_numpy()
    keys = [key for key in stacks if key != "end_to_end_ns" and not key.startswith("cpu_")]
    table = pd.DataFrame({"part": [key.removesuffix("_ns") for key in keys]})
    table["tail_ns"] = stacks.loc[slow, keys].mean().to_numpy()
    table["rest_ns"] = stacks.loc[~slow, keys].mean().to_numpy()
    table["excess_ns"] = table["tail_ns"] - table["rest_ns"]
    table["excess_share"] = table["excess_ns"] / table.loc[table["part"].isin(PARTS), "excess_ns"].sum()
    return table.sort_values("excess_ns", ascending=False, ignore_index=True)


_TABLES = {"percentile": _by_percentile, "request": _by_request, "shard": _by_shard, "tail": _by_tail}


def _summary(requests: _Requests) -> dict:
    run, mean_ns = requests.run, requests.stacks.mean()
    asked = run.events[run.events["name"] == "request"]
    echo_ns = run.metrics.loc[run.metrics["name"] == "echo_ns", "value"]
    summary = {
        "strategy": (run.manifest.get("plan") or run.manifest.get("config", {})).get("strategy", ""),
        "requests": len(requests.stacks),
        "failed_requests": int((tagged(asked, "error") & ~tagged(asked, "warmup")).sum()),
        "rpcs_per_request": len(requests.calls) / len(requests.stacks),
    }
    summary |= {f"{part}_share": mean_ns[f"{part}_ns"] / mean_ns["end_to_end_ns"] for part in PARTS}
    summary["network_share"] = mean_ns["embedded_network_ns"] / (mean_ns["embedded_ns"] or np.nan)
    summary["cpu_ns"] = requests.cpu_ns
    return summary | {"echo_p50_ns": echo_ns.quantile(0.5), "echo_p99_ns": echo_ns.quantile(0.99)}


def _notes(requests: _Requests) -> list[str]:
    run, paths, stacks = requests.run, requests.paths, requests.stacks
    notes = []
    if paths.modelled:
        notes.append(
            "modelled: batches and RPCs ran one after the other and are put side by side again, as if each had a core"
        )
    cores = len(run.manifest.get("host", {}).get("usable_cpus", []))
    servers = paths.events.loc[paths.events["process"] != "client", "process"].nunique()
    if not paths.modelled and 0 < cores < servers:
        notes.append(
            f"{servers} servers shared {cores} cores, so they slowed each other: their CPU time alone takes "
            f"{format_ns(requests.cpu_ns / cores)} of all cores a request; run with --set uncontended=true for the "
            "critical path that is modelled from spans which nothing slowed"
        )
    short = [f"P{p:g} ({wanted:,})" for p, wanted in WANTED_REQUESTS.items() if len(stacks) < wanted]
    if short:
        notes.append(f"{len(stacks):,} requests are few for {', '.join(short)}: read their intervals")
    if len(requests.calls):
        notes.append(
            "network is what an RPC was outstanding at its caller beyond the shard's own time, the caller's scheduling "
            "included; echo_*_ns is an RPC without content beside the same requests"
        )
    holes = stacks["unaccounted_ns"] > _UNACCOUNTED_SHARE * stacks["end_to_end_ns"]
    if holes.any():
        largest = format_ns(stacks["unaccounted_ns"].max())
        notes.append(f"in {holes.sum()} of {len(holes)} requests over 1 % lies in no inner span, at most {largest}")
    return notes
