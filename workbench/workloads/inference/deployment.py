"""A whole deployment on this machine: every server a process of its own, on loopback, for as long as a `with` lasts.

Processes are forked from a server that has imported torch once: they start in a fraction of a second and share its
libraries. Each ends when this process does, however that ends.
"""

import multiprocessing
import os
import signal
import socket
import time
import traceback
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from workbench.errors import InputError, WorkFailed
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import RunDirectory, read_manifest
from workbench.workloads.inference.config import ServerConfig
from workbench.workloads.inference.plan import Plan, write_plan
from workbench.workloads.inference.serve import process_name, run_server

# The last is not for servers: multiprocessing runs the main program's imports in each of them.
_PRELOADED = ["torch", "fbgemm_gpu", "grpc.aio", "workbench.workloads.inference.serve", "workbench.cli"]
_STOP_SECONDS = 10.0  # beyond the time that servers are given to drain


class Deployment:
    """The servers of `plan`, given addresses on loopback, serving the exported `model`; in `folder` lies the plan.

    Processes record into `directory` (None: not at all). Use as a context manager: inside, all are running, and
    `wait` says when requests are answered.
    """

    def __init__(
        self, model: Path, plan: Plan, config: ServerConfig, replicas: int, folder: Path, directory: RunDirectory | None
    ) -> None:
        self.model, self.config, self.directory = model, config, directory
        self.plan_path = folder / "plan.json"
        self._ports = _Ports()
        self.plan = plan.at(
            self._ports.address(),
            {shard.name: tuple(self._ports.address() for _ in range(replicas)) for shard in plan.shards},
        )
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._processes: dict[str, BaseProcess] = {}

    def __enter__(self) -> "Deployment":
        write_plan(self.plan, self.plan_path)
        # Our end of a pipe that nobody writes to: it closes when this process ends, however that happens.
        self._alive, self._ours = self._context.Pipe(duplex=False)
        for shard in self.plan.shards:
            for replica in range(len(shard.addresses)):
                self.start("shard", shard.name, replica)
        self.start("main")
        return self

    def __exit__(self, *_) -> None:
        for process in self._processes.values():
            process.terminate()
        until = time.monotonic() + self.config.drain_s + _STOP_SECONDS
        for process in self._processes.values():
            process.join(max(until - time.monotonic(), 0))
            if process.is_alive():
                process.kill()
                process.join()
        self._ours.close()
        self._alive.close()
        self._ports.close()

    def start(self, role: str, shard: str = "", replica: int = 0) -> None:
        """Start one server, or start it again; it listens where the plan says."""
        name = process_name(role, shard, replica)
        arguments = (role, self.model, self.plan_path, self.config, shard, replica, self.directory, self._alive)
        self._processes[name] = self._context.Process(target=_server, args=arguments, name=name, daemon=True)
        self._processes[name].start()

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        os.kill(self._processes[name].pid, number)

    def reload(self, plan: Plan) -> None:
        """Change to `plan`, whose shards are those of the present one: new requests follow it, none is dropped."""
        addresses = {shard.name: shard.addresses for shard in self.plan.shards}
        self.plan = plan.at(self.plan.main, addresses)
        write_plan(self.plan, self.plan_path)
        for name in self._processes:
            self.send(name, signal.SIGHUP)

    def check(self) -> None:
        """WorkFailed, or InputError in the server's own words, when a process has ended by itself."""
        for name, process in self._processes.items():
            if process.exitcode is None:
                continue
            error = read_manifest(self.directory.path).get("error") if self.directory else None
            error = error or f"{name} ended with exit code {process.exitcode}"
            raise (InputError if process.exitcode == 2 else WorkFailed)(error)


class Elsewhere(AbstractContextManager):
    """Servers that somebody else started, where `plan` says, and watches: as a `Deployment` to whoever asks them."""

    def __init__(self, plan: Plan) -> None:
        plan.check_addresses()
        self.plan = plan

    def __exit__(self, *_) -> None:
        pass

    def check(self) -> None:
        pass


def _server(
    role: str,
    model: Path,
    plan: Path,
    config: ServerConfig,
    shard: str,
    replica: int,
    directory: RunDirectory | None,
    alive: Connection,
) -> None:
    """One server's process. Its exit code says what happened, as the command line's would."""
    name = process_name(role, shard, replica)
    try:
        with directory.recorder(name) if directory else Recorder(None) as recorder:
            run_server(role, model, plan, config, shard, replica, recorder, alive.fileno())
    except InputError as error:
        _tell(directory, error=str(error))
        raise SystemExit(2) from None
    except Exception as error:
        _tell(directory, error=f"{name}: {type(error).__name__}: {error}", traceback=traceback.format_exc())
        raise


def _tell(directory: RunDirectory | None, **fields: str) -> None:
    """Why a server failed, for whoever started it; the first to fail tells."""
    if directory is not None:
        with directory.editing() as manifest:
            manifest |= {} if "error" in manifest else fields


class _Ports:
    """Free ports on loopback, kept free of others: servers may bind them beside us (SO_REUSEPORT, as gRPC does), and
    we do not listen."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def address(self) -> str:
        """One more."""
        kept = socket.socket()
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        self._sockets.append(kept)
        return f"127.0.0.1:{kept.getsockname()[1]}"

    def close(self) -> None:
        """Give them back."""
        for kept in self._sockets:
            kept.close()
