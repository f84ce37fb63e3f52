"""What the microbenchmarks run on and how thoroughly: cores, memory levels, working sets, repeats."""

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbench.machine import host

_FIRST_WITHOUT_CACHES_BYTES = 16 << 10
_FOOTPRINTS_BYTES, _QUICK_FOOTPRINTS_BYTES = (2 << 30, 8 << 30), (1 << 30,)


@dataclass(frozen=True)
class Plan:
    """`cores`: one CPU of each physical core. `caches`: as `host.caches` tells them. `quick`: fewer points, not fewer
    repeats. `memory_bytes`: what one core may fill. `directory`: where files for the storage measurement may lie."""

    cores: tuple[int, ...]
    caches: tuple[dict, ...]
    memory_bytes: int
    directory: Path
    quick: bool

    @classmethod
    def of_this_machine(cls, quick: bool) -> "Plan":
        """All physical cores that affinity and control group leave us, and a quarter of the free memory."""
        cores = host.physical_cores()
        limit = host.cpu_limit()
        cores = cores[: max(1, int(limit))] if limit else cores
        free_bytes = min(psutil.virtual_memory().available, host.memory_limit_bytes() or math.inf)
        traces = Path("traces")
        return cls(
            cores=tuple(cores), caches=tuple(host.caches()), memory_bytes=int(free_bytes / 4 / len(cores)),
            directory=traces if traces.is_dir() else Path.cwd(), quick=quick,
        )  # fmt: skip

    @property
    def repeats(self) -> int:
        """Samples of each measurement."""
        return 20 if self.quick else 40

    @property
    def last_level_bytes(self) -> int:
        """Capacity of the last cache level as reported; a guess of 32 MiB where the system reports no caches."""
        return self.caches[-1]["bytes"] if self.caches else 32 << 20

    def levels(self) -> list[dict]:
        """Memory levels nearest first: {"tier", "capacity_bytes"}, of one core where private, None for memory."""
        found = [{"tier": f"l{cache['level']}", "capacity_bytes": cache["bytes"]} for cache in self.caches]
        return [*found, {"tier": "dram", "capacity_bytes": None}]

    def working_sets(self) -> dict[str, int]:
        """tier -> bytes of the working set that stands for it, one core's, with every core at work.

        Half of the first level; the geometric middle between a later level's share of one core and the level below, far
        from both edges; 4 times the last level for memory.
        """
        found, below = {}, None
        for cache in self.caches:
            share = cache["bytes"] / min(cache["shared_by_cores"], len(self.cores))
            size = share / 2 if below is None else max(math.sqrt(share * below), 2 * below)
            found[f"l{cache['level']}"] = _power_of_two(size)
            below = cache["bytes"]
        return found | {"dram": _power_of_two(min(4 * self.last_level_bytes, self.memory_bytes))}

    def footprints(self) -> list[int]:
        """Working sets so large that address translation misses: 1 GiB (quick), or 2 and 8 GiB; those that memory
        holds and that say something beyond the ordinary one for memory."""
        floor_bytes = 2 * self.working_sets()["dram"]
        sizes = _QUICK_FOOTPRINTS_BYTES if self.quick else _FOOTPRINTS_BYTES
        return [size for size in sizes if floor_bytes < size <= self.memory_bytes]

    def sweep(self) -> list[int]:
        """Working sets from half of the first level to 4 times the last, in steps of 2 (quick) or its square root."""
        first = self.caches[0]["bytes"] // 2 if self.caches else _FIRST_WITHOUT_CACHES_BYTES
        last = min(4 * self.last_level_bytes, self.memory_bytes)
        steps = (1 if self.quick else 2) * math.log2(last / first)
        return [_whole_lines(first * (last / first) ** (step / int(steps))) for step in range(int(steps) + 1)]


def _power_of_two(size: float) -> int:
    return 1 << int(math.log2(size))


def _whole_lines(size: float) -> int:
    return int(size) // 64 * 64
