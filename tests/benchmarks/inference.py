"""What distributed inference adds to the work itself: its RPCs and their encoding. Is the load what it says?

    python tests/benchmarks/inference.py [rpc] [serialization] [queue] [--pairs 8]

Without names, all of them. `rpc` sets our RPC of 64 KiB beside a bare grpcio echo of the same bytes, in pairs in random
order, and gives the ratio with its 95 % interval, which meets a limit when its upper end does. `queue` takes a minute
and a half: it sends 10,000 Poisson arrivals to a server of constant service time and sets their mean wait beside that
of theory: M/D/1 by Pollaczek and Khinchine's formula, which also takes what little the service times vary on a real
machine.
"""

import argparse
import asyncio
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
from support.intervals import median_interval

from workbench.trace.recorder import Recorder
from workbench.workloads.heap import keep_freed_memory
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.client import Answer
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.load import drive
from workbench.workloads.inference.network import Link, precise_loop
from workbench.workloads.inference.plan import Shard
from workbench.workloads.inference.protocol.messages import (
    LOOKUP,
    decode_pooled,
    encode_lookup,
    encode_pooled,
    lookup_bags,
    parse_lookup,
)  # fmt: skip
from workbench.workloads.inference.replicas import ShardClient
from workbench.workloads.inference.tracing import Lane, TraceContext
from workbench.workloads.inference.transport import Server

RPC_LIMIT, SERIALIZATION_LIMIT_BYTES_PER_S = 1.5, 1e9
QUEUE_LIMIT_PCT = 10.0
MESSAGE_BYTES, VERSION, ITEMS = 64 << 10, "0" * 16, 32
CALLS = 200  # a block
SERVICE_SECONDS, ARRIVALS = 0.004, 10_000


def verdict(what: str, ratios: list[float], limit: float) -> None:
    median, low, high = median_interval(ratios)
    met = "met" if high <= limit else "NOT met"
    print(f"{what}: {median:.3f} [{low:.3f}, {high:.3f}] over {len(ratios)} pairs; limit {limit:g} {met}", flush=True)


def request_bags(message_bytes: int) -> Bags:
    """Bags of 8 tables and ITEMS items that fill about so many bytes."""
    count = message_bytes // (8 * 8 * ITEMS)
    lengths = np.full((8, ITEMS), count, dtype=np.int64)
    return Bags(lengths, np.arange(lengths.sum(), dtype=np.int64))


def serve(ports: "multiprocessing.Queue") -> None:
    """A bare echo, and our server with an answer of the same size at hand, until the process is ended."""

    async def play() -> None:
        bare = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(bare_echo)
        bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", {"Echo": handler}),))
        bare_port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
        ours = Server("127.0.0.1:0", LOOKUP, our_echo, None)
        await ours.start()
        ports.put((bare_port, ours.port))
        await asyncio.Event().wait()

    keep_freed_memory()
    reply = encode_pooled(VERSION, np.zeros((ITEMS, MESSAGE_BYTES // ITEMS // 4), dtype=np.float32))

    async def bare_echo(message: bytes, call: grpc.aio.ServicerContext) -> bytes:
        return reply

    async def our_echo(message: bytes, call: grpc.aio.ServicerContext) -> bytes:
        parse_lookup(message)
        return reply

    with asyncio.Runner(loop_factory=precise_loop) as loop:
        loop.run(play())


def rpc(pairs: int) -> None:
    """Mean round trip of a block of calls one by one: ours, with encoding, checks and spans, over the bare one."""
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    bare_port, our_port = ports.get()
    bags = request_bags(MESSAGE_BYTES)
    message, width = encode_lookup(VERSION, 0, bags), MESSAGE_BYTES // ITEMS // 4

    async def play(folder: Path) -> list[float]:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{bare_port}")
        echo = channel.unary_unary("/bare/Echo")
        shard = Shard(name="shard-0", pieces=(), addresses=(f"127.0.0.1:{our_port}",))
        client = ShardClient(shard, VERSION, Link(), Link(), None)
        with Recorder(folder, "main") as recorder:

            async def bare() -> None:
                await echo(message)

            async def ours() -> None:
                lane = Lane(recorder, "request-0", TraceContext.new(0))
                await lane.run(client.lookup(0, bags, width, time.monotonic() + 5, lane))

            ratios = []
            for pair in range(pairs + 1):
                spent = {}
                for call in random.sample([bare, ours], 2):
                    began = time.monotonic()
                    for _ in range(CALLS):
                        await call()
                    spent[call] = (time.monotonic() - began) / CALLS
                if pair:  # the first warms up
                    ratios.append(spent[ours] / spent[bare])
            print(f"last pair: ours {1e6 * spent[ours]:.0f} us, bare {1e6 * spent[bare]:.0f} us a call")
        await client.close()
        await channel.close()
        return ratios

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=precise_loop) as loop:
        ratios = loop.run(play(Path(folder)))
    server.terminate()
    server.join()
    verdict("RPC of 64 KiB, ours / bare grpcio echo", ratios, RPC_LIMIT)


def serialization(pairs: int) -> None:
    """Message bytes over CPU time, for each direction of an RPC at each end."""
    bags = request_bags(MESSAGE_BYTES)
    pooled = np.zeros((ITEMS, MESSAGE_BYTES // ITEMS // 4), dtype=np.float32)
    request, reply = encode_lookup(VERSION, 0, bags), encode_pooled(VERSION, pooled)
    rows, names = np.full(8, 1 << 40), ["table"] * 8
    steps = {
        "encode ids": (len(request), lambda: encode_lookup(VERSION, 0, bags)),
        "decode and check ids": (len(request), lambda: lookup_bags(parse_lookup(request), rows, names)),
        "encode rows": (len(reply), lambda: encode_pooled(VERSION, pooled)),
        "decode and check rows": (len(reply), lambda: decode_pooled(reply, VERSION, ITEMS, pooled.shape[1])),
    }
    for name, (size_bytes, step) in steps.items():
        rates = []
        for _ in range(max(pairs, 6)):
            began_ns = time.thread_time_ns()
            for _ in range(500):
                step()
            rates.append(500 * size_bytes / (time.thread_time_ns() - began_ns) * 1e9)
        met = "met" if np.median(rates) >= SERIALIZATION_LIMIT_BYTES_PER_S else "NOT met"
        print(f"{name}: {np.median(rates) / 1e9:.2f} GB/s of CPU time; limit 1 GB/s {met}", flush=True)


class _Deterministic:
    """Stands for client and echo: one server, which takes as long for every request."""

    def __init__(self) -> None:
        self._turn, self.service_ns, self.wait_ns = asyncio.Semaphore(1), [], []

    async def rank(self, number: int, request: object, deadline_s: float) -> Answer:
        sent_ns = time.monotonic_ns()
        async with self._turn:
            began_ns = time.monotonic_ns()
            self.wait_ns.append(began_ns - sent_ns)
            await asyncio.sleep(SERVICE_SECONDS)
            self.service_ns.append(time.monotonic_ns() - began_ns)
        return Answer(time.monotonic_ns() - sent_ns)

    async def ask(self, timeout_seconds: float) -> None:
        await asyncio.sleep(1)


def queue(_: int) -> None:
    """Mean wait at half load beside lambda E[S^2] / (2 (1 - rho)), for the arrivals that there were."""
    server = _Deterministic()
    rate_per_s = 0.5 / SERVICE_SECONDS
    config = Config(load="server", qps=rate_per_s, requests=ARRIVALS, min_duration_s=1.0)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=precise_loop) as loop:
        load = loop.run(drive(server, server, [None], config, Path(folder) / "loadgen"))
    service_ns = np.array(server.service_ns, dtype=float)
    wait_ns, late_ns = float(np.mean(server.wait_ns)), float(np.mean(list(load.delays_ns.values())))
    per_ns = load.report["result_scheduled_samples_per_sec"] / 1e9
    utilization = per_ns * service_ns.mean()
    theory_ns = per_ns * (service_ns**2).mean() / (2 * (1 - utilization))
    off_pct = 100 * (wait_ns / theory_ns - 1)
    met = "met" if abs(off_pct) <= QUEUE_LIMIT_PCT else "NOT met"
    print(
        f"{len(load.answers)} arrivals, sent {late_ns / 1e6:.3f} ms late on average, at utilization {utilization:.3f}: "
        f"mean wait {wait_ns / 1e6:.3f} ms, theory {theory_ns / 1e6:.3f} ms, {off_pct:+.1f} %; "
        f"limit {QUEUE_LIMIT_PCT:g} % {met}", flush=True,
    )  # fmt: skip


PARTS = {"rpc": rpc, "serialization": serialization, "queue": queue}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which to run; all without")
    parser.add_argument("--pairs", type=int, default=8)
    chosen = parser.parse_args()
    keep_freed_memory()  # as servers do
    for name in chosen.parts or PARTS:
        PARTS[name](chosen.pairs)


if __name__ == "__main__":
    main()
