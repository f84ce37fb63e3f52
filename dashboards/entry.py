"""A run directory as the folder lists it: its manifest, or the line that says what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from workbench.errors import InputError
from workbench.trace.rundir import MANIFEST, read_manifest

_UnixTime = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Process(msgspec.Struct):
    heartbeat_ns: _UnixTime = 0


class _Fields(msgspec.Struct):
    """What the pages read of a manifest; it may hold more."""

    status: str = ""
    start_ns: _UnixTime = 0
    end_ns: _UnixTime | None = None
    processes: dict[str, _Process] = {}
    host: dict[str, Any] = {}
    results: dict[str, Any] | None = None


@dataclass(frozen=True)
class RunEntry:
    """`manifest` is empty where `error` is not."""

    path: Path
    manifest: dict = field(default_factory=dict)
    error: str = ""

    @classmethod
    def read(cls, path: Path) -> "RunEntry":
        """The entry of the run directory `path`, readable or not."""
        try:
            manifest = read_manifest(path)
            msgspec.convert(manifest, _Fields)
            return cls(path, manifest)
        except InputError as error:
            return cls(path, error=str(error))
        except Exception as error:  # anything may lie in the folder, and one damaged run must not hide the others
            return cls(path, error=f"{path / MANIFEST} is not a run's manifest: {error}")

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def status(self) -> str:
        """complete, running, failed, interrupted, killed; `unreadable` where the manifest is broken."""
        return "unreadable" if self.error else self.manifest.get("status", "running")

    @property
    def running(self) -> bool:
        """Whether it may still change."""
        return self.status == "running"

    @property
    def start_ns(self) -> int:
        """Unix time of its start; 0 where it is not known."""
        return self.manifest.get("start_ns") or 0

    @property
    def duration_ns(self) -> int | None:
        """From start to end, or to its last sign of life; None where it is not known."""
        processes = self.manifest.get("processes", {}).values()
        last_ns = max((process.get("heartbeat_ns", 0) for process in processes), default=0)
        end_ns = self.manifest.get("end_ns") or last_ns
        return end_ns - self.start_ns if self.start_ns and end_ns else None

    @property
    def stamp(self) -> tuple[int, int, str]:
        """Changes when anything in the directory does: newest modification, total size, status."""
        files = [path.stat() for path in self.path.iterdir() if path.is_file() and path.name[0] != "."]
        newest_ns = max((file.st_mtime_ns for file in files), default=0)
        return newest_ns, sum(file.st_size for file in files), self.status
