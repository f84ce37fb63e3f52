"""Two heuristics of number partitioning, as Neo's planner has them (Mudigere et al., ISCA 2022, section 4.2.3).

Which way to shard each table is chosen first: the cheapest one whose parts are small enough to balance. Then its parts
are placed: the costliest first on the least loaded rank (greedy), or by largest differencing (Karmarkar and Karp 1982).
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.embeddings.planner_options import Group, Option, Tier
from workbench.errors import InputError
from workbench.units import format_bytes


@dataclass(frozen=True)
class Placed:
    """A group of parts at home, in a tier."""

    option: Option
    group: Group
    home: tuple[int, ...]
    tier: int


@dataclass
class Ranks:
    """Load and free memory of each rank while groups are placed."""

    tiers: Sequence[Tier]
    ranks: int
    loads_ns: np.ndarray = field(init=False)  # [ranks]
    free_bytes: np.ndarray = field(init=False)  # [ranks, tiers]
    placed: list[Placed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loads_ns = np.zeros(self.ranks)
        self.free_bytes = np.tile([float(tier.capacity_bytes) for tier in self.tiers], (self.ranks, 1))

    def place(self, option: Option, group: Group, homes: Sequence[tuple[int, ...]]) -> None:
        """Put `group` where the fullest of its ranks ends with the least load: each in the nearest tier with room.
        InputError where no home has room."""
        best, missing_bytes = None, np.inf
        needed_bytes = np.array([[part.stored_bytes] for part in group.parts])
        for home in homes:
            missing = (needed_bytes - self.free_bytes[list(home)]).max(axis=0)  # [tiers]
            if missing.min() > 0:
                missing_bytes = min(missing_bytes, missing.min())
                continue
            tier = int((missing <= 0).argmax())
            costs = [part.costs[tier].total_ns for part in group.parts]
            load = max(self.loads_ns[rank] + cost for rank, cost in zip(home, costs, strict=True))
            if best is None or load < best[0]:
                best = load, home, tier
        if best is None:
            raise does_not_fit(option, missing_bytes)
        _, home, tier = best
        for rank, part in zip(home, group.parts, strict=True):
            self.loads_ns[rank] += part.costs[tier].total_ns
            self.free_bytes[rank, tier] -= part.stored_bytes
        self.placed.append(Placed(option, group, home, tier))


def does_not_fit(option: Option, missing_bytes: float) -> InputError:
    """Which table misses how many bytes."""
    return InputError(
        f"the plan does not fit: table {option.table}, {option.scheme}, needs {format_bytes(option.largest_bytes)} on "
        f"one rank and misses {round(missing_bytes):,} bytes there: give ranks more memory, or more ranks"
    )


def partition(
    candidates: Sequence[Sequence[Option]], tiers: Sequence[Tier], ranks: int, method: str
) -> tuple[list[Placed], str]:
    """A placement by `method` (greedy or karmarkar-karp), and the method that made it.

    Where there is no room for it: greedy; then greedy with every table in its smallest parts. InputError where even
    that does not fit.
    """
    chosen = choose(candidates, tiers, ranks)
    try:
        return {"greedy": greedy, "karmarkar-karp": karmarkar_karp}[method](chosen, tiers, ranks), method
    except InputError:
        pass
    try:
        return greedy(chosen, tiers, ranks), "greedy"
    except InputError:
        smallest = [min(options, key=lambda option: option.largest_bytes) for options in candidates]
        return greedy(smallest, tiers, ranks), "greedy"


def choose(candidates: Sequence[Sequence[Option]], tiers: Sequence[Tier], ranks: int) -> list[Option]:
    """One option for each table: the cheapest in total of those that fit, with no part above the mean load of a rank;
    where all have, the one whose largest part costs least. InputError where none fits an empty rank."""
    room_bytes = max(tier.capacity_bytes for tier in tiers)
    mean_ns = sum(min(option.total_ns for option in options) for options in candidates) / ranks
    chosen = []
    for options in candidates:
        fitting = [option for option in options if option.largest_bytes <= room_bytes]
        if not fitting:
            smallest = min(options, key=lambda option: option.largest_bytes)
            raise does_not_fit(smallest, smallest.largest_bytes - room_bytes)
        even = [option for option in fitting if option.largest_ns <= mean_ns]
        chosen.append(
            min(even, key=lambda option: option.total_ns)
            if even
            else min(fitting, key=lambda option: option.largest_ns)
        )
    return chosen


def greedy(chosen: Sequence[Option], tiers: Sequence[Tier], ranks: int) -> list[Placed]:
    """What has no choice first, then the costliest part first: each where the load is then least.

    Where that leaves no room for a large part, the largest first; InputError where that fails too.
    """
    try:
        return _greedy(chosen, tiers, ranks, lambda group: group.cost_ns(0))
    except InputError:
        return _greedy(chosen, tiers, ranks, lambda group: group.stored_bytes)


def _greedy(
    chosen: Sequence[Option], tiers: Sequence[Tier], ranks: int, size: Callable[[Group], float]
) -> list[Placed]:
    state = Ranks(tiers, ranks)
    for option, group in _in_order(chosen, size):
        state.place(option, group, group.homes)
    return state.placed


def karmarkar_karp(chosen: Sequence[Option], tiers: Sequence[Tier], ranks: int) -> list[Placed]:
    """Largest differencing for parts that may go anywhere, on top of the others, which greedy places.

    Differencing balances cost alone: InputError where a rank then lacks room.
    """
    state = Ranks(tiers, ranks)
    free = []
    for option, group in _in_order(chosen, lambda group: group.cost_ns(0)):
        if len(group.parts) == 1 and len(group.homes) > 1:
            free.append((option, group))
        else:
            state.place(option, group, group.homes)
    sets = largest_differencing([group.cost_ns(0) for _, group in free], ranks)
    # The costliest set goes where the least lies already.
    emptiest = np.argsort(state.loads_ns, kind="stable")
    for rank, members in zip(emptiest, sets, strict=True):
        for number in sorted(members, key=lambda number: -free[number][1].cost_ns(0) / free[number][1].stored_bytes):
            state.place(*free[number], homes=((int(rank),),))
    return state.placed


def largest_differencing(costs: Sequence[float], ways: int) -> list[list[int]]:
    """Numbers of `costs` in `ways` sets of nearly equal sums, the largest sum first.

    Karmarkar-Karp for any number of sets: the two partial partitions whose sums are farthest apart are joined, the
    largest set of one with the smallest of the other, until one is left.
    """
    order = itertools.count()  # breaks ties by age, so that the result is one
    heap = []
    for number, cost in enumerate(costs):
        sums = [(cost, [number])] + [(0.0, [])] * (ways - 1)
        heap.append((-cost, next(order), sums))
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap)[2], heapq.heappop(heap)[2]
        joined = [(a + b, left + right) for (a, left), (b, right) in zip(first, reversed(second), strict=True)]
        joined.sort(key=lambda pair: -pair[0])
        heapq.heappush(heap, (joined[-1][0] - joined[0][0], next(order), joined))
    return [members for _, members in heap[0][2]] if heap else [[] for _ in range(ways)]


def _in_order(chosen: Sequence[Option], size: Callable[[Group], float]) -> list[tuple[Option, Group]]:
    """Groups with one home first, then by falling size; ties in table order."""
    groups = [(option, group) for option in chosen for group in option.groups]
    return sorted(groups, key=lambda pair: (len(pair[1].homes) > 1, -size(pair[1])))
