"""Random row reads, as embedding lookups make them: by row size, level, footprint, with and without software prefetch.

Rows are packed, line-aligned and a power of two long, so a row of at most 64 B moves one line. The value counts moved
bytes, whole 64 B lines; useful bytes are fewer for rows below a line. Pages are those of an ordinary allocation, so a
large footprint shows what address translation costs.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from workbench.machine.measure import kernels
from workbench.machine.measure.arena import arena
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, interleaved, passes_for
from workbench.machine.measure.team import Team

LINE_BYTES = 64
ROW_BYTES = (16, 32, 64, 128, 256, 512, 1024)
_QUICK_ROW_BYTES = (64, 256)
VARIANTS = {"gather": False, "gather_prefetch": True}  # with software prefetch?
_DRAWS = 1 << 20


def measure(plan: Plan) -> Found:
    """Rows kind gather: one core alone, and one core's part with all at work in sets of their own."""
    found = Found()
    sets = [*plan.working_sets().items(), *(("dram", size) for size in plan.footprints())]
    row_sizes = _QUICK_ROW_BYTES if plan.quick else ROW_BYTES
    crowds = sorted({1, len(plan.cores)})
    with Team(plan.cores) as team:
        tables = team.on_each(lambda member: arena(max(size for _, size in sets)))
        lookups = _Lookups(team, tables, plan.last_level_bytes)
        trials = {
            (tier, size, row_bytes, name, members): lookups.trial(size, row_bytes, VARIANTS[name], members)
            for (tier, size), row_bytes, name, members in itertools.product(sets, row_sizes, VARIANTS, crowds)
        }
        for (tier, size, row_bytes, name, members), samples in interleaved(trials, plan.repeats).items():
            found.rate(
                samples, f"whole lines moved by aligned random rows, {_prefetch_words(name)}", kind="gather", tier=tier,
                name=name, row_bytes=row_bytes, working_set_bytes=size, cores=1, active=members, unit="B/s",
            )  # fmt: skip
    return found


def _prefetch_words(name: str) -> str:
    return f"prefetched {kernels.PREFETCH_DISTANCE} rows ahead" if name == "gather_prefetch" else "no software prefetch"


def moved_bytes(row_bytes: int) -> int:
    """Bytes that one aligned row moves: whole lines."""
    return max(LINE_BYTES, row_bytes)


class _Lookups:
    """Trials over the members' tables.

    A set that fits the last level is fetched before the clock starts and looked up several times over; of a larger one
    every lookup goes to the next drawn row, whichever trial drew the last one.
    """

    def __init__(self, team: Team, tables: list[np.ndarray], last_level_bytes: int) -> None:
        self._team, self._tables, self._last_level_bytes = team, tables, last_level_bytes
        self._draws = np.random.default_rng(0).integers(0, 2**32, _DRAWS, dtype=np.uint32)
        self._drawn = 0

    def trial(self, size: int, row_bytes: int, prefetch: bool, members: int) -> Callable[[], float]:
        """Moved bytes/s of one of `members` cores."""
        loop = kernels.gather(row_bytes // kernels.WORD_BYTES, prefetch)
        rows, fits = size // row_bytes, size <= self._last_level_bytes
        most = min(rows, _DRAWS // 2) if fits else _DRAWS // 2

        def shape(lookups: int) -> tuple[int, int]:
            """(draws, passes over them)"""
            draws = min(lookups, most)
            return draws, max(1, lookups // draws)

        def run(lookups: int) -> float:
            draws, passes = shape(lookups)
            drawn = self._next(draws + kernels.PREFETCH_DISTANCE)
            return self._team.run(lambda member: loop(self._tables[member], drawn, rows, passes), members)

        run(1)
        lookups = math.prod(shape(passes_for(run)))

        def sample() -> float:
            if fits:
                words = size // kernels.WORD_BYTES
                self._team.run(lambda member: kernels.read(self._tables[member][:words], 1), members)
            return lookups * moved_bytes(row_bytes) / run(lookups) * 1e9

        return sample

    def _next(self, count: int) -> np.ndarray:
        begin = self._drawn if self._drawn + count <= _DRAWS else 0
        self._drawn = begin + count
        return self._draws[begin : begin + count]
