"""The run directory: where workloads and analyses meet. `run.json` is replaced whole, so it is always readable.

Several processes of one host update it under a file lock; hosts that share no disk each write their own directory,
and `load` merges the parts.
"""

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.trace.manifest import complaint
from workbench.trace.recorder import DeviceTimer, Recorder
from workbench.trace.schema import SCHEMA_VERSION

MANIFEST = "run.json"
MACHINE = "machine.json"
# A process on another host counts as dead when it has been silent for this long (it beats every 5 s).
SILENCE_NS = 60 * 10**9


class RunDirectory:
    """Writer's side of `traces/<run>/`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, traces: Path, workload: str, label: str, **fields: Any) -> "RunDirectory":
        """A new directory `<traces>/<workload>-<label>-<time>-<suffix>` whose manifest says status running."""
        path = new_directory(traces, f"{workload}-{label}")
        directory = cls(path)
        manifest = {"schema": SCHEMA_VERSION, "workload": workload, "label": label, "status": "running"}
        manifest |= {"start_ns": time.time_ns(), "end_ns": None, "processes": {}, **fields}
        _write_json(path / MANIFEST, manifest)
        return directory

    def recorder(self, process: str, rank: int = -1, device: DeviceTimer | None = None) -> Recorder:
        """A recorder for this process, entered into the manifest with its pid, clock anchors and heartbeat."""
        entry = {"pid": os.getpid(), "rank": rank, "host": socket.gethostname(), "heartbeat_ns": time.time_ns()}
        entry |= {"wall_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}
        with self.editing() as manifest:
            manifest["processes"][process] = entry
        return Recorder(self.path, process, rank, device, heartbeat=self._heartbeat(process))

    def finish(self, status: str, error: str | None = None) -> None:
        """Close the run: complete, failed or interrupted."""
        with self.editing() as manifest:
            manifest |= {"status": status, "end_ns": time.time_ns()}
            if error:
                manifest["error"] = error

    @contextmanager
    def editing(self) -> Iterator[dict]:
        """The manifest for changing in place; written back atomically, one process at a time."""
        with open(self.path / f".{MANIFEST}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            manifest = json.loads((self.path / MANIFEST).read_text())
            yield manifest
            _write_json(self.path / MANIFEST, manifest)

    def _heartbeat(self, process: str) -> Callable[[], None]:
        def beat() -> None:
            with self.editing() as manifest:
                manifest["processes"][process]["heartbeat_ns"] = time.time_ns()

        return beat


def new_directory(traces: Path, label: str) -> Path:
    """A new directory `<traces>/<label>-<time>-<suffix>`; InputError where it cannot be made."""
    path = Path(traces) / f"{label}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write runs into {traces}: {error.strerror}; choose another with --traces") from None
    return path


def read_manifest(path: Path) -> dict:
    """The manifest of the run directory `path`, with status `killed` where its processes died without saying so."""
    try:
        manifest = json.loads((Path(path) / MANIFEST).read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is not a run directory: it has no {MANIFEST}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{Path(path) / MANIFEST} is not JSON: {error}") from None
    if wrong := complaint(manifest):
        raise InputError(
            f"{Path(path) / MANIFEST} is not a run's manifest ({wrong}): expected an object with 'processes'"
        )
    if manifest["schema"] > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer workbench (schema {manifest['schema']}, this one reads {SCHEMA_VERSION})"
        )
    if manifest.get("status") == "running" and _abandoned(manifest):
        manifest["status"] = "killed"
    return manifest


def _abandoned(manifest: dict) -> bool:
    processes = manifest["processes"].values()
    if not processes:  # only just created: its launcher is still starting them
        return time.time_ns() - manifest["start_ns"] > SILENCE_NS
    return not any(map(_alive, processes))


def _alive(process: dict) -> bool:
    if process.get("host") != socket.gethostname():
        return time.time_ns() - process["heartbeat_ns"] < SILENCE_NS
    if process["pid"] <= 0:  # 0 and below name groups of processes
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_json(path: Path, value: dict) -> None:
    """Write and rename: readers see the old file or the new one, never half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(2)}")
    scratch.write_text(json.dumps(value, indent=1, default=str) + "\n")
    os.replace(scratch, path)
