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
import itertools
import os
import re
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
# To read a thread's CPU clock is a system call, and amid a request's work a third of what tracing costs. Time that has
# passed on a thread counts as CPU time until it is so much: it errs where the thread was interrupted, by no more.
_READING_HOLDS_NS = 100_000


class _SpanIds:
    """16 hexadecimal digits each: some that are this process's, and a number."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.draw()

    def draw(self) -> None:
        """Take digits that no other process has."""
        self._process = os.urandom(4).hex()

    def of(self, number: int) -> str:
        """The id of the span that drew this number."""
        return f"{self._process}{number & 0xFFFFFFFF:08x}"


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


# A span on its way to the recorder is a list, made into a line where the recorder writes: amid numpy and torch all that
# Python does has left the caches when its turn comes, and takes four times as long as in a loop of its own.
# `_line` names its places; these are read or changed while it is open.
_NAME, _BYTES, _TAGS, _NUMBER, _AROUND, _PHASE = 1, 2, 3, 4, 6, 10


def _line(span: list) -> SpanLine:
    """The line of a span that has closed."""
    name, message_bytes, tags, number, lane, around, kind, start_ns, start_cpu_ns, phase, source, *ends = span[1:]
    end_ns, cpu_ns = ends
    received = lane.received
    parent = received.parent if around is None else _span_ids.of(around[_NUMBER])
    while not phase and around is not None:  # it passes on inwards
        around, phase = around[_AROUND], around[_PHASE]
    return SpanLine(
        name=name, kind=kind, start_ns=start_ns, duration_ns=end_ns - start_ns, lane=lane.name, phase=phase,
        step=received.step, message_bytes=message_bytes, cpu_ns=max(cpu_ns - start_cpu_ns, 0), trace=received.trace,
        span=_span_ids.of(number), parent=parent, source=source, tags=tags,
    )  # fmt: skip


class _Clock:
    """What lanes have been told of a thread's CPU time: up to `read_ns`, when it was last read, and `told_ns` more."""

    __slots__ = ("read_ns", "told_ns")

    def __init__(self, read_ns: int) -> None:
        self.read_ns, self.told_ns = read_ns, 0


_loop_clock = _Clock(0)  # of the thread of the event loop, of which a process has one


class Lane:
    """One strand of a request's work: one task, and the threads that it waits for.

    It is the context manager of all its spans.
    """

    __slots__ = (
        "_add", "_away", "_clock", "_cpu_ns", "_open", "_recorded", "_told_ns", "name", "received", "recorder",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, name: str, context: TraceContext, around: list | None = None) -> None:
        self.recorder, self.name, self.received = recorder if context.sampled else _OFF, name, context
        self._recorded, self._add = self.recorder.enabled, self.recorder.add_unmade
        # The innermost comes last; the first is the one of the lane which this one branches off, if it does.
        self._open = [around]
        # The lane's CPU time at the moment since which a thread has run it, and nobody been told of what it spent.
        self._cpu_ns, self._told_ns = 0, time.monotonic_ns()
        self._clock = _loop_clock  # of that thread
        self._away = False  # whether it is one of a pool

    @property
    def context(self) -> TraceContext:
        """Where a call that is made now hangs."""
        received, around = self.received, self._open[-1]
        if around is None:
            return received
        return TraceContext(received.trace, _span_ids.of(around[_NUMBER]), received.step, received.sampled)

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
        now_ns = time.monotonic_ns()
        since_ns = now_ns - self._told_ns
        cpu_ns = self._cpu_ns + since_ns if since_ns <= _READING_HOLDS_NS else self._cpu_at(now_ns)
        opened = self._open
        opened.append(
            [_line, name, message_bytes, tags, next(_span_ids.numbers), self, opened[-1], kind, start_ns or now_ns,
             cpu_ns, phase, source]
        )  # fmt: skip
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, error_type: type | None, *_) -> None:
        end_ns = time.monotonic_ns()
        span = self._open.pop()
        since_ns = end_ns - self._told_ns
        span += (end_ns, self._cpu_ns + since_ns if since_ns <= _READING_HOLDS_NS else self._cpu_at(end_ns))
        if error_type is not None:
            span[_TAGS] = f"{span[_TAGS]} error".strip()
        self._add(span)

    def note(self, *, message_bytes: int | None = None, tags: str = "") -> None:
        """Add what is known only now to the span that is open."""
        span = self._open[-1]
        if span is not None:
            span[_BYTES], span[_TAGS] = message_bytes, tags or span[_TAGS]

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        return Lane(self.recorder, f"{self.name}/{name}", self.received, self._open[-1])

    async def run(self, work: Coroutine) -> Any:
        """Await `work` as this lane's, counting its CPU time."""
        return await (_Counted(self, work) if self._recorded else work)

    async def run_on(self, pool: Executor, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread of `pool` while the lane's task waits for it, counting its CPU time."""
        loop = asyncio.get_running_loop()
        if not self._recorded:
            return await loop.run_in_executor(pool, function, *arguments)
        # The thread may begin before this one has let go of the task: from here on the lane is the thread's.
        self._pauses()
        self._away = True
        began_ns = time.monotonic_ns()
        done = loop.run_in_executor(pool, self._counted, function, arguments)
        handing_ns = min(time.monotonic_ns() - began_ns, _READING_HOLDS_NS)
        _loop_clock.told_ns += handing_ns
        try:
            return await done
        finally:
            self._clock = _loop_clock
            self._cpu_ns += handing_ns

    def _counted(self, function: Callable, arguments: tuple) -> Any:
        """On a thread that the lane's task waits for: from here on its CPU time is the lane's."""
        clock = self._clock = _Clock(time.thread_time_ns())
        self._told_ns = time.monotonic_ns()
        try:
            return function(*arguments)
        finally:
            if self._clock is clock:  # else the task was cancelled, and goes on by itself
                self._pauses()

    def _pauses(self) -> None:
        """The thread that runs the lane ends to."""
        now_ns = time.monotonic_ns()
        since_ns = now_ns - self._told_ns
        if since_ns <= _READING_HOLDS_NS:
            self._cpu_ns += since_ns
            self._clock.told_ns += since_ns
        else:
            self._cpu_at(now_ns)

    def _cpu_at(self, now_ns: int) -> int:
        """The lane's CPU time at `now_ns` (`time.monotonic_ns`): the time that has passed, but no more than this thread
        has spent and nobody been told of."""
        clock, read_ns = self._clock, time.thread_time_ns()
        self._cpu_ns += min(now_ns - self._told_ns, max(read_ns - clock.read_ns - clock.told_ns, 0))
        self._told_ns, clock.read_ns, clock.told_ns = now_ns, read_ns, 0
        return self._cpu_ns


class _Counted:
    """Awaits a coroutine and counts, for its lane, the CPU time of each stretch between two waits."""

    def __init__(self, lane: Lane, work: Coroutine) -> None:
        self.lane, self.work = lane, work

    def __await__(self) -> Generator[Any, Any, Any]:
        lane, step, argument = self.lane, self.work.send, None
        while True:
            lane._told_ns = time.monotonic_ns()
            try:
                waiting_for = step(argument)
            except StopIteration as finished:
                return finished.value
            finally:
                if lane._away:
                    lane._away = False
                else:
                    lane._pauses()
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
