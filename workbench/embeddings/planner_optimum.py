"""The reference optimum: ways and homes of all tables at once, as a mixed-integer linear program for HiGHS.

    minimise T
    for each table           one way is chosen
    for each group of parts  one home and tier if its way is chosen, else none
    for each rank            sum of its parts' costs <= T
    for each rank and tier   sum of its parts' bytes <= capacity

It is for tens of tables and a few ranks. Equal ranks may be exchanged freely, so proving the last percent takes long:
the solver stops at a time limit, and tells the best bound that it has proved.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from workbench.embeddings.planner_heuristics import Placed, partition
from workbench.embeddings.planner_options import Option, Part, Tier
from workbench.errors import InputError, WorkFailed

MAX_VARIABLES = 200_000
_INFEASIBLE = 2

Entry = tuple[int, int, float]  # row, column, coefficient


def optimum(
    candidates: Sequence[Sequence[Option]], tiers: Sequence[Tier], ranks: int, time_limit_s: float
) -> tuple[list[Placed], float]:
    """The best placement found and the proven lower bound of its largest load, in ns.

    InputError where no plan fits, or the program would be too large; WorkFailed where the time is too short for any.
    Variables are the ways, then the places (a group at a home, in a tier), then T.
    """
    ways = [option for options in candidates for option in options]
    places = [
        Placed(way, group, home, tier)
        for way in ways
        for group in way.groups
        for home in group.homes
        for tier in range(len(tiers))
    ]
    if len(places) > MAX_VARIABLES:
        raise InputError(f"method=milp: {len(places):,} variables are too many for it: use karmarkar-karp or greedy")
    first, last = len(ways), len(ways) + len(places)
    numbered = list(enumerate(places, start=first))
    scale_ns = max(way.largest_ns for way in ways)  # the solver likes numbers near 1
    loads = _by_rank(numbered, lambda place, part: part.costs[place.tier].total_ns / scale_ns)
    constraints = [
        _constraint(_one_way(candidates), len(candidates), last + 1, 1, 1),
        _constraint(_one_home(ways, numbered), sum(len(way.groups) for way in ways), last + 1, 0, 0),
        _constraint([*loads, *((rank, last, -1.0) for rank in range(ranks))], ranks, last + 1, -np.inf, 0),
    ]
    for number, tier in enumerate(tiers):
        if np.isfinite(tier.capacity_bytes):
            here = [(column, place) for column, place in numbered if place.tier == number]
            used = _by_rank(here, lambda _, part, tier=tier: part.stored_bytes / tier.capacity_bytes)
            constraints.append(_constraint(used, ranks, last + 1, -np.inf, 1))
    found = milp(
        c=np.append(np.zeros(last), 1.0), integrality=np.append(np.ones(last), 0), constraints=constraints,
        bounds=Bounds(0, np.append(np.ones(last), np.inf)), options={"time_limit": time_limit_s},
    )  # fmt: skip
    if found.status == _INFEASIBLE:
        partition(candidates, tiers, ranks, "greedy")  # cannot fit either, and says which table
    if found.x is None:
        raise WorkFailed(f"HiGHS found no plan within {time_limit_s:g} s: {found.message}")
    chosen = [place for column, place in numbered if found.x[column] > 0.5]
    return chosen, found.mip_dual_bound * scale_ns


def _one_way(candidates: Sequence[Sequence[Option]]) -> list[Entry]:
    table_of = [table for table, options in enumerate(candidates) for _ in options]
    return [(table, way, 1.0) for way, table in enumerate(table_of)]


def _one_home(ways: Sequence[Option], numbered: Sequence[tuple[int, Placed]]) -> list[Entry]:
    """The places of a group add up to the choice of its way."""
    groups = [(way, group) for way, option in enumerate(ways) for group in option.groups]
    row_of = {id(group): row for row, (_, group) in enumerate(groups)}
    chosen = [(row, way, -1.0) for row, (way, _) in enumerate(groups)]
    return chosen + [(row_of[id(place.group)], column, 1.0) for column, place in numbered]


def _by_rank(numbered: Iterable[tuple[int, Placed]], value: Callable[[Placed, Part], float]) -> list[Entry]:
    """The value of every part of every place, in the row of the part's rank."""
    return [
        (rank, column, value(place, part))
        for column, place in numbered
        for rank, part in zip(place.home, place.group.parts, strict=True)
    ]


def _constraint(entries: Sequence[Entry], rows: int, columns: int, low: float, high: float) -> LinearConstraint:
    row, column, value = zip(*entries, strict=True)
    return LinearConstraint(csr_array((value, (row, column)), shape=(rows, columns)), low, high)
