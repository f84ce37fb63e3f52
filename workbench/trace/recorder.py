"""The recorder: `with recorder.span("lookup", kind="compute")` and nothing else to learn.

A span costs about two microseconds: closing it appends one dict to a queue; a thread encodes and appends them
to `<process>.spans.jsonl` four times a second, so a killed process loses at most the last quarter. Switched off, a span
is one shared no-op object. Keep spans above ~0.5 ms of work, and never open one for each lookup: count instead.

The recorder knows no framework. GPU work is asynchronous, so a span around it would time the launch: `device` (given
by `workloads/profiling.py`) marks both ends on the device and tells the duration once it is known.
"""

import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pyarrow as pa

from workbench.trace.schema import KINDS, SCHEMA_VERSION, SOURCES, SPAN_FIELDS, Header, LaneLine

# Often, since while many spans are encoded the process's other threads wait; but each time costs something by itself,
# for a batch of metrics more.
SPANS_SECONDS, METRICS_SECONDS = 0.25, 0.5
HEARTBEAT_SECONDS = 5.0
_LINES_A_WRITE = 32
_MARKS = "marks"  # where a span keeps its device marks until they are resolved

METRICS_SCHEMA = pa.schema(
    [("time_ns", pa.int64()), ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
)
ACCESSES_SCHEMA = pa.schema(
    [("step", pa.int32()), ("table", pa.int32()), ("lengths", pa.list_(pa.int32())), ("rows", pa.list_(pa.int64()))]
)


class DeviceTimer(Protocol):
    """What a recorder needs of a device whose work is asynchronous."""

    name: str

    def mark(self) -> object:
        """A point in the device's order of work, recorded now."""

    def elapsed_ns(self, start: object, end: object) -> int:
        """Time between two marks; waits until the device has reached `end`."""


class _NoSpan:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_) -> bool:
        return False


_NO_SPAN = _NoSpan()


class _OpenSpan:
    __slots__ = ("fields", "mark", "name", "recorder", "start_ns")

    def __init__(self, recorder: "Recorder", name: str, fields: dict) -> None:
        self.recorder, self.name, self.fields = recorder, name, fields

    def __enter__(self) -> "_OpenSpan":
        device = self.recorder.device
        self.mark = device.mark() if device else None
        self.start_ns = time.monotonic_ns()
        return self

    def __exit__(self, error_type: type | None, *_) -> bool:
        end_ns = time.monotonic_ns()
        recorder = self.recorder
        if error_type is not None:
            self.fields["tags"] = f"{self.fields.get('tags', '')} error".strip()
        if recorder.device:
            self.fields[_MARKS] = (self.mark, recorder.device.mark())
        lane = threading.current_thread().name
        if lane == "MainThread":
            lane = "main"
        recorder._closed.append(_record(self.name, self.start_ns, end_ns, recorder.step, lane, self.fields))
        return False


class Recorder:
    """Writes one process's part of a run directory: spans, metrics and embedding accesses.

    With `directory=None` it is off and every call is a no-op. Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        directory: Path | None,
        process: str = "main",
        rank: int = -1,
        device: DeviceTimer | None = None,
        heartbeat: Callable[[], None] | None = None,
    ) -> None:
        self.process, self.rank, self.device, self._heartbeat = process, rank, device, heartbeat
        self.enabled = directory is not None
        self.step = -1
        # Deques: several threads append while the flushing thread takes from the other end, without a lock.
        self._closed: deque[dict | LaneLine] = deque()
        self._metrics: deque[tuple] = deque()
        if not self.enabled:
            return
        self._directory = Path(directory)
        self._encoder = msgspec.json.Encoder()
        self._file = (self._directory / f"{process}.spans.jsonl").open("ab", buffering=0)
        self._file.write(self._encoder.encode(self._header()) + b"\n")
        self._streams: dict[str, pa.RecordBatchStreamWriter] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flush_loop, name="recorder", daemon=True)
        self._thread.start()

    def span(self, name: str, kind: str = "span", **fields):
        """A context manager that records `name` with its duration; `fields` are those of `schema.Span`.

        A wrong field or word is a ValueError when the span opens, not when the file is written.
        """
        if not self.enabled:
            return _NO_SPAN
        fields["kind"] = kind
        _check(name, fields)
        return _OpenSpan(self, name, fields)

    def add_line(self, line: LaneLine) -> None:
        """Spans of a lane that the caller made, and vouches for: for work that no `with` block on one thread encloses,
        as the concurrent requests of an asyncio server. It may be added again after a change: of spans with the same
        ids readers take the last."""
        if self.enabled:
            self._closed.append(line)

    def metric(self, name: str, value: float) -> None:
        """One point of a time series (loss, samples_per_s, resident_bytes...), stamped with the current step."""
        if self.enabled:
            self._metrics.append((time.time_ns(), self.step, name, float(value)))

    def accesses(self, table: int, lengths: Sequence[int], rows: Sequence[int]) -> None:
        """Rows that one table's bags looked up in this step, in order: `lengths` [bags], `rows` [sum of lengths]."""
        if not self.enabled:
            return
        columns = [
            pa.array([self.step], pa.int32()),
            pa.array([table], pa.int32()),
            _one_list(np.asarray(lengths, dtype=np.int32)),
            _one_list(np.asarray(rows, dtype=np.int64)),
        ]
        with self._lock:
            self._stream("accesses", ACCESSES_SCHEMA).write_batch(pa.record_batch(columns, schema=ACCESSES_SCHEMA))

    def flush(self) -> None:
        """Hand everything recorded so far to the operating system."""
        if self.enabled:
            self._write_spans()
            self._write_metrics()

    def _write_spans(self) -> None:
        with self._lock:
            # A few at a time: each write lets other threads run, which would wait for a long one's encoding.
            while spans := list(itertools.islice(_drain(self._closed), _LINES_A_WRITE)):
                if self.device:
                    for span in spans:
                        if isinstance(span, dict):
                            self._take_device_time(span)
                self._file.write(self._encoder.encode_lines(spans))

    def _write_metrics(self) -> None:
        with self._lock:
            if metrics := list(_drain(self._metrics)):
                batch = pa.record_batch([list(column) for column in zip(*metrics, strict=True)], schema=METRICS_SCHEMA)
                self._stream("metrics", METRICS_SCHEMA).write_batch(batch)

    def close(self) -> None:
        """Flush and close the files; further spans are not recorded."""
        if not self.enabled:
            return
        self._stop.set()
        self._thread.join()
        self.flush()
        self.enabled = False
        for stream in self._streams.values():
            stream.close()
        self._file.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _header(self) -> Header:
        return Header(
            schema=SCHEMA_VERSION, process=self.process, rank=self.rank, pid=os.getpid(), host=socket.gethostname(),
            wall_ns=time.time_ns(), monotonic_ns=time.monotonic_ns(),
        )  # fmt: skip

    def _take_device_time(self, span: dict) -> None:
        """The host may run ahead of the device: what the span's work took is the device's time, if that is longer."""
        if marks := span.pop(_MARKS, None):
            span["duration_ns"] = max(span["duration_ns"], self.device.elapsed_ns(*marks))
            span.setdefault("device", self.device.name)

    def _stream(self, name: str, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if name not in self._streams:
            sink = pa.OSFile(str(self._directory / f"{self.process}.{name}.arrow"), "wb")
            self._streams[name] = pa.ipc.new_stream(sink, schema)
        return self._streams[name]

    def _flush_loop(self) -> None:
        written = beaten = time.monotonic()
        while not self._stop.wait(SPANS_SECONDS):
            self._write_spans()
            now = time.monotonic()
            if now - written > METRICS_SECONDS:
                self._write_metrics()
                written = now
            if self._heartbeat and now - beaten > HEARTBEAT_SECONDS:
                self._heartbeat()
                beaten = now


def _record(name: str, start_ns: int, end_ns: int, step: int, lane: str, fields: dict) -> dict:
    """A line of the file, with the keys of `schema.Span`: a plain dict, since making the struct and checking once more
    was a third of a span's cost."""
    return {
        "record": "span", "name": name, "start_ns": start_ns, "duration_ns": end_ns - start_ns, "step": step,
        "lane": lane, **fields,
    }  # fmt: skip


def _check(name: str, fields: dict) -> None:
    """ValueError for a field or word that the schema does not have."""
    known = fields.keys() <= SPAN_FIELDS and fields["kind"] in KINDS
    if not known or fields.get("source", "measured") not in SOURCES:
        raise ValueError(f"span {name!r}: kind is one of {KINDS}, fields are {sorted(SPAN_FIELDS)}")


def _drain(queue: deque) -> Iterator[tuple]:
    """Take what is there, oldest first; what other threads append meanwhile may be taken too."""
    while queue:
        yield queue.popleft()


def _one_list(values: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), pa.array(values))
