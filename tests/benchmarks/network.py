"""A network that the kernel slows by `tc`, and the one that the RPC layer simulates: does an RPC take what is planted?

    python tests/benchmarks/network.py [--pairs 8]

The sparse shard's end stands in a network namespace of its own behind a veth pair; the main shard's end calls it with
64 KiB each way. Blocks of calls come in random order: over the bare pair, over the pair with tc on both of its ends
(netem for a delay of 50, 100 and 200 us, tbf for 0.5 and 1 Gbit/s), and over the bare pair with our simulated link of
the same settings. What a block takes longer than the bare one stands beside what was planted: twice the delay, or the
bytes of both messages over the rate. How late our messages were at the end of their crossings is told apart: the rest
is what a machine that idles meanwhile takes longer. Needs root, `ip` and `tc`; what the kernel lacks is left out.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
from inference import ITEMS, MESSAGE_BYTES, VERSION, request_bags
from support.intervals import median_interval

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.network import Link, precise_loop
from workbench.workloads.inference.plan import Shard
from workbench.workloads.inference.protocol.messages import LOOKUP, encode_lookup, encode_pooled, parse_lookup
from workbench.workloads.inference.replicas import ShardClient
from workbench.workloads.inference.tracing import Lane, TraceContext
from workbench.workloads.inference.transport import Server

NAMESPACE, OUR_END, ITS_END = "workbench-shard", "wb-main", "wb-shard"
OUR_ADDRESS, ITS_ADDRESS, PORT = "10.213.7.1", "10.213.7.2", 50061
CALLS, WIDTH = 60, MESSAGE_BYTES // ITEMS // 4
BURST_BYTES = 4096  # of tbf's bucket: an idle link must not save up tokens for half a message


@dataclass(frozen=True)
class Planted:
    """One setting of the link, the same in both directions."""

    delay_us: int = 0
    gbit_per_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.delay_us} us" if self.delay_us else f"{self.gbit_per_s:g} Gbit/s"

    @property
    def qdisc(self) -> list[str]:
        """The words of tc."""
        if self.delay_us:
            return ["netem", "delay", f"{self.delay_us}us"]
        return ["tbf", "rate", f"{self.gbit_per_s:g}gbit", "burst", str(BURST_BYTES), "latency", "50ms"]

    def link(self) -> "TimedLink":
        """The simulated link."""
        return TimedLink(self.delay_us * 1000, self.gbit_per_s * 1e9 / 8 if self.gbit_per_s else None)

    def rise_us(self, message_bytes: int) -> float:
        """What both directions add to a round trip."""
        sending_us = message_bytes * 8e-3 / self.gbit_per_s if self.gbit_per_s else 0.0
        return 2 * self.delay_us + sending_us


class TimedLink(Link):
    """A link that keeps by how much the messages of one caller at a time were late."""

    def __init__(self, delay_ns: int, bytes_per_s: float | None) -> None:
        super().__init__(delay_ns, bytes_per_s)
        self.late_us: list[float] = []

    async def cross(self, lane: Lane, message_bytes: int) -> None:
        await super().cross(lane, message_bytes)
        self.late_us.append((time.monotonic_ns() - self._due_ns) / 1e3)

    def arrival_ns(self, now_ns: int, message_bytes: int) -> int:
        self._due_ns = super().arrival_ns(now_ns, message_bytes)
        return self._due_ns


SETTINGS = [Planted(delay_us=us) for us in (50, 100, 200)] + [Planted(gbit_per_s=gbit) for gbit in (0.5, 1.0)]


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(words, capture_output=True, text=True)


def needed(*words: str) -> None:
    """Exit with what the system said where it does not allow this."""
    done = command(*words)
    if done.returncode:
        sys.exit(f"skipped: this machine does not allow `{' '.join(words)}`: {done.stderr.strip()}")


@contextmanager
def namespace() -> Iterator[None]:
    """The pair, one end in the namespace."""
    needed("ip", "netns", "add", NAMESPACE)
    try:
        needed("ip", "link", "add", OUR_END, "type", "veth", "peer", "name", ITS_END, "netns", NAMESPACE)
        needed("ip", "addr", "add", f"{OUR_ADDRESS}/30", "dev", OUR_END)
        needed("ip", "link", "set", OUR_END, "up")
        needed("ip", "-n", NAMESPACE, "addr", "add", f"{ITS_ADDRESS}/30", "dev", ITS_END)
        needed("ip", "-n", NAMESPACE, "link", "set", ITS_END, "up")
        yield
    finally:
        command("ip", "netns", "del", NAMESPACE)  # and the pair with it


def slow(planted: Planted | None) -> str:
    """Set tc on both ends (None: nothing); what it says where the kernel cannot."""
    for where in (["tc"], ["tc", "-n", NAMESPACE]):
        end = OUR_END if len(where) == 1 else ITS_END
        command(*where, "qdisc", "del", "dev", end, "root")
        if planted and (done := command(*where, "qdisc", "add", "dev", end, "root", *planted.qdisc)).returncode:
            return done.stderr.strip()
    return ""


def serve() -> None:
    """The sparse shard's end: rows of the same size for every call, until the process is ended."""
    reply = encode_pooled(VERSION, np.zeros((ITEMS, WIDTH), dtype=np.float32))

    async def answer(message: bytes, call: grpc.aio.ServicerContext) -> bytes:
        parse_lookup(message)
        return reply

    async def play() -> None:
        server = Server(f"{ITS_ADDRESS}:{PORT}", LOOKUP, answer, None)
        await server.start()
        await server.serves(VERSION)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=precise_loop) as loop:
        loop.run(play())


async def block_us(client: ShardClient) -> float:
    """Median round trip of a block's calls."""
    bags, taken_us = request_bags(MESSAGE_BYTES), []
    for _ in range(CALLS):
        lane = Lane(Recorder(None), "request-0", TraceContext.new(0))
        began = time.monotonic()
        await client.lookup(0, bags, WIDTH, began + 30, lane)
        taken_us.append(1e6 * (time.monotonic() - began))
    return float(np.median(taken_us))


async def rises_us(by_tc: list[Planted], pairs: int) -> dict[tuple[str, Planted], list[float]]:
    """What tc (where the kernel can) and simulation each added to the bare pair's round trip, by block."""
    shard = Shard(name="shard-0", pieces=(), addresses=(f"{ITS_ADDRESS}:{PORT}",))
    bare = ShardClient(shard, VERSION, Link(), Link(), None)
    simulated = {planted: ShardClient(shard, VERSION, planted.link(), planted.link(), None) for planted in SETTINGS}
    clients = [bare, *simulated.values()]
    for client in clients:
        while not await client.ready(1.0):
            await asyncio.sleep(0.1)
    found = {("tc", planted): [] for planted in by_tc} | {("simulated", planted): [] for planted in SETTINGS}
    blocks = [("bare", None), *found]
    for pair in range(pairs + 1):
        taken = {}
        for how, planted in random.sample(blocks, len(blocks)):
            slow(planted if how == "tc" else None)
            taken[how, planted] = await block_us(simulated[planted] if how == "simulated" else bare)
        for block, rises in found.items():
            if pair:  # the first warms up
                rises.append(taken[block] - taken["bare", None])
    for client in clients:
        await client.close()
    for planted, client in simulated.items():
        late_us = np.percentile(client.uplink.late_us + client.downlink.late_us, [50, 90])
        print(f"simulated {planted.name}: a crossing is {late_us[0]:.0f} us late at P50, {late_us[1]:.0f} us at P90")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--serve", action="store_true", help="the sparse shard's end, which this script starts itself")
    chosen = parser.parse_args()
    if chosen.serve:
        serve()
        return
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        print("skipped: network namespaces need root, and the programs ip and tc (package iproute2)")
        return
    with namespace():
        lacking = {planted: slow(planted) for planted in SETTINGS}
        for planted, said in lacking.items():
            if said:
                print(f"skipped: {planted.name} by tc ({' '.join(planted.qdisc)}): {said}")
        by_tc = [planted for planted in SETTINGS if not lacking[planted]]
        server = subprocess.Popen(["ip", "netns", "exec", NAMESPACE, sys.executable, __file__, "--serve"])
        try:
            with asyncio.Runner(loop_factory=precise_loop) as loop:
                found = loop.run(rises_us(by_tc, chosen.pairs))
        finally:
            server.terminate()
            server.wait()
    message = encode_lookup(VERSION, 0, request_bags(MESSAGE_BYTES))
    both_bytes = len(message) + len(encode_pooled(VERSION, np.zeros((ITEMS, WIDTH), dtype=np.float32)))
    for (how, planted), rises in found.items():
        median, low, high = median_interval(rises)
        planted_us = planted.rise_us(both_bytes)
        print(
            f"{how} {planted.name}: round trip + {median:.0f} us [{low:.0f}, {high:.0f}], planted {planted_us:.0f} us"
        )


if __name__ == "__main__":
    main()
