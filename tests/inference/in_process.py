"""A deployment inside the test: main and sparse shards on loopback, all on one event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.client import RankClient
from workbench.workloads.inference.lookups import LocalLookups, RemoteLookups
from workbench.workloads.inference.main_shard import Admission, MainShard, Serving
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.config import ModelConfig, TableType
from workbench.workloads.inference.models.exported import ExportedModel, export_model
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.network import Link, precise_loop
from workbench.workloads.inference.plan import Plan
from workbench.workloads.inference.protocol.messages import LOOKUP, RANK, Request
from workbench.workloads.inference.replicas import ShardClient
from workbench.workloads.inference.requests import make_requests
from workbench.workloads.inference.sparse_shard import SparseShard
from workbench.workloads.inference.strategies import make_plan
from workbench.workloads.inference.transport import Server, Tls
from workbench.workloads.inference.workers import Workers


def tiny_model(folder: Path) -> tuple[Ranker, ExportedModel]:
    """The tiny model, as a module and exported."""
    model = Ranker.untrained(model_config("tiny"))
    return model, export_model(model, folder / "tiny")


def some_requests(model: ModelConfig, count: int, items: int = 6) -> list[Request]:
    return list(make_requests(model, [items] * count, seed=7))


def plan_for(model: ModelConfig, strategy: str, shards: int) -> Plan:
    return make_plan(strategy, model, shards, [table.pooling_factor for table in model.tables])


def expected_scores(model: Ranker, request: Request) -> np.ndarray:
    return model(torch.from_numpy(request.dense), *request.bags.tensors()).numpy()


@dataclass
class Deployed:
    """What a scenario gets. `plan` is the one that is served, with addresses."""

    client: RankClient
    address: str
    main: MainShard
    shards: dict[str, SparseShard]
    plan: Plan


def deployed(
    model: ExportedModel,
    plan: Plan,
    scenario: Callable[[Deployed], Awaitable],
    *,
    record: Path | None = None,
    batch_items: int | None = None,
    concurrency: int = 4,
    queue: int = 4,
    replicas: int = 1,
    link: Link | None = None,
    tls: Tls | None = None,
    stand_ins: dict[str, Callable] | None = None,
    table_type: TableType = "fp32",
):
    """Run `scenario` against the deployment; its result. A stand-in answers in place of the replica that it names
    (shard-0/1): async (message, call) -> bytes."""

    async def play():
        recorders = {name: Recorder(record, name) for name in ("main", "client", *(s.name for s in plan.shards))}
        servers, shards, addresses = [], {}, {}
        for shard in plan.shards:
            sparse = shards[shard.name] = SparseShard(shard.name, recorders[shard.name], table_type)
            version = sparse.load(model, plan)
            for replica in range(replicas):
                answer = (stand_ins or {}).get(f"{shard.name}/{replica}", sparse.lookup)
                servers.append(Server("127.0.0.1:0", LOOKUP, answer, tls))
                await servers[-1].start()
                await servers[-1].serves(version)
                addresses.setdefault(shard.name, []).append(f"127.0.0.1:{servers[-1].port}")
        placed = plan.at("", {name: tuple(found) for name, found in addresses.items()})
        workers = Workers(1)
        main = MainShard(recorders["main"], workers, Admission(concurrency, queue), batch_items, deadline_s=5.0)
        main.serving = serving_of(model, placed, link or Link(), tls, table_type)
        server = Server("127.0.0.1:0", RANK, main.rank, tls)
        await server.start()
        client = RankClient(f"127.0.0.1:{server.port}", model.config, recorders["client"], tls)
        try:
            return await scenario(Deployed(client, f"127.0.0.1:{server.port}", main, shards, placed))
        finally:
            await client.close()
            for running in (server, *servers):
                await running.drain(0)
            await main.serving.lookups.close()
            workers.close()
            for recorder in recorders.values():
                recorder.close()

    with asyncio.Runner(loop_factory=precise_loop) as loop:
        return loop.run(play())


def serving_of(
    model: ExportedModel, plan: Plan, link: Link, tls: Tls | None, table_type: TableType = "fp32"
) -> Serving:
    if not plan.shards:
        return Serving(model.config, model.nets(), LocalLookups(model, table_type))
    version = plan.version(model.version)
    clients = {shard.name: ShardClient(shard, version, link, link, tls) for shard in plan.shards}
    return Serving(model.config, model.nets(), RemoteLookups(model.config, plan, clients))
