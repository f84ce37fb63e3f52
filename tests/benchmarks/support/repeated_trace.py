"""A large profiler trace, made of a small one: its events again and again, each time later, in later steps, with their
own correlation and flow ids, so that every tool finds as many launches, flows and steps as a long recording has.
"""

import gzip
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from isal import igzip

# A TorchRec DLRM on a V100 with six steps, shapes, kernels and collectives.
REAL_TRACE = "traces/torchrec_v100_rank1of2.json.gz"
_STEP = re.compile(r"(.*ProfilerStep#)(\d+)")
_IDS = ("correlation", "External id")


def source_trace() -> tuple[str, dict]:
    """(what it is, trace): a real GPU trace where WORKBENCH_DATA has one, else a training step profiled here."""
    real = Path(os.environ.get("WORKBENCH_DATA", "")) / REAL_TRACE
    if real.is_file():
        with gzip.open(real) as file:
            return real.name, json.load(file)
    return "a small training step on this CPU", profile_small_training()


def repeated_trace(path: Path, *, json_bytes: float = float("inf"), events: float = float("inf")) -> dict:
    """Write a gzip trace that ends with the copy in which its JSON reaches `json_bytes`, or its complete events reach
    `events`; {source, json_bytes, gzip_bytes, events}."""
    name, trace = source_trace()
    copies = _Copies(trace["traceEvents"])
    head = {key: value for key, value in trace.items() if key != "traceEvents"}
    head["distributedInfo"] = {"rank": 0, "world_size": 1}
    written_bytes = written_events = 0
    with igzip.open(path, "wb", compresslevel=1) as file:
        written_bytes += file.write(json.dumps(head)[:-1].encode() + b', "traceEvents": [\n')
        while written_bytes < json_bytes and written_events < events:
            file.write(b",\n" if written_events else b"")
            written_bytes += file.write(b",\n".join(copies.next()))
            written_events += copies.complete
        written_bytes += file.write(b"\n]}\n")
    return {"source": name, "json_bytes": written_bytes, "gzip_bytes": path.stat().st_size, "events": written_events}


class _Copies:
    """The events of a trace, which `next` writes as JSON lines and moves on by one period."""

    def __init__(self, events: list[dict]) -> None:
        timed = [event for event in events if event.get("ph") == "X" and event.get("cat") != "Trace"]
        self.complete = len(timed)
        self._names = [event for event in events if event.get("ph") == "M"]
        self._moved = timed + [event for event in events if event.get("ph") in ("s", "f")]
        ends = max(event["ts"] + event["dur"] for event in timed)
        self._period_us = ends - min(event["ts"] for event in timed) + 10
        self._with_ids = [
            (holder, key)
            for event in self._moved
            for holder, key in ((event, "id"), *((event.get("args", {}), key) for key in _IDS))
            if isinstance(holder.get(key), int)
        ]
        self._ids = max((holder[key] for holder, key in self._with_ids), default=0) + 1
        self._with_steps = [event for event in timed if _STEP.fullmatch(event["name"])]
        self._steps = len({event["name"] for event in self._with_steps})

    def next(self) -> Iterator[bytes]:
        """One copy, an event at a time: the writer's own order within a copy, threads' names only in the first."""
        yield from map(_line, self._names)
        self._names = []
        yield from map(_line, self._moved)
        for event in self._moved:
            event["ts"] = round(event["ts"] + self._period_us, 3)
        for holder, key in self._with_ids:
            holder[key] += self._ids
        for event in self._with_steps:
            text, step = _STEP.fullmatch(event["name"]).groups()
            event["name"] = f"{text}{int(step) + self._steps}"


def _line(event: dict) -> bytes:
    return msgspec.json.format(msgspec.json.encode(event), indent=0)


def profile_small_training() -> dict:
    """Two profiled steps of a small recommendation model, as the profiler writes them."""
    import torch
    from torch.profiler import ProfilerActivity, profile, schedule

    torch.manual_seed(0)
    tables = torch.nn.ModuleList(torch.nn.EmbeddingBag(1000, 16, mode="sum") for _ in range(8))
    mlp = torch.nn.Sequential(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.SGD([*tables.parameters(), *mlp.parameters()], lr=0.1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.json.gz"
        with profile(
            activities=[ProfilerActivity.CPU],
            record_shapes=True,
            schedule=schedule(wait=1, warmup=1, active=2, repeat=1),
            on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
        ) as profiler:
            for _ in range(4):
                indices, offsets = torch.randint(0, 1000, (256,)), torch.arange(0, 256, 8)
                loss = mlp(torch.cat([table(indices, offsets) for table in tables], dim=1)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                profiler.step()
        with gzip.open(path) as file:
            return json.load(file)
