"""How evenly each strategy loads its shards: bytes, expected lookups, and the time of sparse operators."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import Cut
from workbench.studies.scaleout_parts.deployments import Served
from workbench.studies.scaleout_parts.grid import Grid

# What is compared -> how it is known: bytes and lookups are the plan's.
WHAT = {"bytes": "modelled", "lookups": "modelled", "sparse time": "measured"}
_GOALS = {
    ("capacity_balanced", "bytes"): Fact("equal: the strategy's goal", "recalled H"),
    ("load_balanced", "lookups"): Fact("equal: the strategy's goal", "recalled H"),
    ("net_specific", "sparse time"): Fact("skewed to the net of most lookups", "recalled M"),
}


def part(grid: Grid, shards: Sequence[int]) -> Part:
    """The most over the mean shard, at the largest number of shards; and every shard's sparse time."""
    most = [cut for cut in grid.cuts if cut.shards == max(shards)]
    rows, points = [], []
    for cut in most:
        # One RPC at a time: what a shard takes when no other shard is in its way.
        loads = [shard_loads(served) for served in grid.served[cut, "modelled"]]
        for what, source in WHAT.items():
            quantity = Quantity(
                name=f"{grid.model}, {cut}: largest shard over the mean, {what}", unit="1", scale_free=True,
                fact=_GOALS.get((cut.strategy, what)),
            )  # fmt: skip
            rows.append(row(quantity, [load[what].max() / load[what].mean() for load in loads], source))
        points += _points(cut, loads)
    curve = Curve(
        title=f"{grid.model}: sparse operators by shard, one RPC at a time", table=points, x="shard",
        y="ms a request", colour="cut", style="bar", source="measured",
    )  # fmt: skip
    return Part(rows, [curve])


def shard_loads(served: Served) -> pd.DataFrame:
    """For every shard its bytes, expected lookups a request, and ns of sparse operators a request."""
    planned = pd.DataFrame(served.manifest["shards"]).set_index("name")
    calls = served.shards.reindex(planned.index).fillna(0)
    sparse_ns = calls["sparse_ns"] * calls["calls"] / served.summary["requests"]
    return pd.DataFrame(
        {"bytes": planned["bytes"], "lookups": planned["lookups_per_request"], "sparse time": sparse_ns}
    )


def _points(cut: Cut, loads: list[pd.DataFrame]) -> list[dict]:
    mean_ns = np.mean([load["sparse time"] for load in loads], axis=0)
    return [
        {"shard": shard, "ms a request": float(taken_ns) / 1e6, "cut": str(cut)}
        for shard, taken_ns in zip(loads[0].index, mean_ns, strict=True)
    ]
