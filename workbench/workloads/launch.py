"""Ranks of one job: processes spawned on this machine, or the processes that torchrun started, perhaps on many.

On one machine ranks are spawned with torch.multiprocessing. It sees a rank die at once, stops the others and works
inside a notebook; and ranks meet through a file, so that the only sockets are gloo's, on loopback. (torch's elastic
launcher listens on every interface, for its rendezvous and again for its store.) Under torchrun each process is a rank,
and that is how many hosts are used.
"""

import functools
import importlib
import math
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing.spawn import ProcessContext, ProcessException

from workbench.errors import InputError, WorkFailed
from workbench.machine.host import cpu_limit, physical_cores
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import RunDirectory, read_manifest
from workbench.workloads.directory import write_ceilings
from workbench.workloads.heap import keep_freed_memory
from workbench.workloads.profiling import CudaTimer, StepProfiler
from workbench.workloads.stacks import HostStacks

_FIRST_ATTEMPT = "run directory of the first attempt"
_GRACE_SECONDS = 5.0  # for ranks to close their files, when one has failed or the user has interrupted


class RankFailed(WorkFailed):
    """A rank's work failed; one line that says which rank and why. The run's status says so too."""


@dataclass(frozen=True)
class Job:
    """What all ranks do: `body(config, recorder, profiler, path)`, whose result goes into the manifest as `results`;
    `path` is the run directory.

    `config` has device, threads_per_rank, instrument, warmup_steps, profile_steps and profile_every. Processes are
    called `<role>-<rank>`.
    """

    body: Callable[[Any, Recorder, StepProfiler, Path], dict]
    config: Any
    role: str
    ceilings: bool
    py_spy: bool


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of its ranks."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def torchrun_restarts() -> int:
    """How often torchrun has started this job's ranks again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def first_attempt() -> Path | None:
    """The run directory of the first of torchrun's attempts that made one; none before that, or without torchrun."""
    if not under_torchrun() or not _torchrun_store().check([_FIRST_ATTEMPT]):
        return None
    return Path(_torchrun_store().get(_FIRST_ATTEMPT).decode())


@functools.cache
def _torchrun_store() -> dist.Store:
    """What all ranks of all attempts share, while torchrun lives."""
    store, _, _ = next(rendezvous("env://"))
    return store


def world_size(configured: int) -> int:
    """Ranks of this job: torchrun's, else as configured."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else configured


def share_of_cores(ranks: int) -> int:
    """Physical cores that this process may use, for each of the ranks on this machine; at least 1."""
    cores = min(len(physical_cores()), cpu_limit() or math.inf)
    return max(int(cores // _local_ranks(ranks)), 1)


def check_gpus(ranks: int) -> None:
    """InputError unless every rank on this machine has a GPU of its own."""
    gpus, needed = torch.cuda.device_count(), _local_ranks(ranks)
    if gpus < needed:
        raise InputError(f"setting device=cuda: {needed} ranks on this machine need a GPU each, torch sees {gpus}")


def _local_ranks(ranks: int) -> int:
    return int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun() else ranks


def launch(job: Job, ranks: int, create: Callable[..., RunDirectory]) -> Path:
    """Run the job to its end; returns the run directory that `create(run_id=...)` made.

    InputError when the input was wrong, RankFailed when a rank failed, KeyboardInterrupt when the user stopped it.
    """
    return _join(job, create) if under_torchrun() else _spawn(job, ranks, create())


def _spawn(job: Job, ranks: int, directory: RunDirectory) -> Path:
    context, killed = None, None
    try:
        if job.ceilings:
            with _telling(directory, "measuring this machine"):
                write_ceilings(directory)
        sys.stderr.write(f"starting the ranks ({ranks})\n")  # importing torch takes seconds
        with tempfile.TemporaryDirectory() as meeting:
            arguments = (ranks, os.getpid(), job, directory, f"{meeting}/store")
            context = multiprocessing.start_processes(_spawned, arguments, nprocs=ranks, join=False)
            done = False
            while not done:
                # Before `join` stops the others: a rank that was killed, not one that has failed of losing it.
                connection.wait(list(context.sentinels))
                killed = killed or _killed(context)
                done = context.join(grace_period=_GRACE_SECONDS)
    except KeyboardInterrupt:
        _stop(context)
        with directory.editing() as manifest:
            for field in ("error", "traceback"):  # of ranks that lost a peer while they were being stopped
                manifest.pop(field, None)
        directory.finish("interrupted")
        raise
    except ProcessException as exit:
        raise _failure(directory, job.role, killed or (exit.error_index, getattr(exit, "exit_code", 1))) from None
    directory.finish("complete")
    return directory.path


def _spawned(rank: int, ranks: int, launcher: int, job: Job, directory: RunDirectory, meeting: str) -> None:
    """One spawned rank. Its exit code says what happened, as the command line's would."""
    if os.getppid() != launcher:  # it died before this process had asked to be told
        sys.exit(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        _work(job, directory, dist.FileStore(meeting, ranks), rank, ranks, local_rank=rank)
    except InputError:
        code = 2
    except RankFailed:
        code = 1
    except KeyboardInterrupt:
        code = 130
    else:
        return
    os._exit(code)  # files are closed; an orderly shutdown would wait for, or abort on, a process group without peers


def _killed(context: ProcessContext) -> tuple[int, int] | None:
    """Rank and exit code of the first rank that a signal has ended."""
    codes = ((rank, process.exitcode) for rank, process in enumerate(context.processes))
    return next(((rank, code) for rank, code in codes if code is not None and code < 0), None)


def _failure(directory: RunDirectory, role: str, failed: tuple[int, int]) -> Exception:
    """What to raise for the rank that failed first, and its exit code; the manifest holds its own words unless a signal
    killed it."""
    rank, code = failed
    if code < 0:
        directory.finish("failed", f"{role}-{rank} was killed by {signal.Signals(-code).name}")
    _tell(directory, "failed", error=f"{role}-{rank} ended with exit code {code}")
    error = read_manifest(directory.path)["error"]
    return (InputError if code == 2 else RankFailed)(f"{error} (run: {directory.path})")


def _stop(context: ProcessContext | None) -> None:
    """End ranks that are still there: most got the terminal's interrupt themselves, and are given time to close."""
    processes = context.processes if context else []
    for stop in (None, signal.SIGINT, signal.SIGKILL):
        for process in processes:
            if stop and process.is_alive():
                os.kill(process.pid, stop)
        for process in processes:
            process.join(_GRACE_SECONDS / len(processes))


def _join(job: Job, create: Callable[..., RunDirectory]) -> Path:
    """One of torchrun's ranks. Rank 0 of each machine tells how the run ended, if no failure has been told before."""
    rank, ranks, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how torchrun stops ranks: let them close their files
    # torchrun's store outlives the ranks that it restarts, and with it the addresses of those that died.
    store = dist.PrefixStore(f"attempt {torchrun_restarts()}", _torchrun_store())
    directory, created = common_directory(store, rank, local_rank, create)
    if rank == 0 and first_attempt() is None:
        _torchrun_store().set(_FIRST_ATTEMPT, str(directory.path.resolve()))
    try:
        if job.ceilings and created:
            with _telling(directory, "measuring this machine"):
                write_ceilings(directory)
        _work(job, directory, store, rank, ranks, local_rank)
    except KeyboardInterrupt:
        _tell(directory, "interrupted")
        raise
    if local_rank == 0:
        _tell(directory, "complete")
    return directory.path


def common_directory(
    store: dist.Store, rank: int, local_rank: int, create: Callable[..., RunDirectory]
) -> tuple[RunDirectory, bool]:
    """The run directory of this host, and whether this rank created it. Names travel through the store, as text.

    Rank 0 creates it; a host that cannot see rank 0's disk creates its own for the same run.
    """
    host = os.environ.get("GROUP_RANK", "0")
    if rank == 0:
        directory = create()
        run_id = read_manifest(directory.path)["run_id"]
        store.set("run", f"{run_id} {directory.path.resolve()}")
        return directory, True
    run_id, path = store.get("run").decode().split(" ", 1)
    if _is_run(Path(path), run_id):
        return RunDirectory(Path(path)), False
    if local_rank == 0:
        directory = create(run_id=run_id)
        store.set(f"run on host {host}", str(directory.path.resolve()))
        return directory, True
    return RunDirectory(Path(store.get(f"run on host {host}").decode())), False


def _is_run(path: Path, run_id: str) -> bool:
    try:
        return read_manifest(path)["run_id"] == run_id
    except InputError:
        return False


def _work(job: Job, directory: RunDirectory, store: dist.Store, rank: int, ranks: int, local_rank: int) -> None:
    """One rank's work; what it raises is in the manifest already."""
    process = f"{job.role}-{rank}"
    with _telling(directory, process):
        if job.config.device == "cuda":
            torch.cuda.set_device(local_rank)
        if ranks > 1:
            init_process_group(job.config.device, store, rank, ranks)
        results = _record(job, directory, process, rank, local_rank)
        if local_rank == 0:
            with directory.editing() as manifest:
                manifest["results"] = results
        if ranks > 1:
            dist.barrier()  # nobody says complete before all files are closed
            dist.destroy_process_group()


def init_process_group(device: str, store: dist.Store, rank: int, ranks: int) -> None:
    """Join the ranks that meet in `store`, with the backend that is right for `device`.

    torch.optim imports torch._dynamo when it is first used; imported with a process group up, that keeps the group, and
    gloo's threads, beyond `destroy_process_group` - and they abort the process if Python shuts down under them.
    """
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", store=store, rank=rank, world_size=ranks)


def _record(job: Job, directory: RunDirectory, process: str, rank: int, local_rank: int) -> dict:
    """The job's body between opening and closing this process's files."""
    config, timer = job.config, None
    torch.set_num_threads(config.threads_per_rank)
    keep_freed_memory()
    if config.device == "cuda":
        timer = CudaTimer(torch.device("cuda", local_rank))
    recording = directory.path if config.instrument else None
    recorder = directory.recorder(process, rank, timer) if recording else Recorder(None, process, rank)
    profiler = StepProfiler(recording, process, config.warmup_steps, config.profile_steps, config.profile_every)
    stacks = HostStacks(directory if job.py_spy else None, process)
    with recorder, stacks:
        return job.body(config, recorder, profiler, directory.path)


@contextmanager
def _telling(directory: RunDirectory, who: str) -> Iterator[None]:
    """Put what goes wrong inside into the manifest: wrong input as it is, the rest as a RankFailed of one line."""
    try:
        yield
    except InputError as error:
        _tell(directory, "failed", error=str(error))
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        line = _death(directory) or f"{who}: {type(error).__name__}: {reason}"
        _tell(directory, "failed", error=line, traceback=traceback.format_exc())
        raise RankFailed(line) from error


def _death(directory: RunDirectory) -> str | None:
    """Which process of this host has died without a word, if one has: the others then fail of losing it."""
    processes = read_manifest(directory.path)["processes"]
    for name, process in processes.items():
        if process.get("host") == socket.gethostname() and _is_dead(process["pid"]):
            return f"{name} died: its process is gone, and the others with it"
    return None


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _tell(directory: RunDirectory, status: str, **fields: str) -> None:
    """How the run ended, if nobody has said so: the first to fail tells why, the others fail of losing it."""
    with directory.editing() as manifest:
        if manifest["status"] == "running":
            manifest |= {"status": status, "end_ns": time.time_ns(), **fields}
