"""Where a net's embeddings come from: tables in this process, or sparse shards behind RPCs. One door for both.

async with lookups.under_way(net, bags, deadline, lane) as arrived:
    ...                             # work that needs no embeddings
    embeddings = await arrived()    # a function: call it on a worker, it makes them [B, sum of dims]
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.models.config import ModelConfig, TableType
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.models.lookup import serving_tables
from workbench.workloads.inference.plan import Plan
from workbench.workloads.inference.replicas import ShardClient
from workbench.workloads.inference.routing import NetRouting
from workbench.workloads.inference.tracing import Lane
from workbench.workloads.inference.workers import first_failure

Arrived = Callable[[], Awaitable[Callable[[], Tensor]]]


class Lookups(Protocol):
    """A source of embeddings."""

    def under_way(self, net: int, bags: Bags, deadline: float, lane: Lane) -> AbstractAsyncContextManager[Arrived]:
        """Start to look up the bags [tables, B] of one net; `deadline` is in `time.monotonic` seconds."""

    async def ready(self, timeout_seconds: float) -> bool:
        """Whether lookups can be answered."""

    async def close(self) -> None:
        """Let go of connections."""


class LocalLookups:
    """All tables in this process: the singular configuration."""

    def __init__(self, model: ExportedModel, table_type: TableType = "fp32") -> None:
        rows = [model.rows(table.name) for table in model.config.tables]
        self._tables = [serving_tables([rows[t] for t in tables], table_type) for tables in model.config.table_ranges]

    @asynccontextmanager
    async def under_way(self, net: int, bags: Bags, deadline: float, lane: Lane) -> AsyncIterator[Arrived]:
        def look_up() -> Tensor:
            with lane.span("sparse_lookup", kind="compute"):
                return self._tables[net](*bags.tensors())

        async def arrived() -> Callable[[], Tensor]:
            return look_up

        yield arrived

    async def ready(self, timeout_seconds: float) -> bool:
        return True

    async def close(self) -> None:
        pass


class RemoteLookups:
    """Tables on sparse shards: one RPC operator for each shard that holds a row which is asked for; `uncontended`
    has one under way at a time."""

    def __init__(
        self, model: ModelConfig, plan: Plan, clients: Mapping[str, ShardClient], uncontended: bool = False
    ) -> None:
        self._routes = [NetRouting(net, plan) for net in model.nets]
        self._clients = clients
        self._turns = asyncio.Semaphore(1) if uncontended else nullcontext()

    @asynccontextmanager
    async def under_way(self, net: int, bags: Bags, deadline: float, lane: Lane) -> AsyncIterator[Arrived]:
        route = self._routes[net]
        with lane.span("cut", kind="memory"):
            cuts = route.cut(bags)
        with first_failure():
            async with asyncio.TaskGroup() as calls:
                pooled = [
                    calls.create_task(self._pooled(net, shard, cut, width, deadline, lane.branch(shard)))
                    for shard, cut, width in zip(route.shards, cuts, route.widths, strict=True)
                ]

                async def arrived() -> Callable[[], Tensor]:
                    with lane.span("rpc_wait", kind="wait"):
                        rows = [await call for call in pooled]
                    return functools.partial(_joined, route, rows, lane)

                yield arrived

    async def ready(self, timeout_seconds: float) -> bool:
        answers = await asyncio.gather(*(client.ready(timeout_seconds) for client in self._clients.values()))
        return all(answers)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def _pooled(self, net: int, shard: str, bags: Bags, width: int, deadline: float, lane: Lane) -> Tensor:
        if len(bags.ids) == 0:  # whoever is asked for nothing would answer zeros
            return torch.zeros(bags.lengths.shape[1], width)
        async with self._turns:
            return await lane.run(self._clients[shard].lookup(net, bags, width, deadline, lane))


def _joined(route: NetRouting, rows: list[Tensor], lane: Lane) -> Tensor:
    with lane.span("join", kind="memory"):
        return route.join(rows)
