"""Lines of a span file that hold a whole lane, spelled out into spans: ids, and each one's share of the CPU time."""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence

from workbench.trace.schema import LaneLine, Span


def span_id(id_zero: int, number: int) -> str:
    """16 hexadecimal digits: the number of a span, counted from its process's zero."""
    return f"{(id_zero + number) % 2**64:016x}"


def spans_of(line: LaneLine) -> Iterator[Span]:
    """The spans of a lane, in its order. CPU time is spread evenly over each stretch, and a span has its share of every
    stretch that it overlaps: it includes the spans inside it. ValueError where one cannot be, as for `Span`."""
    cpu_until_ns = _cpu_clock(line.stretches)
    for span in line.spans:
        parent = span_id(line.id_zero, span.around) if span.around else line.parent
        yield Span(
            name=span.name, kind=span.kind, start_ns=span.start_ns, duration_ns=span.end_ns - span.start_ns,
            lane=line.lane, phase=span.phase, step=line.step, message_bytes=span.message_bytes,
            cpu_ns=cpu_until_ns(span.end_ns) - cpu_until_ns(span.start_ns), trace=line.trace,
            span=span_id(line.id_zero, span.number), parent=parent, source=span.source, tags=span.tags,
        )  # fmt: skip


def _cpu_clock(stretches: Sequence[tuple[int, int, int]]) -> Callable[[int], int]:
    """A lane's CPU time at a moment, ns. A thread's stretch may begin just before that of the loop which handed it the
    work has ended: then the loop's counts as a whole."""
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
