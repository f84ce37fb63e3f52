"""Small run directories, written through the recorder in a few milliseconds: all that a page can show, torch-free."""

import gzip
import json
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from made_lanes import one_span

from workbench.machine.ceilings import Ceilings
from workbench.trace.recorder import Recorder
from workbench.trace.rundir import MACHINE, RunDirectory

STEPS, PROFILED_FROM = 6, 3
# Names come from traces: this one must stay text wherever it is shown.
HOSTILE = "<b>mm<img src=x onerror=alert(1)>"
SERVING = f"serving {HOSTILE}"
_TABLE = {"rows": 500, "dim": 16, "row_bytes": 64, "state_bytes_per_row": 4, "pooling_factor": 4.0}
# Spans of one request: (process, name, kind, place of its parent in this list or -1, start and end in us).
_REQUEST = (
    ("client", "request", "span", -1, 0, 1000),
    ("client", "rpc", "communication", 0, 100, 950),
    ("main", "handler", "span", 1, 150, 900),
    ("main", "bottom", "compute", 2, 200, 400),
    ("main", "rpc_operator", "span", 2, 400, 800),
    ("main", "rpc", "communication", 4, 420, 780),
    ("shard-0", "handler", "span", 5, 500, 700),
    ("shard-0", "sparse_lookup", "compute", 6, 520, 680),
)
_TABLES = [{"name": f"table {rank}", "rank": rank, **_TABLE} for rank in range(2)]


def make_run(traces: Path, name: str, end: str | None = "complete", operator: str = "aten::mm") -> Path:
    """`traces/<name>`: two ranks, STEPS steps, the last ones profiled, with ceilings. `end`: its status; None while it
    runs. `operator` is what one of its operators is called."""
    directory = RunDirectory.create(
        traces, "training", "tiny", preset="tiny", seed=7, ranks=2, threads_per_rank=1, samples_per_step=256,
        tables=_TABLES, config={"steps": STEPS, "seed": 7}, code_revision="0123abc", stack_samples_per_s=100,
        host={"cpu_model": "Known Processor", "cores": 2, "memory_bytes": 8 << 30, "packages": {"torch": "2.13.0"}},
    )  # fmt: skip
    (directory.path / MACHINE).write_bytes(_ceilings().dumps())
    with ExitStack() as stack:
        recorders = [stack.enter_context(directory.recorder(f"trainer-{rank}", rank)) for rank in range(2)]
        windows = _train(recorders, operator)
    for rank, events in enumerate(windows):
        _write_profile(directory.path / f"trainer-{rank}.pt.trace.json.gz", rank, events)
        stacks = f"thread (1): MainThread;main (train.py:3);{operator} (train.py:9) 6\nthread (2): loader;read 4\n"
        (directory.path / f"trainer-{rank}.stacks.txt").write_text(stacks)
    if end:
        directory.finish(end)
    return directory.path.rename(traces / name)


def make_serving_run(traces: Path, name: str) -> Path:
    """`traces/<name>`: requests to a main shard, which launches a kernel HOSTILE on a GPU, and a sparse one."""
    directory = RunDirectory.create(traces, "inference", "tiny", preset="tiny", config={"strategy": "load_balanced"})
    with ExitStack() as stack:
        processes = ("client", "main", "shard-0")
        recorders = {process: stack.enter_context(directory.recorder(process)) for process in processes}
        start_ns = time.monotonic_ns()
        for request in range(STEPS):
            _add_request(recorders, request, start_ns + request * 2_000_000)
    _write_profile(directory.path / "main.pt.trace.json.gz", 0, _device_events(time.time_ns() / 1e3))
    directory.finish("complete")
    return directory.path.rename(traces / name)


def _add_request(recorders: dict[str, Recorder], request: int, at_ns: int) -> None:
    for number, (process, name, kind, parent, start_us, end_us) in enumerate(_REQUEST):
        own, around = ((request << 32) + place + 1 if place >= 0 else 0 for place in (number, parent))
        recorders[process].add_line(
            one_span(
                name, kind, at_ns + start_us * 1000, at_ns + end_us * 1000, lane="request-0", step=request,
                cpu_ns=50_000, trace=f"{request + 1:032x}", number=own, around=around,
            )
        )  # fmt: skip


def _device_events(start_us: float) -> list[dict]:
    """An operator that allocates a block and launches a kernel."""
    block = {"Addr": 64, "Bytes": 4096, "Device Type": 1, "Device Id": 0}
    allocated = {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": start_us + 5}
    kernel = {"device": 0, "stream": 7, "correlation": 1}
    return [
        _event("cpu_op", "aten::mm", start_us, 100, [[256, 64], [64, 64]]),
        {**allocated, "args": {**block, "Total Allocated": 4096, "Total Reserved": 8192}},
        {**_event("cuda_runtime", "cudaLaunchKernel", start_us + 10, 8), "args": {"correlation": 1}},
        {**_event("kernel", HOSTILE, start_us + 30, 60, thread=7), "pid": 0, "args": kernel},
    ]


def _train(recorders: list[Recorder], operator: str) -> list[list[dict]]:
    """The spans, metrics and accesses of both ranks; returns the profiler's events of each."""
    random = np.random.default_rng(0)
    windows: list[list[dict]] = [[], []]
    for step in range(STEPS):
        with ExitStack() as stack:
            for rank, recorder in enumerate(recorders):
                recorder.step = step
                stack.enter_context(recorder.span("step", tags="warmup" if step == 0 else ""))
                recorder.accesses(rank, [4] * 64, random.zipf(1.3, 256) % 500)
            start_ns = time.time_ns()
            time.sleep(0.003)
        for rank, recorder in enumerate(recorders):
            recorder.metric("loss", 0.7 - 0.01 * step)
            recorder.metric("normalized_entropy", 0.95)
            if step >= PROFILED_FROM:
                windows[rank] += _profiled_step(step, start_ns / 1e3, rank, operator)
    return windows


def _profiled_step(step: int, start_us: float, rank: int, operator: str) -> list[dict]:
    """One step of the profiler's file: 2 ms of operators on the main thread, a collective on gloo's."""
    late_us = 100.0 * rank
    return [
        _event("user_annotation", f"ProfilerStep#{step}", start_us, 2500),
        _event("cpu_op", operator, start_us + 100, 400, [[256, 64], [64, 64]]),
        _event("cpu_op", "aten::mm", start_us + 500, 700, [[256, 256], [256, 64]]),
        _event("cpu_op", "aten::add", start_us + 1200, 200, [[256, 64], [256, 64]]),
        _event("cpu_op", "c10d::allreduce_", start_us + 1400 + late_us, 50, [[[4096]]], types=["TensorList"]),
        _event("user_annotation", "gloo:all_reduce", start_us + 1420 + late_us, 600 - late_us, [[4096]], thread=2),
    ]


def _event(category: str, name: str, start_us: float, us: float, dims: list | None = None, **other: object) -> dict:
    """A complete event; `other` are `types` of the operands (float) and `thread` (1)."""
    place = {"ph": "X", "cat": category, "pid": 1, "tid": other.get("thread", 1)}
    types = other.get("types", ["float"] * len(dims or ()))
    arguments = {"Input Dims": dims, "Input type": types, "Concrete Inputs": [""]} if dims else {}
    return {**place, "name": name, "ts": start_us, "dur": us, "args": arguments}


def _write_profile(path: Path, rank: int, events: list[dict]) -> None:
    about = {"schemaVersion": 1, "distributedInfo": {"backend": "gloo", "rank": rank, "world_size": 2}}
    with gzip.open(path, "wt") as file:
        json.dump({**about, "baseTimeNanoseconds": 0, "traceEvents": events}, file)


def _ceilings() -> Ceilings:
    """A machine with round numbers."""
    dram, l2 = {"tier": "dram", "working_set_bytes": 1 << 27}, {"tier": "l2", "working_set_bytes": 1 << 19}
    rows = [
        {"kind": "compute", "name": "matmul", "precision": "fp32", "cores": 1, "unit": "FLOP/s", "value": 1e10},
        {"kind": "bandwidth", "name": "triad", "tier": "l2", "active": 2, "unit": "B/s", "value": 5e10},
        {"kind": "bandwidth", "name": "triad", "tier": "dram", "active": 2, "unit": "B/s", "value": 1e10},
        {"kind": "gather", **l2, "row_bytes": 64, "active": 2, "unit": "B/s", "value": 2e10},
        {"kind": "gather", **dram, "row_bytes": 64, "active": 2, "unit": "B/s", "value": 4e9},
        {"kind": "collective", "name": "all_reduce", "collective": "all_reduce", "group_size": 2, "backend": "gloo",
         "message_bytes": 16384, "unit": "ns", "value": 2e5, "median": 2e5},
    ]  # fmt: skip
    about = {"device": "cpu", "source": "measured", "method": "by hand"}
    rows = [{**about, "min": row["value"], "max": row["value"], **row} for row in rows]
    levels = [{"tier": "l2", "capacity_bytes": 1 << 20}, {"tier": "dram", "capacity_bytes": 0}]
    return Ceilings.from_rows(rows, {"levels": {"cpu": levels}})
