"""What cutting a model adds to its slowest requests: P50, P90 and P99 over two shards, over those of one server.

    python tests/benchmarks/tail.py [--requests 10000] [--width 1] [--preset drm1-mini] [--rows-factor 10]

Study `scaleout` has enough requests for P99 at scale full only, where it takes days on two cores; this is one of its
points: one cut, and dense layers `width` times as wide, which adds compute and not a byte to any RPC. Both deployments
stand side by side and answer blocks of requests in turn, in random order, so that drift of the machine falls on both;
whichever is not asked is idle. Intervals draw whole rounds again.
"""

import argparse
import asyncio
import gc
import itertools
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.intervals import percentile_ratio_interval

from workbench.studies.scaleout_parts.compute import length_ns, wider
from workbench.trace.recorder import Recorder
from workbench.workloads.inference.client import RankClient
from workbench.workloads.inference.config import PRESETS, Config
from workbench.workloads.inference.deployment import Deployment
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.exported import export_model
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.network import precise_loop
from workbench.workloads.inference.prepare import planned
from workbench.workloads.inference.requests import make_requests

CUTS = {"singular": {"strategy": "singular"}, "load-bal 2": {"strategy": "load_balanced", "shards": 2}}
PERCENTILES = (50, 90, 99)
LIBRARY = 256
DEADLINE_S = 60.0  # far beyond any request here
# Long enough that the first request of a block, which finds other data in the caches, is one of many.
BLOCK_SECONDS, SHORTEST_BLOCK = 1.5, 5


async def latencies_ns(clients: list[RankClient], config: Config, requests: list, wanted: int) -> np.ndarray:
    """Latency [cuts, rounds, block] of at least `wanted` requests one by one; in a round all cuts get the same."""
    drawn: Iterator = itertools.cycle(requests)

    async def ask(client: RankClient, request: object) -> int:
        answer = await client.rank(0, request, config.deadline_s, sampled=False)
        if answer.status != "OK":
            raise RuntimeError(f"{answer.status}: {answer.reason}")
        return answer.latency_ns

    warmup = [await ask(client, request) for request in requests[: config.warmup_requests] for client in clients]
    requests_a_block = max(SHORTEST_BLOCK, round(BLOCK_SECONDS * 1e9 / np.median(warmup)))
    rounds = -(-wanted // requests_a_block)
    found = np.empty((len(clients), rounds, requests_a_block))
    for place in range(rounds):
        block = list(itertools.islice(drawn, requests_a_block))
        for cut in random.sample(range(len(clients)), len(clients)):
            found[cut, place] = [await ask(clients[cut], request) for request in block]
        if place % 20 == 19:
            print(f"round {place + 1} of {rounds}", flush=True)
    return found


def measured_ns(config: Config, width: int, wanted: int) -> np.ndarray:
    """The same, of deployments that record nothing and whose dense layers are `width` times the model's."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        shape = wider(model_config(config.model, config.rows_factor, config.seed), width)
        model = export_model(Ranker.untrained(shape), Path(folder) / "model")
        requests = list(make_requests(model.config, [config.items] * LIBRARY, config.seed))
        deployments = []
        for name, settings in CUTS.items():
            cut = replace(config, **settings)
            (place := Path(folder) / name).mkdir()
            deployments.append(
                running.enter_context(Deployment(model.path, planned(cut, model)[0], cut, 1, place, None))
            )

        async def play() -> np.ndarray:
            clients = [RankClient(servers.plan.main, model.config, Recorder(None)) for servers in deployments]
            for client, servers in zip(clients, deployments, strict=True):
                while not await client.is_serving(0.1):
                    servers.check()
            found = await latencies_ns(clients, config, requests, wanted)
            for client in clients:
                await client.close()
            return found

        loop = running.enter_context(asyncio.Runner(loop_factory=precise_loop))
        return loop.run(play())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--preset", default="drm1-mini")
    parser.add_argument("--rows-factor", type=float, default=10)
    chosen = parser.parse_args()
    gc.freeze()  # as a run does: the garbage of numpy and torch is not collected amid requests
    config = replace(PRESETS[chosen.preset](), rows_factor=chosen.rows_factor, deadline_s=DEADLINE_S)
    singular_ns, cut_ns = measured_ns(config, chosen.width, chosen.requests)
    for percentile in PERCENTILES:
        ratio, low, high = percentile_ratio_interval(cut_ns, singular_ns, percentile)
        ours_ms, base_ms = (np.percentile(ns, percentile) / 1e6 for ns in (cut_ns, singular_ns))
        print(
            f"P{percentile}: {ours_ms:.2f} ms over {base_ms:.2f} ms of one server, {ratio:.3f} [{low:.3f}, {high:.3f}] "
            f"over {cut_ns.size} requests each; what is added would be 1 % of {length_ns(ours_ms - base_ms):,.0f} ms",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
