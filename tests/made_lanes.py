"""Spans of requests with times and ids chosen by hand, as lines of a span file."""

from workbench.trace.schema import LaneLine, LaneSpan


def one_span(
    name: str, kind: str, start_ns: int, end_ns: int, *, lane: str, trace: str, number: int, around: int = 0,
    step: int = 0, cpu_ns: int = 0, phase: str = "", source: str = "measured", tags: str = "",
    message_bytes: float | None = None,
) -> LaneLine:  # fmt: skip
    """A lane with one span, whose id is `number`; `around` is the id of its parent, maybe in another file, or 0."""
    span = LaneSpan(name, kind, phase, source, tags, message_bytes, 0, 0, start_ns, end_ns)
    parent = f"{around:016x}" if around else ""
    return LaneLine(lane, step, trace, parent, number, [span], [(start_ns, end_ns, cpu_ns)])
