"""Latency and CPU time of every cut over singular's."""

from collections.abc import Sequence

import numpy as np

from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part
from workbench.studies.core.quantities import Quantity, missing, row
from workbench.studies.scaleout_parts.cuts import SINGULAR, Cut
from workbench.studies.scaleout_parts.deployments import Served
from workbench.studies.scaleout_parts.grid import WHERE, Grid

BEST = Fact(1.01, "src: abstract, +1 % at P99")
BEST_PERCENTILE = 99


def part(grid: Grid, percentiles: Sequence[float]) -> Part:
    """For every cut a row a percentile, measured and modelled, and one of CPU time; and the best of all at P99."""
    rows, points = [], {source: [] for source in WHERE}
    for cut in grid.cuts:
        for percentile in percentiles:
            for source in WHERE:
                name = f"{grid.model}, {cut}: P{percentile:g} over singular's, {WHERE[source]}"
                found = row(
                    Quantity(name=name, unit="1", scale_free=False), _ratios(grid, cut, percentile, source), source
                )
                rows.append(found)
                points[source].append(_point(cut, f"P{percentile:g} latency", found))
        cpu = Quantity(name=f"{grid.model}, {cut}: CPU time over singular's", unit="1", scale_free=False)
        found = row(cpu, grid.ratios(lambda served: served.cpu_ns, cut, SINGULAR, "measured"), "measured")
        rows.append(found)
        points["measured"].append(_point(cut, "CPU time", found))
    rows.append(_best(grid, percentiles))
    curves = [
        Curve(
            title=f"{grid.model}: every cut over singular, {WHERE[source]}", table=points[source], x="cut",
            y="over singular's", colour="what", style="bar", source=source,
        )
        for source in WHERE
    ]  # fmt: skip
    return Part(rows, curves)


def _best(grid: Grid, percentiles: Sequence[float]) -> dict:
    """The cut of the smallest P99, which the paper's abstract is about."""
    quantity = Quantity(
        name=f"{grid.model}, the best cut: P{BEST_PERCENTILE} over singular's, {WHERE['measured']}", unit="1",
        scale_free=False, fact=BEST,
    )  # fmt: skip
    if BEST_PERCENTILE not in percentiles:
        return missing(quantity, "measured", "P99 needs 10,000 requests, which scale full has")
    ratios = [_ratios(grid, cut, BEST_PERCENTILE, "measured") for cut in grid.cuts]
    return row(quantity, min(ratios, key=np.mean), "measured")


def _ratios(grid: Grid, cut: Cut, percentile: float, source: str) -> list[float]:
    def latency_ns(served: Served) -> float:
        return served.latency_ns(percentile)

    return grid.ratios(latency_ns, cut, SINGULAR, source)


def _point(cut: Cut, what: str, found: dict) -> dict:
    return {"cut": str(cut), "what": what, "over singular's": found["ours"], "low": found["low"], "high": found["high"]}
