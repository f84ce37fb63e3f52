"""One server process: the main shard or a sparse shard, from its first moment to its last.

    workbench serve prepare --set model=drm1-mini --set shards=2 --model MODEL --plan PLAN.json
    workbench serve shard shard-0 --model MODEL --plan PLAN.json
    workbench serve main --model MODEL --plan PLAN.json

Every process gets the same plan, on the same machine or another one; the plan says where each listens. SIGHUP reads
model and plan again: shards first serve the new version too, then the main shard, which waits for all of them,
sends new requests there; no request is dropped. SIGTERM drains: no new requests, those under way are answered.
"""

import asyncio
import gc
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch

from workbench.errors import InputError
from workbench.machine.host import host_facts
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import RunDirectory
from workbench.workloads.heap import keep_freed_memory
from workbench.workloads.inference.config import ServerConfig
from workbench.workloads.inference.lookups import LocalLookups, RemoteLookups
from workbench.workloads.inference.main_shard import Admission, MainShard, Serving
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.network import Link, precise_loop
from workbench.workloads.inference.plan import Plan, read_plan
from workbench.workloads.inference.protocol.messages import LOOKUP, RANK
from workbench.workloads.inference.replicas import ShardClient
from workbench.workloads.inference.sparse_shard import SparseShard
from workbench.workloads.inference.transport import Server, Tls
from workbench.workloads.inference.workers import Workers

_READY_SECONDS = 30.0  # that a new plan waits for its shards before the old one is kept
_ASK_SECONDS = 0.1


def serve(
    role: Literal["main", "shard"],
    model: Path,
    plan: Path,
    config: ServerConfig,
    shard: str = "",
    replica: int = 0,
    traces: Path | None = None,
    run_id: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `shard` and `replica` say which sparse shard this is.

    With `traces` this process records its part of the run `run_id` below that folder; `workbench load` takes the parts
    of all hosts together. InputError when model, plan or address are wrong.
    """
    name = process_name(role, shard, replica)
    if traces is None:
        run_server(role, model, plan, config, shard, replica, Recorder(None))
        return
    directory = RunDirectory.create(
        traces, "inference", name, run_id=run_id, config=asdict(config), host=host_facts(gpus=False)
    )
    with directory.recorder(name) as recorder:
        run_server(role, model, plan, config, shard, replica, recorder)
    directory.finish("complete")


def process_name(role: str, shard: str, replica: int) -> str:
    """`main`, `shard-3`, or `shard-3-replica-1`."""
    return "main" if role == "main" else f"{shard}-replica-{replica}" if replica else shard


def run_server(
    role: str,
    model: Path,
    plan: Path,
    config: ServerConfig,
    shard: str,
    replica: int,
    recorder: Recorder,
    launcher: int | None = None,
) -> None:
    """The same with a recorder at hand; also ends when the pipe `launcher` (a file descriptor) closes."""
    keep_freed_memory()
    torch.set_num_threads(config.threads_per_process)
    if role == "main":
        server = _Main(model, plan, config, recorder)
    else:
        server = _Shard(model, plan, shard, replica, config, recorder)
    with asyncio.Runner(loop_factory=precise_loop) as loop:
        loop.run(_live(server, config, launcher))


def tls_of(config: ServerConfig) -> Tls | None:
    """The configured certificates."""
    if config.tls_certificate is None:
        return None
    return Tls(Path(config.tls_certificate), Path(config.tls_key), Path(config.tls_authority))


async def _live(process: "_Main | _Shard", config: ServerConfig, launcher: int | None) -> None:
    loop, told_to_stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    if launcher is not None:
        loop.add_reader(launcher, told_to_stop.set)
    server = Server(process.address(), process.method, process.answer, tls_of(config))
    await server.start()
    loading = asyncio.create_task(_load_and_reload(process, server))
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        loading.result()  # it ends only by what is wrong with model or plan
    loading.cancel()
    await server.drain(config.drain_s)
    await process.close()


async def _load_and_reload(process: "_Main | _Shard", server: Server) -> None:
    """Serve what the files say, and again after every SIGHUP; a new state that cannot be served changes nothing."""
    told_to_reload = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told_to_reload.set)
    await server.serves(await process.load())
    # What is here now stays: a full collection would walk all of torch's objects in the middle of a request.
    gc.freeze()
    while True:
        await told_to_reload.wait()
        told_to_reload.clear()
        try:
            await server.serves(await process.load(_READY_SECONDS))
        except InputError as error:
            sys.stderr.write(f"workbench: the old plan stays: {error}\n")


class _Shard:
    """A sparse shard's process."""

    method = LOOKUP

    def __init__(
        self, model: Path, plan: Path, name: str, replica: int, config: ServerConfig, recorder: Recorder
    ) -> None:
        self._model, self._plan, self._replica = model, plan, replica
        self._shard = SparseShard(name, recorder, config.table_type)
        self.answer = self._shard.lookup

    def address(self) -> str:
        """By the plan."""
        shard = read_plan(self._plan).shard(self._shard.name)
        if not 0 <= self._replica < len(shard.addresses):
            raise InputError(f"{self._plan}: {shard.name} has no replica {self._replica}")
        return shard.addresses[self._replica]

    async def load(self, patience_seconds: float | None = None) -> str:
        """Serve what the files say now, too; returns its version."""
        model, plan = ExportedModel(self._model), read_plan(self._plan)
        plan.check(model.config)
        # On a thread, since it copies the tables: requests for the version before go on.
        return await asyncio.to_thread(self._shard.load, model, plan)

    async def close(self) -> None:
        pass


class _Main:
    """The main shard's process."""

    method = RANK

    def __init__(self, model: Path, plan: Path, config: ServerConfig, recorder: Recorder) -> None:
        self._model, self._plan, self._tls, self._uncontended = model, plan, tls_of(config), config.uncontended
        self._table_type = config.table_type
        delay_ns = round(config.network_delay_us * 1e3)
        bytes_per_s = config.network_gbit_per_s * 1e9 / 8 if config.network_gbit_per_s else None
        self._links = [Link(delay_ns, bytes_per_s) for _ in range(2)]
        self._workers = Workers(config.workers, config.threads_per_process)
        admission = Admission(config.concurrency, config.queue)
        self._shard = MainShard(
            recorder, self._workers, admission, config.batch_items, config.deadline_s, config.uncontended
        )
        self.answer = self._shard.rank

    def address(self) -> str:
        """By the plan."""
        plan = read_plan(self._plan)
        plan.check_addresses()
        return plan.main

    async def load(self, patience_seconds: float | None = None) -> str:
        """Send new requests where the files say now, once the shards are there; returns the version.

        InputError, and everything as it was, when they are not within `patience_seconds` (None: wait on).
        """
        model, plan = ExportedModel(self._model), read_plan(self._plan)
        plan.check(model.config)
        plan.check_addresses()
        version = plan.version(model.version)
        serving = await self._serving(model, plan, version)
        try:
            async with asyncio.timeout(patience_seconds):
                while not await serving.lookups.ready(_ASK_SECONDS):
                    await asyncio.sleep(_ASK_SECONDS)
        except TimeoutError:
            await serving.lookups.close()
            raise InputError(f"{self._plan}: not every shard serves it after {patience_seconds:g} s") from None
        before, self._shard.serving = self._shard.serving, serving
        if before is not None:
            await before.retire()
        return version

    async def close(self) -> None:
        """Let go of shards and threads."""
        if self._shard.serving is not None:
            await self._shard.serving.lookups.close()
        self._workers.close()

    async def _serving(self, model: ExportedModel, plan: Plan, version: str) -> Serving:
        nets = await asyncio.to_thread(model.nets)
        if not plan.shards:
            return Serving(model.config, nets, await asyncio.to_thread(LocalLookups, model, self._table_type))
        # Not on a thread: gRPC's channels belong to the event loop.
        clients = {shard.name: ShardClient(shard, version, *self._links, self._tls) for shard in plan.shards}
        return Serving(model.config, nets, RemoteLookups(model.config, plan, clients, self._uncontended))
