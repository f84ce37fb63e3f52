"""One run: export the model, start the servers, send requests one by one or as LoadGen says, stop the servers.

workbench run inference --preset tiny
workbench run inference --set model=drm2-mini --set strategy=net_specific --set shards=4
workbench run inference --preset data-centre --set batch_items=16
workbench run inference --set load=server --set qps=40 --set sizes=lognormal
workbench run inference --set plan=PLAN.json --set exported=MODEL      # servers that `workbench serve` started
"""

import asyncio
import gc
import itertools
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import InputError, WorkFailed
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import RunDirectory
from workbench.workloads.directory import create_run, write_ceilings
from workbench.workloads.inference.client import Echo, RankClient
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.deployment import Deployment, Elsewhere
from workbench.workloads.inference.load import LIBRARY_REQUESTS, EarlierStarts, drive
from workbench.workloads.inference.manifest import describe
from workbench.workloads.inference.models.exported import ExportedModel
from workbench.workloads.inference.network import precise_loop
from workbench.workloads.inference.prepare import exported_model, planned
from workbench.workloads.inference.replay import replay, results, warm_up
from workbench.workloads.inference.requests import make_requests, request_sizes
from workbench.workloads.inference.serve import tls_of
from workbench.workloads.stacks import HostStacks

_START_SECONDS = 120.0
_ASK_SECONDS = 0.05


def run(config: Config, preset: str, traces: Path, ceilings: bool, py_spy: bool) -> Path:
    """The run directory. InputError when a setting cannot work, WorkFailed when a server fails."""
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        model = exported_model(config, Path(folder) / "model")
        plan, lookups = planned(config, model)
        count = config.requests if config.load == "serial" else LIBRARY_REQUESTS
        sizes = request_sizes(config, config.warmup_requests + count)
        described = describe(config, model.config, plan, lookups)
        directory = create_run("inference", preset, config, traces, config.run_id, **described)
        with _telling(directory):
            if ceilings:
                write_ceilings(directory)
            recorded = directory if config.instrument else None
            stacks = HostStacks(directory if py_spy else None, "client")
            if config.plan is None:
                servers = Deployment(model.path, plan, config, config.replicas, Path(folder), recorded)
            else:
                servers = Elsewhere(plan)
            with servers as deployment, stacks:
                found = _asked(config, model, sizes, deployment, directory)
            with directory.editing() as manifest:
                manifest["results"] = found
    return directory.path


def _asked(
    config: Config, model: ExportedModel, sizes: list[int], deployment: Deployment | Elsewhere, directory: RunDirectory
) -> dict:
    """Send the run's requests, of these sizes; results for the manifest."""

    async def ask() -> dict:
        with directory.recorder("client") if config.instrument else Recorder(None) as recorder:
            starts = EarlierStarts(recorder)
            sender = recorder if config.load == "serial" else starts
            client = RankClient(deployment.plan.main, model.config, sender, tls_of(config), config.trace_share)
            shards = [shard.addresses[0] for shard in deployment.plan.shards]
            echo = Echo(shards, recorder, tls_of(config))
            await _until_serving(client, deployment)
            requests = make_requests(model.config, sizes, config.seed)
            await warm_up(client, itertools.islice(requests, config.warmup_requests), config)
            if config.load == "serial":
                found = results(await replay(client, echo, requests, config))
            else:
                load = await drive(client, echo, list(requests), config, directory.path / "loadgen")
                starts.correct(load.delays_ns)
                found = results(load.answers) | {"loadgen": load.report}
            await client.close()
            await echo.close()
        return found

    # A full collection would walk all of torch's objects in the middle of a request.
    gc.freeze()
    try:
        return _on_own_loop(ask)
    finally:
        gc.unfreeze()


def _on_own_loop(work: Callable[[], Coroutine[Any, Any, dict]]) -> dict:
    """Run it; on a thread of its own where this one runs a loop already, as a notebook's does."""

    def run_it() -> dict:
        with asyncio.Runner(loop_factory=precise_loop) as loop:
            return loop.run(work())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_it()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run_it).result()


async def _until_serving(client: RankClient, deployment: Deployment | Elsewhere) -> None:
    """WorkFailed or InputError when it never will."""
    until = time.monotonic() + _START_SECONDS
    while not await client.is_serving(_ASK_SECONDS):
        deployment.check()
        if time.monotonic() > until:
            raise WorkFailed(f"the servers did not answer within {_START_SECONDS:g} s")
        await asyncio.sleep(_ASK_SECONDS)


@contextmanager
def _telling(directory: RunDirectory) -> Iterator[None]:
    """Say in the manifest how the run ended."""
    try:
        yield
    except KeyboardInterrupt:
        directory.finish("interrupted")
        raise
    except (InputError, WorkFailed) as error:
        directory.finish("failed", str(error))
        raise type(error)(f"{error} (run: {directory.path})") from None
    except Exception as error:
        directory.finish("failed", f"{type(error).__name__}: {error}")
        with directory.editing() as manifest:
            manifest["traceback"] = traceback.format_exc()
        raise WorkFailed(f"{type(error).__name__}: {error} (run: {directory.path})") from error
    directory.finish("complete")
