"""Ceilings as the rates of one rank among others: what a cost formula divides its bytes by."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import InputError
from workbench.machine.ceilings import Ceilings


@dataclass(frozen=True)
class RankRates:
    """Rates that one of `active` ranks gets, with `threads` each (None: its part of all), from memory `tier` of
    `device` (None: the last, its main memory), all of them at work. InputError where a needed one is not known."""

    ceilings: Ceilings
    active: int = 1
    threads: int | None = None
    device: str = "cpu"
    tier: str | None = None
    _found: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def gather_bytes_per_s(self, row_bytes: float, footprint_bytes: float) -> float:
        """Random rows of `row_bytes` in whole lines, spread over `footprint_bytes` (to a power of 2); the streaming
        rate where no gather was measured."""
        spread_bytes = 2.0 ** round(math.log2(max(footprint_bytes, 1)))
        return self._once(("gather", row_bytes, spread_bytes), lambda: self._gather(row_bytes, spread_bytes))

    def stream_bytes_per_s(self) -> float:
        """Triad bandwidth."""
        return self._once("stream", self._stream)

    def collective_bytes_per_s(self, collective: str, group_size: int) -> tuple[float, int]:
        """Message bytes a second of the largest message measured, in the largest measured group of at most
        `group_size` ranks (else the smallest), and that group's size."""
        return self._once((collective, group_size), lambda: self._collective(collective, group_size))

    def _gather(self, row_bytes: float, footprint_bytes: float) -> float:
        arguments = (self._tier(), row_bytes, footprint_bytes, self.active, self.device, self.threads)
        found = self.ceilings.gather(*arguments)
        return found.value if found else self.stream_bytes_per_s()

    def _stream(self) -> float:
        found = self.ceilings.bandwidth(self._tier(), "triad", self.active, self.threads, self.device)
        if found is None:
            raise InputError(f"the ceilings know no bandwidth of {self._tier()} on {self.device}")
        return found.value

    def _collective(self, collective: str, group_size: int) -> tuple[float, int]:
        table = self.ceilings.table
        rows = table[(table["kind"] == "collective") & (table["collective"] == collective)]
        if len(rows) == 0:
            raise InputError(f"the ceilings know no {collective}: it takes two cores to measure one")
        sizes = sorted(int(size) for size in rows["group_size"].unique())
        measured = max((size for size in sizes if size <= group_size), default=sizes[0])
        message_bytes = float(rows.loc[rows["group_size"] == measured, "message_bytes"].max())
        return message_bytes / (self.ceilings.collective_ns(collective, measured, message_bytes).value / 1e9), measured

    def _tier(self) -> str:
        if self.tier:
            return self.tier
        if tiers := self.ceilings.tiers(self.device):
            return tiers[-1][0]
        raise InputError(f"the ceilings know no device {self.device}")

    def _once(self, key: object, look_up: Callable) -> Any:
        """A planner asks thousands of times for the same few, and each look-up searches a table."""
        if key not in self._found:
            self._found[key] = look_up()
        return self._found[key]
