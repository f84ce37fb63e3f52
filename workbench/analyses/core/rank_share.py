"""What one rank has of the machine: its threads, its share of shared levels, and the ceilings that hold for it.

Private levels count once a thread; the last cache level and memory of a CPU are shared by the ranks of a host, so a
rank gets capacity / ranks, and the bandwidth that was measured with all ranks active. A device belongs to one rank.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench.machine.ceilings import Ceiling, Ceilings
from workbench.trace.run import Run

LINE_BYTES = 64
SHARED_TIERS = ("l3", "dram")


@dataclass(frozen=True)
class RankShare:
    """`device` is the ceilings' name of the device; `threads` is None where the run does not say (then: all cores).

    What-if: `last_level_bytes` stands for the last cache level of the host or device, `memory_bytes_per_s` for what a
    rank gets from memory, whatever it reads there.
    """

    ceilings: Ceilings | None
    device: str
    active: int = 1
    threads: int | None = None
    last_level_bytes: float | None = None
    memory_bytes_per_s: float | None = None
    _found: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, run: Run) -> "RankShare":
        """The share of each rank of `run`, by its manifest; the device is the one that its events ran on."""
        devices = [str(device) for device in run.events["device"].unique() if device != "cpu"]
        levels = run.ceilings.about.get("levels", {}) if run.ceilings else {}
        if not devices:
            ceilings = run.ceilings if "cpu" in levels else None
            return cls(ceilings, "cpu", _ranks_a_host(run.manifest), run.manifest.get("threads_per_rank"))
        # Ceilings stand for every device of the kind, whichever number a rank's device has.
        family = devices[0].split(":")[0]
        named = next((name for name in levels if name.startswith(family)), None)
        return cls(run.ceilings if named else None, named or devices[0])

    def tiers(self) -> list[tuple[str, float]]:
        """(tier, this rank's bytes of it), nearest first, never shrinking outwards. Of an unknown device only the
        memory is known to be there."""
        if self.ceilings is None:
            return [("dram" if self.device == "cpu" else "hbm", math.inf)]
        levels = self.ceilings.tiers(self.device)
        if self.last_level_bytes is not None and len(levels) > 1:
            levels[-2] = (levels[-2][0], self.last_level_bytes)
        shares = [self._capacity(tier, capacity_bytes) for tier, capacity_bytes in levels]
        return [(tier, max(shares[: place + 1])) for place, (tier, _) in enumerate(levels)]

    def tier_of(self, working_set_bytes: float) -> str:
        """The nearest tier whose share holds the working set."""
        return next(tier for tier, capacity_bytes in self.tiers() if working_set_bytes <= capacity_bytes)

    def peak(self, precision: str) -> Ceiling | None:
        """FLOP/s of the rank's threads (or its device) at `precision`."""
        if self.ceilings is None:
            return None
        return self._once(precision, lambda: self.ceilings.compute(precision, self.threads, self.device))

    def stream(self, tier: str) -> tuple[str, Ceiling | None]:
        """Triad bandwidth of `tier` with all ranks active, or of the next tier outwards that has one; and that tier."""
        return self._once(tier, lambda: self._stream(tier))

    def gather(self, tier: str, row_bytes: float, footprint_bytes: float) -> Ceiling | None:
        """Moved bytes/s of random rows with all ranks active; the streaming bandwidth where no gather was measured."""
        if self.ceilings is None or self._is_what_if(tier):
            return self.stream(tier)[1]
        working_set_bytes = min(footprint_bytes, dict(self.tiers())[tier])
        arguments = (tier, row_bytes, working_set_bytes, self.active, self.device, self.threads)
        return self._once(arguments, lambda: self.ceilings.gather(*arguments)) or self.stream(tier)[1]

    def _stream(self, tier: str) -> tuple[str, Ceiling | None]:
        if self._is_what_if(tier):
            return tier, Ceiling(self.memory_bytes_per_s, "B/s", "modelled", "what-if")
        names = [name for name, _ in self.tiers()]
        for name in names[names.index(tier) :] if self.ceilings else []:
            found = self.ceilings.bandwidth(name, "triad", self.active, self.threads, self.device)
            if found is not None:
                return name, found
        return tier, None

    def _once(self, key: object, look_up: Callable) -> Any:
        """Thousands of operators ask for the same few ceilings, and each look-up searches a table."""
        if key not in self._found:
            self._found[key] = look_up()
        return self._found[key]

    def _is_what_if(self, tier: str) -> bool:
        return self.memory_bytes_per_s is not None and tier == self.tiers()[-1][0]

    def _capacity(self, tier: str, capacity_bytes: float) -> float:
        if self.device != "cpu":
            return capacity_bytes
        return capacity_bytes / self.active if tier in SHARED_TIERS else capacity_bytes * (self.threads or 1)


def moved_bytes(row_bytes: float) -> float:
    """Whole lines that reading one row of `row_bytes` moves, in bytes."""
    return LINE_BYTES * math.ceil(row_bytes / LINE_BYTES)


def _ranks_a_host(manifest: dict) -> int:
    hosts = [entry.get("host") for entry in manifest.get("processes", {}).values() if entry.get("rank", -1) >= 0]
    return max((hosts.count(host) for host in set(hosts)), default=int(manifest.get("ranks", 1)))
