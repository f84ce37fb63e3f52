"""How evenly planners spread tables over ranks: the slowest rank's cost over the mean, by number of ranks."""

from collections.abc import Sequence

import numpy as np

from workbench.costs.sharding import StepShape
from workbench.embeddings.planner import plan_tables
from workbench.embeddings.planner_options import Tier, options
from workbench.embeddings.tables import TableConfig
from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.neo_parts.paper import GPUS_A_NODE, MODEL_A

TABLES = {"tiny": 64, "small": 512, "full": 1000}
RANKS = {"tiny": (8, 16), "small": (8, 16, 32, 64, 128), "full": (8, 16, 32, 64, 128)}
DIMS = (4, 384)  # Model-A's narrowest and widest rows; log-uniform widths
SPLIT = "karmarkar-karp, columns split"
PLANNERS = ("random", "greedy", "karmarkar-karp", SPLIT)


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Every seed draws its own tables and its own random placement; every byte costs the same, wherever it moves."""
    ratios: dict[tuple[str, int], list[float]] = {
        (planner, ranks): [] for planner in PLANNERS for ranks in RANKS[scale]
    }
    for number, seed in enumerate(seeds):
        tables = model_a_tables(TABLES[scale], seed)
        for ranks in RANKS[scale]:
            say(f"tables {number + 1} of {len(seeds)} on {ranks} ranks", number / len(seeds))
            step = StepShape(ranks, MODEL_A.samples_per_gpu, min(GPUS_A_NODE, ranks))
            for planner in PLANNERS:
                ratios[planner, ranks].append(max_over_mean(tables, step, planner, seed))
    most = RANKS[scale][-1]
    rows, points = [], []
    for (planner, ranks), found in ratios.items():
        name = f"costliest rank over mean, {planner}, {TABLES[scale]} tables on {ranks} ranks"
        made = row(Quantity(name=name, unit="1", scale_free=True), found, "simulated")
        points.append({
            "ranks": ranks, "max / mean": made["ours"], "planner": planner, "low": made["low"], "high": made["high"],
        })  # fmt: skip
        rows += [made] if ranks == most else []
    curve = Curve(
        title="Cost of the slowest rank over the mean of all", table=points, x="ranks", y="max / mean",
        colour="planner", log_x=True, source="simulated",
    )  # fmt: skip
    return Part(rows, [curve])


def max_over_mean(tables: Sequence[TableConfig], step: StepShape, planner: str, seed: int) -> float:
    """Of tables placed by `planner`, whole ones except by SPLIT; 1 is perfect."""
    if planner == SPLIT:
        return plan_tables(tables, step, method="karmarkar-karp", schemes=("table-wise", "column-wise")).max_over_mean
    if planner != "random":
        return plan_tables(tables, step, method=planner, schemes=("table-wise",)).max_over_mean
    costs = [options(table, step, (Tier(),), ("table-wise",))[0].largest_ns for table in tables]
    ranks = np.random.default_rng(seed).integers(step.ranks, size=len(costs))
    loads = np.bincount(ranks, weights=costs, minlength=step.ranks)
    return float(loads.max() / loads.mean())


def model_a_tables(count: int, seed: int) -> tuple[TableConfig, ...]:
    """Tables like Model-A's: widths log-uniform, pooling geometric with its mean, a thousand to a million rows."""
    random = np.random.default_rng(seed)
    dims = np.exp(random.uniform(*np.log(DIMS), count)).astype(int)
    pooling = random.geometric(1 / MODEL_A.pooling, count)
    rows = np.exp(random.uniform(*np.log((1e3, 1e6)), count)).astype(int)
    return tuple(
        TableConfig(name=f"table_{n}", rows=int(rows[n]), dim=int(dims[n]), pooling_factor=float(pooling[n]))
        for n in range(count)
    )
