"""Streaming bandwidth by memory level: read, write, copy and triad, one core alone and all at once.

The working set is swept over the levels and the sweep is kept, since a virtual machine reports caches that it may not
own; `Plan.working_sets` says which point stands for a level. Triad counts 24 B an element, as STREAM does (McCalpin,
"Memory bandwidth and machine balance in current high performance computers", 1995); ordinary stores first fetch the
line that they overwrite, so the same run also counts as 32 B.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.machine.measure import kernels
from workbench.machine.measure.arena import arena
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, interleaved, passes_for
from workbench.machine.measure.team import Team


@dataclass(frozen=True)
class Pattern:
    """A kernel over `arrays` equally long arrays; the bytes that it counts an element, by the name of the row."""

    kernel: Callable
    arrays: int
    element_bytes: dict[str, int]
    dtype: type = np.float64


PATTERNS = {
    "read": Pattern(kernels.read, 1, {"read": 8}, np.int64),
    "write": Pattern(kernels.write, 1, {"write": 8}),
    "copy": Pattern(kernels.copy, 2, {"copy": 16}),
    "triad": Pattern(kernels.triad, 3, {"triad": 24, "triad_write_allocate": 32}),
}
_METHODS = {
    "read": "8 B an element, integer sum", "write": "8 B an element, ordinary stores",
    "copy": "16 B an element, ordinary stores", "triad": "24 B an element as in STREAM, ordinary stores",
    "triad_write_allocate": "32 B an element: triad with the line fetched before its store",
}  # fmt: skip


def measure(plan: Plan) -> Found:
    """Rows kind bandwidth (per level, pattern and cores at work) and kind sweep (triad, unless quick also read,
    on one core)."""
    found = Found()
    sets = plan.working_sets() | {"dram": _streaming_set(plan)}
    with Team(plan.cores) as team:
        arenas = team.on_each(lambda member: arena(max(sets.values())))
        stream = _Stream(team, arenas, plan.last_level_bytes)
        trials = {
            (tier, name, members): stream.trial(PATTERNS[name], sets[tier], members)
            for tier, name, members in itertools.product(sets, PATTERNS, sorted({1, len(plan.cores)}))
        }
        for (tier, name, members), samples in interleaved(trials, plan.repeats).items():
            _rows(found, tier, name, members, np.array(samples), sets[tier])
        sweep = {
            (name, size): stream.trial(PATTERNS[name], size, 1)
            for name, size in itertools.product(("triad",) if plan.quick else ("read", "triad"), plan.sweep())
        }
        for (name, size), samples in interleaved(sweep, plan.repeats).items():
            bytes_per_s = np.array(samples) * PATTERNS[name].element_bytes[name]
            point = {"kind": "sweep", "name": name, "cores": 1, "active": 1, "working_set_bytes": size, "unit": "B/s"}
            found.rate(bytes_per_s, _METHODS[name], **point)
    return found


def _streaming_set(plan: Plan) -> int:
    """Each of triad's three arrays is 4 times the last level, where memory allows."""
    return min(12 * plan.last_level_bytes, plan.memory_bytes) // 192 * 192


def _rows(found: Found, tier: str, name: str, members: int, elements_per_s: np.ndarray, size: int) -> None:
    """One core's own rate; with all at work also what a process with a thread on each gets together."""
    for label, element_bytes in PATTERNS[name].element_bytes.items():
        method = f"{_METHODS[label]}, pinned threads with arrays of their own"
        same = {"kind": "bandwidth", "tier": tier, "name": label, "working_set_bytes": size, "unit": "B/s"}
        found.rate(elements_per_s * element_bytes, method, cores=1, active=members, **same)
        if members > 1:
            found.rate(elements_per_s * element_bytes * members, method, cores=members, active=1, **same)


class _Stream:
    """Trials over the members' arenas.

    A set that fits the last level lies at an arena's start and is fetched before the clock starts. A larger one is
    walked through, a window of the last level's size a sample; all trials share one count of windows, so that none
    finds what the one before it left in a cache.
    """

    def __init__(self, team: Team, arenas: list[np.ndarray], last_level_bytes: int) -> None:
        self._team, self._arenas, self._last_level_bytes = team, arenas, last_level_bytes
        self._count = itertools.count()

    def trial(self, pattern: Pattern, size: int, members: int) -> Callable[[], float]:
        """Elements/s of one of `members` cores that stream over `size` bytes each, cut into the pattern's arrays."""
        words = min(size, self._last_level_bytes) // kernels.WORD_BYTES
        windows = size // kernels.WORD_BYTES // words
        elements = words // pattern.arrays // kernels.LINE_WORDS * kernels.LINE_WORDS

        def run(passes: int) -> float:
            begin = next(self._count) % windows * words

            def work(member: int) -> None:
                window = self._arenas[member][begin : begin + words].view(pattern.dtype)
                pattern.kernel(*(window[k * elements : (k + 1) * elements] for k in range(pattern.arrays)), passes)

            return self._team.run(work, members)

        run(1)
        passes = passes_for(run) if windows == 1 else 1

        def sample() -> float:
            if windows == 1:
                run(1)
            return passes * elements / run(passes) * 1e9

        return sample
