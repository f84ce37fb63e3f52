"""One model cut in every way: latency, CPU time, stacks, contention, RPCs, balance, all from the same deployments."""

from collections.abc import Sequence

from workbench.studies.core.parts import Part, Say
from workbench.studies.scaleout_parts import balance, contention, overhead, relations, stacks
from workbench.studies.scaleout_parts.grid import measure
from workbench.studies.scaleout_parts.scales import SCALES


def run(model: str, scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Requests one at a time, the paper's main mode: what distribution costs without queues."""
    size = SCALES[scale]
    grid = measure(model, size, seeds, say)
    groups = [
        overhead.part(grid, size.percentiles),
        relations.part(grid, size.shards),
        stacks.part(grid, size.shards),
        contention.part(grid, size.shards),
        balance.part(grid, size.shards),
    ]
    return Part(
        [row for group in groups for row in group.rows], [curve for group in groups for curve in group.curves],
        [note for group in groups for note in group.notes],
    )  # fmt: skip
