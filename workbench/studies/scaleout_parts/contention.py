"""What servers that share few cores add to a latency: how much of it their CPU time explains.

With a core for each server a median request takes its critical path, which is modelled. On m cores it takes at least
its CPU time / m, and at most CPU time / m + (1 - 1/m) path as long as no core idles while a thread is ready (Graham,
"Bounds for Certain Multiprocessing Anomalies", 1966). What is measured beyond that, contention does not explain.
"""

from collections.abc import Sequence

import numpy as np

from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import Cut
from workbench.studies.scaleout_parts.deployments import Served
from workbench.studies.scaleout_parts.grid import Grid


def part(grid: Grid, shards: Sequence[int]) -> Part:
    """Both bounds beside what is measured, in rows for the most shards and as a curve for every cut."""
    rows, points, over_most = [], [], []
    for cut in grid.cuts:
        pairs = list(zip(grid.served[cut, "measured"], grid.served[cut, "modelled"], strict=True))
        found = _rows(grid.model, cut, pairs)
        if cut.shards == max(shards):
            rows += found.values()
        over_most.append(np.mean([ours.p50_ns / bounds_ns(ours, alone)[1] for ours, alone in pairs]))
        points += [
            {"cut": str(cut), "P50": what, "ms": of["ours"] / 1e6, "source": of["source"]} for what, of in found.items()
        ]
    curve = Curve(
        title=f"{grid.model}: what sharing cores explains of P50", table=points, x="cut", y="ms", colour="P50",
        style="bar", source="modelled",
    )  # fmt: skip
    note = (
        f"contention, {grid.model}: P50 as measured is {min(over_most):.2f} to {max(over_most):.2f} of the most that "
        "sharing the cores explains, over all cuts; what is above 1 is not explained by it"
    )
    return Part(rows, [curve], [note])


def bounds_ns(measured: Served, modelled: Served) -> tuple[float, float]:
    """The least and the most that a median request takes on the cores that are here.

    CPU time is that of all servers between their first and last request, so what they do between two is in it, some
    percent; the path counts as CPU time throughout, although a little of it is waiting."""
    path_ns, shared_ns = modelled.p50_ns, measured.cpu_ns / measured.cores
    return max(path_ns, shared_ns), shared_ns + (1 - 1 / measured.cores) * path_ns


def _rows(model: str, cut: Cut, pairs: Sequence[tuple[Served, Served]]) -> dict[str, dict]:
    """By what they say: the measured latency, and in the order of their size the modelled ones."""
    cores = f"{pairs[0][0].cores} cores"
    bounds = [bounds_ns(*pair) for pair in pairs]
    values = {
        f"on {cores}": ([ours.p50_ns for ours, _ in pairs], "measured"),
        "with a core for each server": ([alone.p50_ns for _, alone in pairs], "modelled"),
        f"CPU time over {cores}": ([ours.cpu_ns / ours.cores for ours, _ in pairs], "modelled"),
        f"the least that sharing {cores} allows": ([least_ns for least_ns, _ in bounds], "modelled"),
        f"the most that sharing {cores} explains": ([most_ns for _, most_ns in bounds], "modelled"),
    }
    return {
        what: row(Quantity(name=f"{model}, {cut}: P50, {what}", unit="ns", scale_free=False), samples, source)
        for what, (samples, source) in values.items()
    }
