"""Cross-layer tracing of requests: spans with trace ids, over tasks, threads, processes and machines.

A request's work is a few strands that run at the same time: its handler, its batches, their RPCs. Each strand is a
`Lane`; its spans nest, and each names the span that caused it, so a trace is one tree although strands overlap. What
crosses a process boundary is W3C Trace Context: `traceparent`, and the request's number in `tracestate`.

Wall time comes from one monotonic clock. CPU time is that of whichever thread runs the lane: the event loop counts
while it runs the lane's task and not while the task waits; what a worker thread did for the lane is added when the task
goes on. So a span's `cpu_ns` includes its children on the same lane, and not those on lanes of their own.
"""

import asyncio
import heapq
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple

from workbench.trace.recorder import Recorder

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_VENDOR = "recsys-workbench="
_STEP = re.compile(_VENDOR + r"(\d{1,15})")
# Servers are forked from one process: each must draw span ids of its own.
_span_ids = random.Random()
os.register_at_fork(after_in_child=_span_ids.seed)
_OFF = Recorder(None)


class TraceContext(NamedTuple):
    """Where a span hangs: its trace, the span that causes it ("" at the root), and the number of the request; nobody
    records a request that is not sampled."""

    trace: str
    parent: str
    step: int
    sampled: bool = True

    @classmethod
    def new(cls, step: int = -1, sampled: bool = True) -> "TraceContext":
        """The root of a new trace. One that is not sampled has no span, but its calls must name one."""
        return cls(secrets.token_hex(16), "" if sampled else secrets.token_hex(8), step, sampled)

    @classmethod
    def received(cls, metadata: Iterable[tuple[str, str]]) -> "TraceContext":
        """The caller's, from a call's metadata; a new trace where there is none or it is malformed."""
        found = dict(metadata)
        parent = _TRACEPARENT.fullmatch(str(found.get("traceparent", "")))
        step = _STEP.search(str(found.get("tracestate", "")))
        if parent is None:
            return cls.new()
        return cls(parent[1], parent[2], int(step[1]) if step else -1, bool(int(parent[3], 16) & 1))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For a call that this context's parent makes."""
        step = (("tracestate", f"{_VENDOR}{self.step}"),) if self.step >= 0 else ()
        return (("traceparent", f"00-{self.trace}-{self.parent}-{self.sampled:02x}"), *step)


class Lane:
    """One strand of a request's work: one task, and the threads that it waits for."""

    def __init__(self, recorder: Recorder, name: str, context: TraceContext) -> None:
        self.recorder, self.name, self.context = recorder if context.sampled else _OFF, name, context
        self._open: _Span | None = None
        self._phase = ""
        self._thread = threading.get_ident()  # of the event loop
        self._cpu_ns = 0
        self._running_since_ns: int | None = None

    def span(self, name: str, kind: str = "span", start_ns: int | None = None, **fields: Any) -> "_Span":
        """A context manager around a part of the work; its CPU time is counted while the lane runs.

        `start_ns` says that it began before this moment; `fields` are those of `schema.Span`, of which `phase` passes
        on to all spans inside.
        """
        if not self.recorder.enabled:
            return self.recorder.span(name)
        return _Span(self, name, start_ns, {"kind": kind, **fields})

    def note(self, **fields: Any) -> None:
        """Add what is known only now to the span that is open."""
        if self._open is not None:
            self._open.fields.update(fields)

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        beside = Lane(self.recorder, f"{self.name}/{name}", self.context)
        beside._phase = self._phase
        return beside

    async def run(self, work: Coroutine) -> Any:
        """Await `work` as this lane's, counting its CPU time."""
        return await (_Counted(self, work) if self.recorder.enabled else work)

    async def run_on(self, pool: Executor, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread of `pool` while the lane's task waits for it, counting its CPU time."""
        spent_ns: list[int] = []

        def counted() -> Any:
            began_ns = time.thread_time_ns()
            try:
                return function(*arguments)
            finally:
                spent_ns.append(time.thread_time_ns() - began_ns)

        try:
            return await asyncio.get_running_loop().run_in_executor(pool, counted)
        finally:
            # Added here and not on the thread, where a span of its own may be open: it is part of those around.
            self._cpu_ns += sum(spent_ns)

    def resume(self) -> None:
        """From here on the event loop's CPU time is the lane's."""
        self._running_since_ns = time.thread_time_ns()

    def pause(self) -> None:
        """Until here it was."""
        self._cpu_ns, self._running_since_ns = self.cpu_ns, None

    @property
    def cpu_ns(self) -> int:
        """A reading of the lane's CPU clock, to be compared with others on the same thread: a worker's spans begin and
        end on it, and count its time alone."""
        if threading.get_ident() != self._thread:
            return time.thread_time_ns()
        since_ns = self._running_since_ns
        return self._cpu_ns if since_ns is None else self._cpu_ns + time.thread_time_ns() - since_ns


class _Span:
    __slots__ = ("around", "caller", "cpu_ns", "fields", "lane", "name", "phase_around", "start_ns")

    def __init__(self, lane: Lane, name: str, start_ns: int | None, fields: dict) -> None:
        self.lane, self.name, self.start_ns, self.fields = lane, name, start_ns, fields

    def __enter__(self) -> "_Span":
        lane = self.lane
        self.caller, self.around, self.phase_around = lane.context, lane._open, lane._phase
        lane._phase = self.fields.setdefault("phase", lane._phase)
        lane.context = TraceContext(self.caller.trace, f"{_span_ids.getrandbits(63) | 1:016x}", self.caller.step)
        lane._open = self
        self.cpu_ns = lane.cpu_ns
        self.start_ns = self.start_ns or time.monotonic_ns()
        return self

    def __exit__(self, error_type: type | None, *_) -> bool:
        end_ns = time.monotonic_ns()
        lane, caller = self.lane, self.caller
        if error_type is not None:
            self.fields["tags"] = f"{self.fields.get('tags', '')} error".strip()
        lane.recorder.add(
            self.name, self.start_ns, end_ns, lane=lane.name, step=caller.step, trace=caller.trace,
            span=lane.context.parent, parent=caller.parent, cpu_ns=lane.cpu_ns - self.cpu_ns, **self.fields,
        )  # fmt: skip
        lane.context, lane._open, lane._phase = caller, self.around, self.phase_around
        return False


class _Counted:
    """Awaits a coroutine and counts, for its lane, the CPU time of each stretch between two waits."""

    def __init__(self, lane: Lane, work: Coroutine) -> None:
        self.lane, self.work = lane, work

    def __await__(self) -> Generator[Any, Any, Any]:
        step, argument = self.work.send, None
        while True:
            self.lane.resume()
            try:
                waiting_for = step(argument)
            except StopIteration as finished:
                return finished.value
            finally:
                self.lane.pause()
            try:
                step, argument = self.work.send, (yield waiting_for)
            except BaseException as error:
                step, argument = self.work.throw, error


class LaneNames:
    """`request-0`, `request-1`, ...: the lowest number that no open request has, so that lanes stay few."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._used = 0

    @contextmanager
    def taken(self) -> Iterator[str]:
        """A name that nobody else has meanwhile."""
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number, self._used = self._used, self._used + 1
        try:
            yield f"request-{number}"
        finally:
            heapq.heappush(self._free, number)
