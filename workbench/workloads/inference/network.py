"""A network between main and sparse shards, simulated: loopback has neither a data centre's delay nor its bandwidth.

Each message waits for the main shard's link in its direction, crosses it at `bytes_per_s`, and arrives `delay_ns`
later. Replies of many shards therefore queue at the main shard (incast). What it adds is a span of its own whose source
is `simulated`, and so is that of every RPC which contains one.

A timer wakes its task about 0.1 ms late, which is as long as a crossing. So a message sleeps for all but the last
`_AWAKE_NS`, and then takes turns with the event loop's other tasks until its time has come: each of them waits for no
more than one such turn. That burns the main shard's CPU for as long (sleeping and waking takes some 80 us too). The
turns are CPU time of the span `network`, which counts for no request; what the loop does between two turns cannot be
told from its other work.
"""

import asyncio
import selectors
import time
from dataclasses import dataclass, field

from workbench.workloads.inference.tracing import Lane

_AWAKE_NS = 250_000  # before a message arrives; a timer is hardly ever later


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are about 0.1 ms late: epoll would round every wait up to a millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass
class Link:
    """One direction of the main shard's link. Zero delay and no `bytes_per_s`: nothing is simulated."""

    delay_ns: int = 0
    bytes_per_s: float | None = None
    _free_ns: int = field(default=0, init=False)

    @property
    def source(self) -> str:
        """Of a span that contains a crossing."""
        return "simulated" if self.delay_ns or self.bytes_per_s else "measured"

    async def cross(self, lane: Lane, message_bytes: int) -> None:
        """Wait as long as the message would have been under way."""
        if self.source == "measured":
            return
        with lane.span("network", kind="communication", message_bytes=message_bytes, source=self.source):
            arrival_ns = self.arrival_ns(time.monotonic_ns(), message_bytes)
            while (left_ns := arrival_ns - time.monotonic_ns()) > 0:
                await asyncio.sleep(max(left_ns - _AWAKE_NS, 0) / 1e9)  # 0: one turn of the loop

    def arrival_ns(self, now_ns: int, message_bytes: int) -> int:
        """When a message that is sent now arrives; the link is taken until it has left."""
        sending_ns = round(message_bytes / self.bytes_per_s * 1e9) if self.bytes_per_s else 0
        self._free_ns = max(now_ns, self._free_ns) + sending_ns
        return self._free_ns + self.delay_ns
