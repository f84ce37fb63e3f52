"""What can be said of memory without knowing reuse: operators' compulsory bytes, and the copies that were measured."""

import pandas as pd

from workbench.analyses.core.operator_calls import operator_calls, operator_costs, sampled
from workbench.analyses.core.operator_limits import memory_ns
from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.rows import positions
from workbench.trace.run import Run


def operator_tiers(run: Run, share: RankShare) -> tuple[pd.DataFrame, int]:
    """(rows by tier, sampled steps of all processes); no rows when the run holds no operators with shapes.

    Columns: tier, capacity_bytes, read_bytes, write_bytes, time_ns, source. Memory carries every operand once
    (modelled); links such as PCIe carry what the profiler counted (measured).
    """
    run = with_paired_lookups(run)
    costs = operator_costs(run)
    calls = operator_calls(run, costs)
    calls = calls[calls["operator_id"].isin(list(costs))]
    if len(calls) == 0:
        return pd.DataFrame(), 0
    memory, capacity_bytes = share.tiers()[-1]
    per_call = pd.DataFrame.from_dict(
        {key: (costs[key].read_bytes, costs[key].write_bytes, memory_ns(costs[key], share, memory))
         for key in calls["operator_id"].unique()},
        orient="index", columns=["read_bytes", "write_bytes", "time_ns"],
    )  # fmt: skip
    moved = per_call.loc[calls["operator_id"]].sum(skipna=False)
    rows = [{"tier": memory, "capacity_bytes": capacity_bytes, **moved, "source": "modelled"}, *_links(run)]
    return pd.DataFrame(rows), len(calls[["process", "step"]].drop_duplicates())


def _links(run: Run) -> list[dict]:
    """Measured copies of the sampled steps over anything but the device's memory."""
    row = positions(run.events, run.traffic["event_id"].to_numpy())
    time_ns = run.events["duration_ns"].to_numpy(float)[row]
    chosen = (run.traffic["tier"] != "hbm") & (row >= 0) & sampled(run.events)[row]
    copies = run.traffic.assign(time_ns=time_ns)[chosen]
    sums = copies.groupby("tier", observed=True)[["read_bytes", "write_bytes", "time_ns"]].sum()
    return [{"tier": str(tier), "capacity_bytes": float("nan"), **row, "source": "measured"}
            for tier, row in sums.to_dict("index").items()]  # fmt: skip
