"""What the median request's time goes into: end to end, in the embedded portion of the bounding shard, and as CPU time
of all servers."""

from collections.abc import Sequence

import numpy as np

from workbench.analyses.core.request_parts import CPU_PARTS, EMBEDDED_PARTS, PARTS
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import SINGULAR, Cut
from workbench.studies.scaleout_parts.deployments import Served
from workbench.studies.scaleout_parts.grid import WHERE, Grid

# Title -> the parts of a stack, as `Served.part_ns` takes them.
_LATENCY_STACKS = {
    "end to end": {part: part for part in PARTS},
    "the embedded portion": {part: f"embedded_{part}" for part in EMBEDDED_PARTS},
}
_CPU_STACK = {part: f"cpu_{part}" for part in CPU_PARTS}


def part(grid: Grid, shards: Sequence[int]) -> Part:
    """Both latency stacks measured and modelled, the CPU stack measured, and what the network takes of the portion."""
    curves = [_stack(grid, title, parts, source) for title, parts in _LATENCY_STACKS.items() for source in WHERE]
    curves.append(_stack(grid, "CPU time of all servers", _CPU_STACK, "measured"))
    most = [cut for cut in grid.cuts if cut.shards == max(shards)]
    return Part([_network(grid, cut, source) for cut in most for source in WHERE], curves)


def network_share(served: Served) -> float:
    """Of the embedded portion of the median requests, what an RPC was under way beyond the shard's own time."""
    return served.part_ns("embedded_network") / served.part_ns("embedded")


def _network(grid: Grid, cut: Cut, source: str) -> dict:
    quantity = Quantity(
        name=f"{grid.model}, {cut}: network in the embedded portion, {WHERE[source]}", unit="1", scale_free=False,
        fact=Fact("the largest piece", "recalled M"),
    )  # fmt: skip
    return row(quantity, grid.values(network_share, cut, source), source)


def _stack(grid: Grid, title: str, parts: dict[str, str], source: str) -> Curve:
    points = [
        {"cut": str(cut), "part": name, "ms a request": float(np.mean([s.part_ns(key) for s in served])) / 1e6}
        for cut in (SINGULAR, *grid.cuts)
        for served in [grid.served[cut, source]]
        for name, key in parts.items()
    ]
    return Curve(
        title=f"{grid.model}: {title}, {WHERE[source]}", table=points, x="cut", y="ms a request", colour="part",
        style="stack", source=source,
    )  # fmt: skip
