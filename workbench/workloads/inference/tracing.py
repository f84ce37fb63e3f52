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
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple

from workbench.trace.recorder import Recorder
from workbench.trace.schema import SpanLine

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_VENDOR = "recsys-workbench="
_STEP = re.compile(_VENDOR + r"(\d{1,15})")
# Servers are forked from one process: each must draw ids of its own.
_ids = random.Random()
os.register_at_fork(after_in_child=_ids.seed)
_OFF = Recorder(None)
# To read a thread's CPU clock is a system call, and half of a span's cost. Until a reading is so old, the time that has
# passed on the thread since counts as CPU time: it errs where the thread was interrupted, and by no more.
_READING_HOLDS_NS = 20_000


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
        parent = "" if sampled else f"{_ids.getrandbits(64) | 1:016x}"
        return cls(f"{_ids.getrandbits(128) | 1:032x}", parent, step, sampled)

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

    def __init__(self, recorder: Recorder, name: str, context: TraceContext, around: "_Span | None" = None) -> None:
        self.recorder, self.name, self.received = recorder if context.sampled else _OFF, name, context
        self._open = around  # the innermost span; that of the lane which this one branches off, at first
        self._thread = threading.get_ident()  # of the event loop
        # The lane's CPU time when the clock was last read, when that was, and what it is ahead of the thread's.
        self._cpu_ns = self._read_ns = self._cpu_offset_ns = 0

    @property
    def context(self) -> TraceContext:
        """Where a call that is made now hangs."""
        received = self.received
        if self._open is None:
            return received
        return TraceContext(received.trace, self._open.id, received.step, received.sampled)

    def span(
        self,
        name: str,
        kind: str = "span",
        *,
        start_ns: int | None = None,
        phase: str = "",
        message_bytes: int | None = None,
        source: str = "measured",
        tags: str = "",
    ) -> "_Span":
        """A context manager around a part of the work; its CPU time is counted while the lane runs.

        `start_ns` says that it began before this moment, `phase` passes on to all spans inside, the others are as in
        `schema.Span`.
        """
        if not self.recorder.enabled:
            return _OFF.span(name)
        return _Span(self, name, kind, start_ns, phase, message_bytes, source, tags)

    def note(self, *, message_bytes: int | None = None, tags: str = "") -> None:
        """Add what is known only now to the span that is open."""
        if self._open is not None:
            self._open.message_bytes = message_bytes
            self._open.tags = tags or self._open.tags

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        return Lane(self.recorder, f"{self.name}/{name}", self.received, self._open)

    async def run(self, work: Coroutine) -> Any:
        """Await `work` as this lane's, counting its CPU time."""
        return await (_Counted(self, work) if self.recorder.enabled else work)

    async def run_on(self, pool: Executor, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread of `pool` while the lane's task waits for it, counting its CPU time."""
        loop = asyncio.get_running_loop()
        if not self.recorder.enabled:
            return await loop.run_in_executor(pool, function, *arguments)
        spent_ns: list[int] = []

        def counted() -> Any:
            began_ns = time.thread_time_ns()
            try:
                return function(*arguments)
            finally:
                spent_ns.append(time.thread_time_ns() - began_ns)

        try:
            return await loop.run_in_executor(pool, counted)
        finally:
            # Added here and not on the thread, where a span of its own may be open: it is part of those around.
            self._cpu_ns += sum(spent_ns)
            self._cpu_offset_ns += sum(spent_ns)

    def cpu_ns(self, now_ns: int) -> int:
        """The lane's CPU clock at `now_ns` (`time.monotonic_ns`), to be compared with others on the same thread: a
        worker's spans begin and end on it, and count its time alone."""
        if threading.get_ident() != self._thread:
            return time.thread_time_ns()
        since_ns = now_ns - self._read_ns
        if since_ns <= _READING_HOLDS_NS:
            return self._cpu_ns + since_ns
        self._cpu_ns, self._read_ns = time.thread_time_ns() + self._cpu_offset_ns, now_ns
        return self._cpu_ns

    def _goes_on(self) -> None:
        """From here on the event loop's CPU time is the lane's."""
        self._cpu_offset_ns = self._cpu_ns - time.thread_time_ns()
        self._read_ns = time.monotonic_ns()

    def _waits(self) -> None:
        """Until here it was."""
        self._cpu_ns = self.cpu_ns(time.monotonic_ns())


class _Span:
    """A span of a lane, while it is open."""

    __slots__ = (
        "around", "cpu_ns", "id", "kind", "lane", "message_bytes", "name", "phase", "source", "start_ns", "tags",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        name: str,
        kind: str,
        start_ns: int | None,
        phase: str,
        message_bytes: int | None,
        source: str,
        tags: str,
    ) -> None:
        self.lane = lane
        self.name = name
        self.kind = kind
        self.start_ns = start_ns
        self.phase = phase
        self.message_bytes = message_bytes
        self.source = source
        self.tags = tags

    def __enter__(self) -> "_Span":
        lane = self.lane
        self.around = around = lane._open
        lane._open = self
        if around is not None and not self.phase:
            self.phase = around.phase
        self.id = f"{_ids.getrandbits(64) | 1:016x}"
        now_ns = time.monotonic_ns()
        self.cpu_ns = lane.cpu_ns(now_ns)
        self.start_ns = self.start_ns or now_ns
        return self

    def __exit__(self, error_type: type | None, *_) -> bool:
        end_ns = time.monotonic_ns()
        lane, around = self.lane, self.around
        received = lane.received
        lane._open = around
        if error_type is not None:
            self.tags = f"{self.tags} error".strip()
        lane.recorder.add_line(
            SpanLine(
                name=self.name, kind=self.kind, start_ns=self.start_ns, duration_ns=end_ns - self.start_ns,
                lane=lane.name, phase=self.phase, step=received.step, message_bytes=self.message_bytes,
                cpu_ns=lane.cpu_ns(end_ns) - self.cpu_ns, trace=received.trace, span=self.id,
                parent=received.parent if around is None else around.id, source=self.source, tags=self.tags,
            )
        )  # fmt: skip
        return False


class _Counted:
    """Awaits a coroutine and counts, for its lane, the CPU time of each stretch between two waits."""

    def __init__(self, lane: Lane, work: Coroutine) -> None:
        self.lane, self.work = lane, work

    def __await__(self) -> Generator[Any, Any, Any]:
        lane, step, argument = self.lane, self.work.send, None
        while True:
            lane._goes_on()
            try:
                waiting_for = step(argument)
            except StopIteration as finished:
                return finished.value
            finally:
                lane._waits()
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
