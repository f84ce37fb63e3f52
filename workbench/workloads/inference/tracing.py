"""Cross-layer tracing of requests: spans with trace ids, over tasks, threads, processes and machines.

A request's work is a few strands that run at the same time: its handler, its batches, their RPCs. Each strand is a
`Lane`; its spans nest, and each names the span that caused it, so a trace is one tree although strands overlap. What
crosses a process boundary is W3C Trace Context: `traceparent`, and the request's number in `tracestate`.

Wall time comes from one monotonic clock. CPU time is that of whichever thread runs the lane: the event loop counts
while it runs the lane's task and not while the task waits, a worker thread while it works for the lane. The CPU time of
such a stretch is spread evenly over it: a span has its share of every stretch that it overlaps. So its `cpu_ns`
includes its children on the same lane, and not those on lanes of their own.
"""

import asyncio
import bisect
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


# To read a thread's CPU clock is a system call, and amid a request's work a third of what tracing would cost. A stretch
# of the event loop that is no longer than this counts as CPU time without: it errs where the thread was interrupted.
_READING_HOLDS_NS = 100_000
# Amid numpy and torch all that Python does has left the caches when its turn comes, and takes four times as long as in
# a loop of its own. So an open span is a list, and all else is worked out where the recorder writes (`_lines`). Of its
# places these are read or changed while it is open:
_NAME, _BYTES, _TAGS, _NUMBER, _AROUND, _PHASE = range(6)


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

    __slots__ = ("_closed", "_open", "_recorded", "_stretches", "name", "received", "recorder")

    def __init__(self, recorder: Recorder, name: str, context: TraceContext, around: list | None = None) -> None:
        self.recorder, self.name, self.received = recorder if context.sampled else _OFF, name, context
        self._recorded = self.recorder.enabled
        # The innermost comes last; the first is the one of the lane which this one branches off, if it does.
        self._open: list[list | None] = [around]
        self._closed: list[list] = []
        self._stretches: list[tuple[int, int, int]] = []  # a thread ran the lane: from, to, CPU time meanwhile; all ns

    @property
    def context(self) -> TraceContext:
        """Where a call that is made now hangs."""
        received, around = self.received, self._open[-1]
        if around is None:
            return received
        return TraceContext(received.trace, _id_of(around), received.step, received.sampled)

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
        opened = self._open
        opened.append([name, message_bytes, tags, 0, opened[-1], phase, kind, source, start_ns, time.monotonic_ns()])
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, error_type: type | None, *_) -> None:
        span = self._open.pop()
        span.append(time.monotonic_ns())
        if error_type is not None:
            span[_TAGS] = f"{span[_TAGS]} error".strip()
        self._closed.append(span)

    def note(self, *, message_bytes: int | None = None, tags: str = "") -> None:
        """Add what is known only now to the span that is open."""
        span = self._open[-1]
        if span is not None:
            span[_BYTES], span[_TAGS] = message_bytes, tags or span[_TAGS]

    def branch(self, name: str) -> "Lane":
        """A lane for work that runs beside this one, caused by the span that is open now."""
        around = self._open[-1]
        if around is not None:
            _id_of(around)  # drawn here and now: the other lane's lines name it, maybe before this one's are made
        return Lane(self.recorder, f"{self.name}/{name}", self.received, around)

    async def run(self, work: Coroutine) -> Any:
        """Await `work`, all that this lane does, counting its CPU time; then record its spans."""
        if not self._recorded:
            return await work
        try:
            return await _Counted(self._stretches, work)
        finally:
            self.recorder.add_unmade([_lines, self])

    async def run_on(self, pool: Executor, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread of `pool` while the lane's task waits for it, counting its CPU time."""
        loop = asyncio.get_running_loop()
        if not self._recorded:
            return await loop.run_in_executor(pool, function, *arguments)
        return await loop.run_in_executor(pool, self._counted, function, arguments)

    def _counted(self, function: Callable, arguments: tuple) -> Any:
        began_ns, began_cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        try:
            return function(*arguments)
        finally:
            self._stretches.append((began_ns, time.monotonic_ns(), time.thread_time_ns() - began_cpu_ns))


class _Counted:
    """Awaits a coroutine and counts, for its lane, the CPU time of each stretch between two waits."""

    __slots__ = ("stretches", "work")

    def __init__(self, stretches: list, work: Coroutine) -> None:
        self.stretches, self.work = stretches, work

    def __await__(self) -> Generator[Any, Any, Any]:
        work, count, now_ns, clock = self.work, self.stretches.append, time.monotonic_ns, _loop_clock
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
                count((began_ns, ended_ns, cpu_ns))
            try:
                step, argument = work.send, (yield waiting_for)
            except BaseException as error:
                step, argument = work.throw, error


def _id_of(span: list) -> str:
    """Its id, drawn when it is first asked for."""
    if not span[_NUMBER]:
        span[_NUMBER] = next(_span_ids.numbers)
    return _span_ids.of(span[_NUMBER])


def _lines(unmade: list) -> Iterator[SpanLine]:
    """The lines of a lane that has ended."""
    lane: Lane = unmade[1]
    received, cpu_until_ns = lane.received, _cpu_clock(lane._stretches)
    for span in lane._closed:
        name, message_bytes, tags, _, around, phase, kind, source, start_ns, opened_ns, end_ns = span
        parent = received.parent if around is None else _id_of(around)
        while not phase and around is not None:  # it passes on inwards
            around, phase = around[_AROUND], around[_PHASE]
        start_ns = start_ns or opened_ns
        yield SpanLine(
            name=name, kind=kind, start_ns=start_ns, duration_ns=end_ns - start_ns, lane=lane.name, phase=phase,
            step=received.step, message_bytes=message_bytes, cpu_ns=cpu_until_ns(end_ns) - cpu_until_ns(opened_ns),
            trace=received.trace, span=_id_of(span), parent=parent, source=source, tags=tags,
        )  # fmt: skip


def _cpu_clock(stretches: list[tuple[int, int, int]]) -> Callable[[int], int]:
    """A lane's CPU time at a moment, ns: that of a stretch is spread evenly over it. A thread's may begin just before
    the loop's that handed it the work has ended: then the loop's counts as a whole."""
    stretches = sorted(stretches)
    begins = [begin_ns for begin_ns, _, _ in stretches]
    before_ns = [0, *itertools.accumulate(cpu_ns for _, _, cpu_ns in stretches)]

    def until_ns(moment_ns: int) -> int:
        place = bisect.bisect_right(begins, moment_ns) - 1
        if place < 0:
            return 0
        begin_ns, end_ns, cpu_ns = stretches[place]
        if moment_ns < end_ns:
            cpu_ns = cpu_ns * (moment_ns - begin_ns) // (end_ns - begin_ns)
        return before_ns[place] + cpu_ns

    return until_ns


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
