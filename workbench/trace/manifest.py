"""What others read of run.json, with its types; a workload may write more beside it."""

from typing import Annotated, Any, Literal

import msgspec

from workbench.trace.schema import SCHEMA_VERSION

_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Bytes = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**61)]


class Process(msgspec.Struct):
    """Who took part."""

    pid: int = -1
    rank: _Int32 = -1
    host: str | None = None
    heartbeat_ns: _Nanoseconds = 0


class Table(msgspec.Struct):
    """An embedding table, in the order in which accesses number them."""

    name: str
    rows: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    dim: _Count
    row_bytes: _Bytes
    state_bytes_per_row: _Bytes = 0.0
    pooling_factor: Annotated[float, msgspec.Meta(ge=0, le=1e15)] = 0.0
    rank: _Int32 = -1
    scheme: str = ""


class Manifest(msgspec.Struct):
    """The fields."""

    schema: int = SCHEMA_VERSION
    workload: str | None = None
    run_id: str | None = None
    status: Literal["running", "complete", "failed", "interrupted", "killed"] = "running"
    start_ns: _Nanoseconds = 0
    end_ns: _Nanoseconds | None = None
    processes: dict[str, Process] = {}
    tables: list[Table] = []
    ranks: _Count | None = None
    threads_per_rank: _Count | None = None
    samples_per_step: Annotated[float, msgspec.Meta(ge=0, le=1e15)] | None = None
    model_flops_per_sample: Annotated[float, msgspec.Meta(ge=0, le=1e24)] | None = None
    stack_samples_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    config: dict[str, Any] = {}


def complaint(manifest: object) -> str:
    """What is wrong with the types of a manifest, or nothing. What it lacks of what all readers use is filled in."""
    try:
        msgspec.convert(manifest, Manifest)
    except msgspec.ValidationError as error:
        return str(error)
    manifest.setdefault("schema", SCHEMA_VERSION)
    manifest.setdefault("start_ns", 0)
    for process in manifest.setdefault("processes", {}).values():
        process.setdefault("pid", -1)
        process.setdefault("heartbeat_ns", 0)
    return ""
