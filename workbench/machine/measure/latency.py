"""Load latency by working set: each load's address comes from the load before, over one random cycle of lines."""

from collections.abc import Callable

import numpy as np

from workbench.machine.measure import kernels
from workbench.machine.measure.arena import arena
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, interleaved, passes_for
from workbench.machine.measure.team import Team

_METHOD = "dependent loads over one random cycle of lines, ordinary pages"


def measure(plan: Plan) -> Found:
    """Rows kind latency (per level) and, unless quick, kind sweep: ns a load, on one core."""
    found = Found()
    levels = plan.working_sets()
    sizes = set(levels.values()) if plan.quick else {*levels.values(), *plan.sweep()}
    with Team(plan.cores[:1]) as team:
        samples = interleaved({size: _trial(team, size, plan) for size in sorted(sizes)}, plan.repeats)
    same = {"name": "pointer_chase", "cores": 1, "active": 1}
    for tier, size in levels.items():
        found.time(samples[size], _METHOD, kind="latency", tier=tier, working_set_bytes=size, **same)
    if not plan.quick:
        for size in sorted(sizes):
            found.time(samples[size], _METHOD, kind="sweep", working_set_bytes=size, **same)
    return found


def _trial(team: Team, size: int, plan: Plan) -> Callable[[], float]:
    """ns a load in a cycle of `size` bytes; a sample goes on where the last one stopped."""
    chain = arena(size, np.uint64)
    kernels.link_cycle(chain, 0)
    lines = size // (kernels.WORD_BYTES * kernels.LINE_WORDS)
    place = [np.uint64(0)]

    def follow(steps: int) -> float:
        def work(_: int) -> None:
            place[0] = np.uint64(kernels.chase(chain, place[0], steps))

        return team.run(work, 1)

    follow(1)
    steps = passes_for(follow)

    def sample() -> float:
        if size <= plan.last_level_bytes:
            follow(lines)
        return follow(steps) / steps

    return sample
