"""Plans of sharding: each table's scheme and place, so that the slowest rank is as fast as it can be.

    planned = plan_tables(tables, StepShape(ranks=128, samples_per_rank=512, host_ranks=8), method="karmarkar-karp")
    planned.plan, planned.loads_ns, planned.table()

Costs come from the formulas of `costs.sharding` and the rates of the machine's tiers (`machine.rank_rates`, which reads
the measured ceilings); without rates every byte counts the same. Ranks may be simulated: nothing here runs on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from workbench.costs.sharding import StepShape
from workbench.embeddings.plan import SCHEMES, Plan, Shard, TablePlan
from workbench.embeddings.planner_heuristics import Placed, partition
from workbench.embeddings.planner_optimum import optimum
from workbench.embeddings.planner_options import Tier, options
from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError

Method = Literal["greedy", "karmarkar-karp", "milp"]


@dataclass(frozen=True)
class Planned:
    """A plan and why: `placed` has every group of parts, `loads_ns` [ranks] the predicted cost of a step.

    No plan has a smaller largest load than `bound_ns`; 0 where the method proves none. `method` is the one that made
    the plan: greedy where largest differencing found no room.
    """

    plan: Plan
    placed: tuple[Placed, ...]
    tiers: tuple[Tier, ...]
    loads_ns: np.ndarray
    method: str
    bound_ns: float = 0.0

    @property
    def max_over_mean(self) -> float:
        """Imbalance: the slowest rank's cost over the mean of all."""
        return float(self.loads_ns.max() / self.loads_ns.mean())

    def table(self) -> pd.DataFrame:
        """One row a shard: table, scheme, rank, tier, rows, dim, stored_bytes, lookup_ns, update_ns, communication_ns,
        predicted_ns."""
        return pd.DataFrame([
            {
                "table": placed.option.table, "scheme": placed.option.scheme, "rank": rank,
                "tier": self.tiers[placed.tier].name, "rows": part.rows[1] - part.rows[0],
                "dim": part.columns[1] - part.columns[0], "stored_bytes": part.stored_bytes,
                "lookup_ns": cost.lookup_ns, "update_ns": cost.update_ns, "communication_ns": cost.communication_ns,
                "predicted_ns": cost.total_ns,
            }
            for placed in self.placed
            for rank, part in zip(placed.home, placed.group.parts, strict=True)
            for cost in [part.costs[placed.tier]]
        ])  # fmt: skip


def plan_tables(
    tables: Sequence[TableConfig],
    step: StepShape,
    tiers: Sequence[Tier] = (Tier(),),
    method: Method = "greedy",
    schemes: Sequence[str] = SCHEMES,
    time_limit_s: float = 10.0,
) -> Planned:
    """Plan `tables` for the ranks of `step`, each with memory `tiers`, nearest first.

    greedy and karmarkar-karp choose each table's scheme first and place parts then; milp chooses all at once, within
    `time_limit_s`. The same arguments give the same plan, except where milp runs out of time. InputError where no plan
    fits: which table misses how many bytes.
    """
    if step.ranks % step.host_ranks:
        raise InputError(f"planner: {step.ranks} ranks are no whole number of hosts of {step.host_ranks}")
    if unknown := [scheme for scheme in schemes if scheme not in SCHEMES]:
        raise InputError(f"planner: unknown scheme {unknown[0]!r}: choose of {', '.join(SCHEMES)}")
    candidates = [options(table, step, tiers, schemes) for table in tables]
    if stuck := [table.name for table, found in zip(tables, candidates, strict=True) if not found]:
        raise InputError(f"planner: table {stuck[0]} cannot be sharded by {', '.join(schemes)} over {step.ranks} ranks")
    bound_ns = 0.0
    if method == "milp":
        placed, bound_ns = optimum(candidates, tiers, step.ranks, time_limit_s)
    else:
        placed, method = partition(candidates, tiers, step.ranks, method)
    loads_ns = np.zeros(step.ranks)
    for group in placed:
        for rank, part in zip(group.home, group.group.parts, strict=True):
            loads_ns[rank] += part.costs[group.tier].total_ns
    return Planned(_plan(tables, placed, step.ranks), tuple(placed), tuple(tiers), loads_ns, method, bound_ns)


def _plan(tables: Sequence[TableConfig], placed: Sequence[Placed], ranks: int) -> Plan:
    """Shards in the order of rows and columns, tables in their own."""
    shards: dict[str, list[Shard]] = {table.name: [] for table in tables}
    schemes = {}
    for group in placed:
        schemes[group.option.table] = group.option.scheme
        shards[group.option.table] += [
            Shard(rank, *part.rows, *part.columns) for rank, part in zip(group.home, group.group.parts, strict=True)
        ]
    in_order = {
        name: tuple(sorted(found, key=lambda shard: (shard.row_begin, shard.column_begin, shard.rank)))
        for name, found in shards.items()
    }
    return Plan(ranks, tuple(TablePlan(table.name, schemes[table.name], in_order[table.name]) for table in tables))
