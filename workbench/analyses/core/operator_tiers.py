"""What can be said of memory without knowing reuse: operators' compulsory bytes, and the copies that were measured."""

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_calls import operator_calls, operator_costs, sampled
from workbench.analyses.core.operator_limits import memory_ns
from workbench.analyses.core.paired_lookups import with_paired_lookups
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.rows import NO_OPERATOR, launching_operators, positions, recorded
from workbench.trace.run import Run

_MOVED = ["read_bytes", "write_bytes", "time_ns"]


def operator_tiers(run: Run, share: RankShare, by_operator: bool = False) -> tuple[pd.DataFrame, int]:
    """(rows by tier, or by operator and tier, the most bytes first; sampled steps of all processes); no rows when the
    run holds no operators with shapes.

    Columns: operator (by operator), tier, capacity_bytes, read_bytes, write_bytes, time_ns, source. Memory carries
    every operand once (modelled); links such as PCIe carry what the profiler counted (measured).
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
        orient="index", columns=_MOVED,
    )  # fmt: skip
    in_memory = calls.join(per_call, on="operator_id").assign(
        operator=calls["name"].astype("str"), tier=memory, capacity_bytes=capacity_bytes, source="modelled"
    )
    copies = _copies(run)
    # What a cache of rows moved in the memory of operators is theirs already.
    both = pd.concat([in_memory, copies[~copies["tier"].isin(["hbm", memory])]])
    return _summed(both, by_operator), len(calls[["process", "step"]].drop_duplicates())


def measured_tiers(run: Run) -> pd.DataFrame:
    """The copies that the sampled steps counted, in every tier: rows as of `operator_tiers` by operator."""
    return _summed(_copies(run), by_operator=True)


def _summed(moved: pd.DataFrame, by_operator: bool) -> pd.DataFrame:
    """Sums by tier, or by operator and tier with the most bytes first."""
    keys = [*(["operator"] if by_operator else []), "tier", "capacity_bytes", "source"]
    # An unknown time makes the sum unknown.
    table = moved.groupby(keys, dropna=False, sort=False)[_MOVED].agg(lambda column: column.sum(skipna=False))
    table = table.reset_index()[[*keys[:-1], *_MOVED, "source"]]
    if by_operator:
        moved_bytes = table["read_bytes"] + table["write_bytes"]
        table = table.loc[moved_bytes.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
    return table


def _copies(run: Run) -> pd.DataFrame:
    """Measured copies of the sampled steps, by the operator or span that made them."""
    row = positions(run.events, run.traffic["event_id"].to_numpy())
    chosen = (row >= 0) & sampled(run.events)[row]
    copies, row = run.traffic[chosen], row[chosen]
    operator = np.where(recorded(run.events)[row], row, launching_operators(run.events, row))  # spans are their own
    names = run.events["name"].iloc[operator].astype("str").to_numpy()
    return copies[["read_bytes", "write_bytes"]].assign(
        operator=np.where(operator >= 0, names, NO_OPERATOR), tier=copies["tier"].astype("str"), capacity_bytes=np.nan,
        time_ns=run.events["duration_ns"].to_numpy(float)[row], source="measured",
    )  # fmt: skip
