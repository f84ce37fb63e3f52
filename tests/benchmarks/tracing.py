"""What tracing costs: P50 and P99 of requests that every server records, over those of requests that none does.

    python tests/benchmarks/tracing.py [--rounds 144] [--preset drm1-mini]

A deployment answers rounds of three blocks in random order: sampled, not sampled, and not sampled once more. Tracing is
the first over both others; the control is the third over the second, which shows what the machine alone does. Latencies
count in medians of their round's untraced requests, since a machine's speed changes from one second to the next. A
block lasts longer than spans wait until they are written, so that writing falls to the requests which caused it. Where
memory lies makes a process faster or slower for all its life, and tracing cheaper or dearer: there are many
deployments, and intervals draw whole ones again.
"""

import argparse
import asyncio
import gc
import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from support.intervals import percentile_ratio_interval

from workbench.trace.rundir import RunDirectory
from workbench.workloads.inference.client import RankClient
from workbench.workloads.inference.config import PRESETS, Config
from workbench.workloads.inference.deployment import Deployment
from workbench.workloads.inference.network import precise_loop
from workbench.workloads.inference.prepare import exported_model, planned
from workbench.workloads.inference.requests import make_requests

LIMITS_PCT = {50: 3.0, 99: 5.0}
BLOCK, LIBRARY, DEPLOYMENTS = 40, 256, 12
ARMS = {"sampled": True, "not sampled": False, "control": False}


async def latencies_ns(client: RankClient, config: Config, requests: list, rounds: int) -> np.ndarray:
    """Latency [arms, rounds, BLOCK] of requests one by one."""
    numbered: Iterator = enumerate(itertools.cycle(requests))

    async def ask(sampled: bool) -> int:
        number, request = next(numbered)
        answer = await client.rank(number, request, config.deadline_s, sampled=sampled)
        if answer.status != "OK":
            raise RuntimeError(f"request {number}: {answer.status}: {answer.reason}")
        return answer.latency_ns

    for number in range(config.warmup_requests):
        await ask(number % 2 == 0)
    found = np.empty((len(ARMS), rounds, BLOCK))
    for place in range(rounds):
        for arm in random.sample(range(len(ARMS)), len(ARMS)):
            sampled = list(ARMS.values())[arm]
            found[arm, place] = [await ask(sampled) for _ in range(BLOCK)]
    return found


def measured_ns(config: Config, rounds: int) -> np.ndarray:
    """The same, of a deployment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        model = exported_model(config, Path(folder) / "model")
        directory = RunDirectory.create(Path(folder), "inference", "tracing")
        plan, _ = planned(config, model)
        requests = list(make_requests(model.config, [config.items] * LIBRARY, config.seed))

        async def play() -> np.ndarray:
            client = RankClient(servers.plan.main, model.config, recorder)
            while not await client.is_serving(0.1):
                servers.check()
            found = await latencies_ns(client, config, requests, rounds)
            await client.close()
            return found

        servers = Deployment(model.path, plan, config, 1, Path(folder), directory)
        with servers, directory.recorder("client") as recorder, asyncio.Runner(loop_factory=precise_loop) as loop:
            return loop.run(play())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=144)
    parser.add_argument("--preset", default="drm1-mini")
    chosen = parser.parse_args()
    gc.freeze()  # as a run does: the garbage of numpy and torch is not collected amid requests
    config, rounds = PRESETS[chosen.preset](), -(-chosen.rounds // DEPLOYMENTS)
    found_ns = []
    for number in range(DEPLOYMENTS):
        found_ns.append(measured_ns(config, rounds))
        print(f"deployment {number + 1} of {DEPLOYMENTS}", flush=True)
    found_ns = np.stack(found_ns, axis=1)  # [arms, deployments, rounds, BLOCK]
    untraced_ns = np.median(found_ns[1:], axis=(0, 3))[:, :, None]
    sampled, untraced, control = (found_ns / untraced_ns).reshape(len(ARMS), DEPLOYMENTS, -1)
    comparisons = {"tracing": (sampled, np.hstack([untraced, control])), "control": (control, untraced)}
    for percentile, limit_pct in LIMITS_PCT.items():
        for name, (ours, base) in comparisons.items():
            ratio, low, high = percentile_ratio_interval(ours, base, percentile)
            limit = 1 + limit_pct / 100
            met = "" if name == "control" else f"; limit {limit:g} {'met' if high <= limit else 'NOT met'}"
            print(f"{name}, P{percentile}: {ratio:.3f} [{low:.3f}, {high:.3f}] over {ours.size} requests{met}")


if __name__ == "__main__":
    main()
