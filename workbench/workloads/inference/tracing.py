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
import re
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from workbench.trace.recorder import Recorder
from workbench.trace.schema import SpanLine

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_VENDOR = "recsys-workbench="
_STEP = re.compile(_VENDOR + r"(\d{1,15})")
_OFF = Recorder(None)
# To read a thread's CPU clock is a system call, and amid a request's work a third of what tracing costs. Until a
# reading is so old, the time that has passed on the thread since counts as CPU time: it errs where the thread was
# interrupted, and by no more.
_READING_HOLDS_NS = 100_000


class _SpanIds:
    """Random ids, drawn a thousand at a time: one by one they would be a fifth of a span's cost."""

    _DRAWN = 1024

    def __init__(self) -> None:
        self._unused: list[str] = []

    def forget(self) -> None:
        """Begin anew, with other ids."""
        self._unused = []

    def next(self) -> str:
        """16 hexadecimal digits, not all zero."""
        while True:
            try:
                return self._unused.pop()
            except IndexError:  # asked for, and not before: other threads take some too
                digits = os.urandom(8 * self._DRAWN).hex()
                drawn = (digits[at : at + 16] for at in range(0, len(digits), 16))
                self._unused = [each for each in drawn if each.strip("0")]


_span_ids = _SpanIds()
# Servers are forked from one process: each must draw ids of its own.
os.register_at_fork(after_in_child=_span_ids.forget)


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
        parent = "" if sampled else _span_ids.next()
        return cls(_span_ids.next() + _span_ids.next(), parent, step, sampled)

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
    """One strand of a request's work: one task, and the threads that it waits for.

    It is the context manager of all its spans, and calls little: amid numpy and torch every function of ours has left
    the caches, and takes four times as long as in a loop of its own.
    """

    def __init__(self, recorder: Recorder, name: str, context: TraceContext, around: SpanLine | None = None) -> None:
        self.recorder, self.name, self.received = recorder if context.sampled else _OFF, name, context
        # The innermost comes last, and that of the lane which this one branches off first.
        self._open = [around] if around else []
        self._thread = threading.get_ident()  # of the event loop
        # The lane's CPU time when the clock was last read, when that was, and what it is ahead of the thread's.
        self._cpu_ns = self._read_ns = self._cpu_offset_ns = 0

    @property
    def context(self) -> TraceContext:
        """Where a call that is made now hangs."""
        received = self.received
        if not self._open:
            return received
        return TraceContext(received.trace, self._open[-1].span, received.step, received.sampled)

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
        if not self.recorder.enabled:
            return _OFF.span(name)
        received, parent = self.received, self.received.parent
        if self._open:
            around = self._open[-1]
            parent, phase = around.span, phase or around.phase
        now_ns = time.monotonic_ns()
        line = SpanLine(
            name=name, kind=kind, start_ns=start_ns or now_ns, duration_ns=0, lane=self.name, phase=phase,
            step=received.step, message_bytes=message_bytes, cpu_ns=self._cpu_at(now_ns), trace=received.trace,
            span=_span_ids.next(), parent=parent, source=source, tags=tags,
        )  # fmt: skip
        self._open.append(line)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, error_type: type | None, *_) -> None:
        end_ns = time.monotonic_ns()
        line = self._open.pop()
        if error_type is not None:
            line.tags = f"{line.tags} error".strip()
        line.duration_ns = end_ns - line.start_ns
        line.cpu_ns = self._cpu_at(end_ns) - line.cpu_ns
        self.recorder.add_line(line)

    def note(self, *, message_bytes: int | None = None, tags: str = "") -> None:
        """Add what is known only now to the span that is open."""
        if self._open:
            line = self._open[-1]
            line.message_bytes, line.tags = message_bytes, tags or line.tags

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        return Lane(self.recorder, f"{self.name}/{name}", self.received, self._open[-1] if self._open else None)

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

    def _cpu_at(self, now_ns: int) -> int:
        """The lane's CPU clock at `now_ns` (`time.monotonic_ns`), to be compared with others on the same thread: a
        worker's spans begin and end on it, and count its time alone."""
        if threading.get_ident() != self._thread:
            return time.thread_time_ns()
        since_ns = now_ns - self._read_ns
        if since_ns <= _READING_HOLDS_NS:
            return self._cpu_ns + since_ns
        self._cpu_ns, self._read_ns = time.thread_time_ns() + self._cpu_offset_ns, now_ns
        return self._cpu_ns


class _Counted:
    """Awaits a coroutine and counts, for its lane, the CPU time of each stretch between two waits."""

    def __init__(self, lane: Lane, work: Coroutine) -> None:
        self.lane, self.work = lane, work

    def __await__(self) -> Generator[Any, Any, Any]:
        lane, step, argument = self.lane, self.work.send, None
        while True:
            # From here on the event loop's CPU time is the lane's.
            lane._cpu_offset_ns = lane._cpu_ns - time.thread_time_ns()
            lane._read_ns = time.monotonic_ns()
            try:
                waiting_for = step(argument)
            except StopIteration as finished:
                return finished.value
            finally:
                lane._cpu_ns = lane._cpu_at(time.monotonic_ns())
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
