"""The main shard: takes ranking requests, runs the dense layers, and asks the sparse shards for pooled embeddings.

    request --> handler --> batches, side by side --> nets, one after the other --> scores
                                    net: cut bags --> RPC operators, side by side --> join --> top layers
                                                      bottom layers meanwhile

A request that is more than the house holds is refused at once, so that those inside keep their latency.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import grpc
import numpy as np
import torch
from torch import Tensor, nn

from workbench.trace.recorder import Recorder
from workbench.workloads.inference.bags import Bags
from workbench.workloads.inference.lookups import Lookups
from workbench.workloads.inference.models.config import ModelConfig
from workbench.workloads.inference.protocol.messages import Request, RequestFormat, encode_scores
from workbench.workloads.inference.protocol.status import RequestError
from workbench.workloads.inference.tracing import Lane, LaneNames, TraceContext
from workbench.workloads.inference.workers import Workers, first_failure

# RPCs may use this share of a request's time, so that its caller hears why it failed and not only that time was up.
_RPC_TIME_SHARE = 0.95


class Serving:
    """What a request needs from its first moment to its last: one version of model and plan.

    A reload puts a new one in its place; `retire` lets go of the old one when the last request has left it.
    """

    def __init__(self, model: ModelConfig, nets: nn.ModuleList, lookups: Lookups) -> None:
        self.model, self.nets, self.lookups = model, nets, lookups
        self.format = RequestFormat(model)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def used(self) -> Iterator["Serving"]:
        """Keep it while inside."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def retire(self) -> None:
        """Close its connections once nobody uses it."""
        await self._unused.wait()
        await self.lookups.close()


class Admission:
    """At most `concurrency` requests are worked on and `queue` wait; any more are refused."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._limit, self._inside = concurrency + queue, 0
        self._turns = asyncio.Semaphore(concurrency)

    @asynccontextmanager
    async def admitted(self, lane: Lane) -> AsyncIterator[None]:
        """Wait for a turn; RESOURCE_EXHAUSTED where the house is full."""
        if self._inside >= self._limit:
            reason = f"overloaded: {self._inside} requests are here, the limit; try again later"
            raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        self._inside += 1
        try:
            with lane.span("queue", kind="wait"):
                await self._turns.acquire()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._inside -= 1


class MainShard:
    """Answers `Ranking/Rank`. `batch_items` cuts a request into batches (None: one), `uncontended` works on one of
    them at a time; `deadline_s` holds for callers that set none. Whoever loads model and plan puts them into
    `serving`; until then requests are turned away."""

    def __init__(
        self,
        recorder: Recorder,
        workers: Workers,
        admission: Admission,
        batch_items: int | None,
        deadline_s: float,
        uncontended: bool = False,
    ) -> None:
        self._recorder, self._workers, self._admission = recorder, workers, admission
        self._batch_items, self._deadline_s = batch_items, deadline_s
        self._turns = asyncio.Semaphore(1) if uncontended else nullcontext()
        self._lane_names = LaneNames()
        self.serving: Serving | None = None

    async def rank(self, message: bytes, call: grpc.aio.ServicerContext) -> bytes:
        """A RankRequest -> a RankReply; a request that cannot be answered ends with a status and its reason."""
        started = time.monotonic()
        context = TraceContext.received(call.invocation_metadata())
        left = call.time_remaining()
        deadline = started + _RPC_TIME_SHARE * (self._deadline_s if left is None else left)
        try:
            with self._lane_names.taken() as name:
                lane = Lane(self._recorder, name, context)
                return await lane.run(self._handle(message, deadline, lane))
        except RequestError as error:
            await call.abort(error.code, error.reason)

    async def _handle(self, message: bytes, deadline: float, lane: Lane) -> bytes:
        if self.serving is None:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "the sparse shards are not there yet; try again later")
        with lane.span("handler"), self.serving.used() as serving:
            async with self._admission.admitted(lane):
                with lane.span("deserialize", kind="serialization", message_bytes=len(message)):
                    request = serving.format.decode(message)
                scores = await self._scores(serving, request, deadline, lane)
                with lane.span("serialize", kind="serialization"):
                    reply = encode_scores(scores)
                    lane.note(message_bytes=len(reply))
        # A counter of the whole process, gRPC's own threads included; of one request only while it is alone.
        self._recorder.step = lane.received.step
        self._recorder.metric("process_cpu_ns", time.process_time_ns())
        return reply

    async def _scores(self, serving: Serving, request: Request, deadline: float, lane: Lane) -> np.ndarray:
        """Scores [items, outputs], in batches side by side."""
        size = self._batch_items or len(request)
        starts = range(0, len(request), size)
        with first_failure(), lane.span("batch_wait", kind="wait"):
            async with asyncio.TaskGroup() as batches:
                tasks = []
                for number, start in enumerate(starts):
                    beside = lane.branch(f"batch-{number}")
                    batch = self._batch(serving, request, start, start + size, deadline, beside)
                    tasks.append(batches.create_task(beside.run(batch)))
        scores = np.concatenate([task.result() for task in tasks])
        if not np.isfinite(scores).all():
            item = int(np.argwhere(~np.isfinite(scores))[0, 0])
            raise RequestError(grpc.StatusCode.INTERNAL, f"item {item} has no finite score: its features overflow")
        return scores

    async def _batch(
        self, serving: Serving, request: Request, start: int, stop: int, deadline: float, lane: Lane
    ) -> np.ndarray:
        """Scores of items start to stop - 1: every net in its turn."""
        async with self._turns:
            return await self._nets(serving, request, start, stop, deadline, lane)

    async def _nets(
        self, serving: Serving, request: Request, start: int, stop: int, deadline: float, lane: Lane
    ) -> np.ndarray:
        with lane.span("batch"):
            dense = torch.from_numpy(request.dense[start:stop].copy())  # torch takes no read-only memory
            bags = request.bags.items(start, min(stop, len(request)))
            carried = None
            for number, tables in enumerate(serving.model.table_ranges):
                carried = await self._net(serving, number, dense, bags.tables(tables), carried, deadline, lane)
            return carried.sigmoid().numpy()

    async def _net(
        self,
        serving: Serving,
        number: int,
        dense: Tensor,
        bags: Bags,
        carried: Tensor | None,
        deadline: float,
        lane: Lane,
    ) -> Tensor:
        """Outputs [B, outputs] of one net, of dense [B, dense_features], bags [its tables, B] and what the net before
        it handed on."""
        net = serving.nets[number]

        def bottom() -> Tensor:
            with lane.span("bottom", kind="compute"):
                return net.bottom(dense)

        def outputs(embeddings: Callable[[], Tensor], below: Tensor) -> Tensor:
            rows = embeddings()
            with lane.span("top", kind="compute"):
                return net(below, rows, carried)

        with lane.span("net", phase=serving.model.nets[number].name):
            async with serving.lookups.under_way(number, bags, deadline, lane) as arrived:
                below = await self._workers.run(lane, bottom)
                embeddings = await arrived()
            return await self._workers.run(lane, outputs, embeddings, below)
