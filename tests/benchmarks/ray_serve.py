"""Requests a second within an SLA: our main shard against the same model behind Ray Serve, on the same cores.

    PY tests/benchmarks/ray_serve.py [--pairs 3] [--preset drm1-mini] [--seconds 10] [--sla-ms 100]

PY is a Python with `workbench` and ray[serve]. Both servers hold the whole model (singular), answer the same client
over gRPC, and are driven by the same search: LoadGen's, for the largest Poisson rate whose P99 stays within the SLA.
Serve runs as its documentation tunes it for throughput (RAY_SERVE_THROUGHPUT_OPTIMIZED, its gRPC proxy between),
with one replica or two, with batches and without; ours with one worker or two. The best of each, by one search, go
into the pairs, in random order, each server alone on the machine. First their scores must agree to 1e-6.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from support.intervals import median_interval

from workbench.errors import InputError
from workbench.trace.recorder import Recorder
from workbench.workloads.inference.client import Echo, RankClient
from workbench.workloads.inference.config import PRESETS, Config
from workbench.workloads.inference.deployment import Deployment
from workbench.workloads.inference.load import LIBRARY_REQUESTS, drive
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.network import precise_loop
from workbench.workloads.inference.prepare import exported_model, planned
from workbench.workloads.inference.requests import make_requests

LIMIT, TOLERANCE, GRPC_PORT = 1.5, 1e-6, 59211
START_QPS = 20.0  # within the SLA for any of the servers: there the search begins
ATTEMPTS = 3  # since a machine that stalls for a moment can fail the first step of a search
OURS = {f"ours, {workers} workers": workers for workers in (1, 2)}
SERVE = {f"Serve, {replicas} replicas, batch {batch}": (replicas, batch) for replicas in (1, 2) for batch in (1, 8)}
BATCH_WAIT_SECONDS, MAX_ONGOING = 0.002, 32


@contextlib.contextmanager
def ours(workers: int, model: ExportedModel, config: Config) -> Iterator[str]:
    """Our main shard with all tables; its address."""
    config = replace(config, workers=workers, queue=4096)  # LoadGen counts a refusal as an answer that was too late
    plan, _ = planned(config, model)
    with (
        tempfile.TemporaryDirectory() as folder,
        Deployment(model.path, plan, config, 1, Path(folder), None) as deployment,
    ):
        yield deployment.plan.main


@contextlib.contextmanager
def ray_serve(tuning: tuple[int, int], model: ExportedModel, _: Config) -> Iterator[str]:
    """The same model behind Ray Serve; its gRPC proxy's address."""
    import ray
    from ray import serve
    from support.serve_ranking import Ranking

    replicas, batch = tuning
    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error", _node_ip_address="127.0.0.1"
    )  # four slots: replicas share the cores with proxy and controller, as the scheduler sees fit
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": GRPC_PORT + 1},
            grpc_options={
                "port": GRPC_PORT, "grpc_servicer_functions": ["support.serve_ranking.add_ranking"],
                "enable_reflection": False,
            },
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )  # fmt: skip
        deployment = serve.deployment(
            Ranking, num_replicas=replicas, max_ongoing_requests=MAX_ONGOING, ray_actor_options={"num_cpus": 1}
        )
        serve.run(deployment.bind(str(model.path), batch, BATCH_WAIT_SECONDS))
        yield f"127.0.0.1:{GRPC_PORT}"
    finally:
        serve.shutdown()
        ray.shutdown()


def peak_qps(server: contextlib.AbstractContextManager[str], model: ExportedModel, config: Config) -> float:
    """The largest rate within the SLA; RuntimeError where a score is not the model's own."""
    requests = list(make_requests(model.config, [config.items] * LIBRARY_REQUESTS, config.seed))
    expected = expected_scores(model, requests[: config.warmup_requests])

    async def play(address: str, folder: Path) -> float:
        client = RankClient(address, model.config, Recorder(None))
        for number, scores in enumerate(expected):
            answer = await client.rank(number, requests[number], 60.0)
            while answer.status in ("UNAVAILABLE", "NOT_FOUND"):  # not there yet
                await asyncio.sleep(0.2)
                answer = await client.rank(number, requests[number], 60.0)
            if answer.status != "OK" or not np.allclose(answer.scores, scores, rtol=0, atol=TOLERANCE):
                raise RuntimeError(f"request {number}: not the model's scores; {answer.status} {answer.reason}")
        for attempt in range(1, ATTEMPTS + 1):
            with contextlib.suppress(InputError if attempt < ATTEMPTS else ()):
                load = await drive(client, Echo([], Recorder(None)), requests, config, folder / f"loadgen-{attempt}")
                break
        await client.close()
        return load.report["result_scheduled_samples_per_sec"]

    with (
        tempfile.TemporaryDirectory() as folder,
        server as address,
        asyncio.Runner(loop_factory=precise_loop) as loop,
    ):
        return loop.run(play(address, Path(folder)))


def expected_scores(model: ExportedModel, requests: list) -> list[np.ndarray]:
    """What the model says in this process."""
    ranker = Ranker(model.config, model.nets(), [model.rows(table.name) for table in model.config.tables])
    return [ranker(torch.from_numpy(request.dense), *request.bags.tensors()).numpy() for request in requests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--preset", default="drm1-mini")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each step of the search")
    parser.add_argument("--sla-ms", type=float, default=100.0)
    chosen = parser.parse_args()
    if any(importlib.util.find_spec(name) is None for name in ("ray", "starlette")):  # Serve needs the second
        sys.exit("Ray Serve is not installed here: pip install 'ray[serve]' into an environment that has workbench")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    folder = str(Path(__file__).parent)
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
        "PYTHONPATH": os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    config = replace(
        PRESETS[chosen.preset](), strategy="singular", load="server_peak", requests=200, qps=START_QPS,
        min_duration_s=chosen.seconds, sla_ms=chosen.sla_ms, sizes="fixed",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        model = exported_model(config, Path(scratch) / "model")
        best = {}
        for side, tunings, serve in (("ours", OURS, ours), ("Serve", SERVE, ray_serve)):
            found = {name: peak_qps(serve(tuning, model, config), model, config) for name, tuning in tunings.items()}
            for name, qps in found.items():
                print(f"{name}: {qps:.1f} requests/s with P99 within {chosen.sla_ms:g} ms", flush=True)
            best[side] = (serve, tunings[max(found, key=found.get)])
        ratios = []
        for _ in range(chosen.pairs):
            qps = {}
            for side in random.sample(sorted(best), 2):
                serve, tuning = best[side]
                qps[side] = peak_qps(serve(tuning, model, config), model, config)
            ratios.append(qps["ours"] / qps["Serve"])
            print(f"ours {qps['ours']:.1f}, Serve {qps['Serve']:.1f} requests/s: {ratios[-1]:.2f}", flush=True)
    median, low, high = median_interval(ratios)
    met = "met" if low >= LIMIT else "NOT met"
    print(f"ours / Ray Serve: {median:.2f} [{low:.2f}, {high:.2f}] over {len(ratios)} pairs; at least {LIMIT} {met}")


if __name__ == "__main__":
    main()
