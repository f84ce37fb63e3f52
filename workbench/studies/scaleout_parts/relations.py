"""What the paper says of one cut against another; and RPCs a request, which a formula gives."""

from collections.abc import Callable, Sequence

from workbench.studies.core.criteria import Between, Criterion, Within
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.scaleout_parts.cuts import ONE_SHARD, SINGULAR, Cut, cap_bal, load_bal, nsbp
from workbench.studies.scaleout_parts.deployments import Served
from workbench.studies.scaleout_parts.grid import Grid

_RPC_RULE = "derived: one a batch, a net and a shard that holds a table of the net"
_EXACT = Within(0.01)


def part(grid: Grid, shards: Sequence[int]) -> Part:
    """Ratios of modelled median latencies and of CPU times, and RPCs counted."""
    fewest, most = min(shards), max(shards)
    if load_bal(most) in grid.cuts:
        return Part(_two_nets(grid, fewest, most) + [_rpcs(grid, *of) for of in _expected_rpcs(most, nets=2)])
    rows = [
        _latency(grid, nsbp(most), nsbp(most // 2), Fact("about the same", "recalled M")),
        # At most: a request need not ask every piece of the giant table for a row.
        _rpcs(grid, nsbp(most), most, Between(1, most)),
    ]
    return Part(rows)


def _two_nets(grid: Grid, fewest: int, most: int) -> list[dict]:
    return [
        _latency(grid, load_bal(most), cap_bal(most), Fact("practically the same", "recalled M")),
        _cpu(grid, load_bal(most), cap_bal(most), Fact("practically the same", "recalled M")),
        _latency(grid, load_bal(most), load_bal(fewest), Fact("lower: lookups run side by side", "recalled H")),
        _cpu(grid, load_bal(most), load_bal(fewest), Fact("higher: more RPCs", "recalled H")),
        _latency(
            grid, nsbp(most), load_bal(most), Fact("higher: one shard holds the net of most lookups", "recalled M")
        ),
        _cpu(grid, nsbp(most), load_bal(most), Fact("lower: fewer RPCs", "recalled M")),
        _latency(grid, ONE_SHARD, load_bal(most), Fact("higher: one shard is the worst of all", "recalled M")),
    ]


def _expected_rpcs(shards: int, nets: int) -> list[tuple[Cut, int]]:
    """Balanced shards hold tables of every net, those of NSBP of one."""
    return [(SINGULAR, 0), (ONE_SHARD, nets), (load_bal(shards), nets * shards), (nsbp(shards), shards)]


def _latency(grid: Grid, cut: Cut, over: Cut, fact: Fact) -> dict:
    return _ratio(grid, lambda served: served.p50_ns, cut, over, "P50", "modelled", fact)


def _cpu(grid: Grid, cut: Cut, over: Cut, fact: Fact) -> dict:
    return _ratio(grid, lambda served: served.cpu_ns, cut, over, "CPU time", "measured", fact)


def _ratio(
    grid: Grid, value: Callable[[Served], float], cut: Cut, over: Cut, what: str, source: str, fact: Fact
) -> dict:
    quantity = Quantity(name=f"{grid.model}, {what}: {cut} over {over}", unit="1", scale_free=True, fact=fact)
    return row(quantity, grid.ratios(value, cut, over, source), source)


def _rpcs(grid: Grid, cut: Cut, expected: int, criterion: Criterion = _EXACT) -> dict:
    quantity = Quantity(
        name=f"{grid.model}, {cut}: RPCs a request", unit="1", scale_free=True, fact=Fact(expected, _RPC_RULE),
        criterion=criterion,
    )  # fmt: skip
    return row(quantity, grid.values(lambda served: served.rpcs, cut, "measured"), "measured")
