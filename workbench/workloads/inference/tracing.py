"""Cross-layer tracing of requests: spans with trace ids, over tasks, threads, processes and machines.

A request's work is a few strands that run at the same time: its handler, its batches, their RPCs. Each strand is a
`Lane`; its spans nest, and each names the span that caused it, so a trace is one tree although strands overlap. What
crosses a process boundary is W3C Trace Context: `traceparent`, and the request's number in `tracestate`.

Wall time comes from one monotonic clock. CPU time is that of whichever thread runs the lane: the event loop counts
while it runs the lane's task and not while the task waits, a worker thread while it works for the lane. A lane's line
has its spans and such stretches; what of their CPU time is a span's own is worked out by whoever reads it
(`workbench.trace.lanes`).
"""

import asyncio
import heapq
import itertools
import os
import re
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from workbench.trace.lanes import span_id
from workbench.trace.recorder import Recorder
from workbench.trace.schema import LaneLine, LaneSpan

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_VENDOR = "recsys-workbench="
_STEP = re.compile(_VENDOR + r"(\d{1,15})")
_OFF = Recorder(None)


class _SpanIds:
    """A process's spans are counted, from a zero that no other process has."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.draw()

    def draw(self) -> None:
        """Take another zero."""
        self.zero = int.from_bytes(os.urandom(8)) >> 1

    def of(self, number: int) -> str:
        """The id of the span with this number."""
        return span_id(self.zero, number)


_span_ids = _SpanIds()
# Servers are forked from one process: each must have ids of its own.
os.register_at_fork(after_in_child=_span_ids.draw)


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
        parent = "" if sampled else _span_ids.of(next(_span_ids.numbers))
        return cls(os.urandom(16).hex(), parent, step, sampled)

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


# To read a thread's CPU clock is a system call. A stretch of the event loop that is no longer than this counts as CPU
# time without: whoever takes the processor from a thread keeps it for longer, but for the kernel's own short work.
_READING_HOLDS_NS = 500_000
_OUTSIDE = LaneSpan("", "", "", "", "", None, 0, 0, 0, 0)  # what is around a lane's first span, where nothing is


class _LoopClock:
    """What lanes have been told of the event loop's CPU time: up to `read_ns`, when it was last read, and `told_ns`
    more."""

    __slots__ = ("read_ns", "told_ns")

    def __init__(self) -> None:
        self.read_ns = self.told_ns = 0

    def read(self, passed_ns: int) -> int:
        """CPU time of the `passed_ns` that end now: all of them, but no more than this thread has spent and nobody
        been told of."""
        read_ns = time.thread_time_ns()
        untold_ns = max(read_ns - self.read_ns - self.told_ns, 0)
        self.read_ns, self.told_ns = read_ns, 0
        return min(passed_ns, untold_ns)


_loop_clock = _LoopClock()  # a process has one such loop


class Lane:
    """One strand of a request's work: one task, and the threads that it waits for.

    It is the context manager of all its spans. They are recorded when `run` ends.
    """

    # Amid numpy and torch all that Python does has left the caches when its turn comes, and takes four times as long as
    # in a loop of its own. So an open span is no more than its line, and all that can be worked out later is.
    __slots__ = ("_closed", "_open", "_recorded", "_stretches", "name", "received", "recorder")

    def __init__(self, recorder: Recorder, name: str, context: TraceContext, around: LaneSpan = _OUTSIDE) -> None:
        self.recorder, self.name, self.received = recorder if context.sampled else _OFF, name, context
        self._recorded = self.recorder.enabled
        # The innermost comes last; the first is the one of the lane which this one branches off, if it does.
        self._open = [around]
        self._closed: list[LaneSpan] = []
        self._stretches: list[tuple[int, int, int]] = []  # a thread ran the lane: from, to, CPU time meanwhile; all ns

    @property
    def context(self) -> TraceContext:
        """Where a call that is made now hangs."""
        received, around = self.received, self._open[-1]
        if around is _OUTSIDE:
            return received
        return TraceContext(received.trace, _span_ids.of(around.number), received.step, received.sampled)

    def span(
        self,
        name: str,
        kind: str = "span",
        *,
        start_ns: int = 0,
        phase: str = "",
        message_bytes: int | None = None,
        source: str = "measured",
        tags: str = "",
    ) -> AbstractContextManager[None]:
        """Open a span around a part of the work, `with` whose end it closes; its CPU time is counted while the lane
        runs.

        `start_ns` says that it began before this moment, `phase` passes on to all spans inside, the others are as in
        `schema.Span`.
        """
        if not self._recorded:
            return _OFF.span(name)
        around = self._open[-1]
        self._open.append(
            LaneSpan(
                name, kind, phase or around.phase, source, tags, message_bytes, next(_span_ids.numbers), around.number,
                start_ns or time.monotonic_ns(), 0,
            )
        )  # fmt: skip
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, error_type: type | None, *_) -> None:
        span = self._open.pop()
        span.end_ns = time.monotonic_ns()
        if error_type is not None:
            span.tags = f"{span.tags} error".strip()
        self._closed.append(span)

    def note(self, *, message_bytes: int | None = None, tags: str = "") -> None:
        """Add what is known only now to the span that is open."""
        if self._recorded:
            span = self._open[-1]
            span.message_bytes, span.tags = message_bytes, tags or span.tags

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        return Lane(self.recorder, f"{self.name}/{name}", self.received, self._open[-1])

    async def run(self, work: Coroutine) -> Any:
        """Await `work`, all that this lane does, counting its CPU time; then record its spans."""
        if not self._recorded:
            return await work
        try:
            return await _counted(work, self._stretches)
        finally:
            context, spans = self.received, self._closed
            line = LaneLine(
                self.name, context.step, context.trace, context.parent, _span_ids.zero, spans, self._stretches
            )
            self.recorder.add_line(line)

    async def run_on(self, pool: Executor, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread of `pool` while the lane's task waits for it, counting its CPU time."""
        loop = asyncio.get_running_loop()
        if not self._recorded:
            return await loop.run_in_executor(pool, function, *arguments)
        return await loop.run_in_executor(pool, self._on_thread, function, arguments)

    def _on_thread(self, function: Callable, arguments: tuple) -> Any:
        began_ns, began_cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        try:
            return function(*arguments)
        finally:
            self._stretches.append((began_ns, time.monotonic_ns(), time.thread_time_ns() - began_cpu_ns))


@types.coroutine
def _counted(work: Coroutine, stretches: list[tuple[int, int, int]]) -> Generator[Any, Any, Any]:
    """Await `work` and count the CPU time of each stretch between two waits."""
    now_ns, clock = time.monotonic_ns, _loop_clock
    step, argument = work.send, None
    while True:
        began_ns = now_ns()
        try:
            waiting_for = step(argument)
        except StopIteration as finished:
            return finished.value
        finally:
            ended_ns = now_ns()
            cpu_ns = ended_ns - began_ns
            if cpu_ns <= _READING_HOLDS_NS:
                clock.told_ns += cpu_ns
            else:
                cpu_ns = clock.read(cpu_ns)
            stretches.append((began_ns, ended_ns, cpu_ns))
        try:
            step, argument = work.send, (yield waiting_for)
        except BaseException as error:
            step, argument = work.throw, error


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
