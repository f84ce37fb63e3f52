"""Spans of a distributed trace, whatever wrote them (OTLP, Jaeger), -> Part.

A trace (one request, as a rule) is a step, numbered by when it starts. `parent_id` is the span that caused this one: it
may lie on another lane or in another process, and children may overlap, so that self times are not durations minus
children.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workbench.trace.part import Part
from workbench.trace.schema import events_frame

UNKNOWN_SERVICE = "unknown_service"  # OpenTelemetry's word where nobody named the service
# Semantic conventions of OpenTelemetry, old and new: what a span waits for when it calls out.
_CALLING = ("client", "producer")
_REMOTE = ("rpc.", "http.", "messaging.")
_DATABASE = "db."


class Span(NamedTuple):
    """One span. `role` is client, server, producer, consumer or internal; `parent` is (trace id, span id) or None."""

    trace: str
    id: str
    parent: tuple[str, str] | None
    name: str
    process: str
    role: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    failed: bool


def span_part(path: Path, spans: list[Span], notes: list[str]) -> Part:
    """Spans as events of one or more processes: process is the service, lane its thread, else the trace."""
    kept = [span for span in spans if span.end_ns >= span.start_ns]
    notes = [*notes, *_counted(len(spans) - len(kept), "left out {} spans that end before they start")]
    step_of = _numbered(kept)
    parents, missing, circular = _parents(kept)
    notes += _counted(missing, "{} spans name a parent that is not in the file")
    notes += _counted(circular, "{} spans whose parents go round in a circle count as without one")
    notes += [] if kept else ["no span in it"]
    start_ns = np.array([span.start_ns for span in kept], dtype=np.int64)
    events = {
        "parent_id": parents, "start_ns": start_ns,
        "duration_ns": np.array([span.end_ns for span in kept], dtype=np.int64) - start_ns,
        "process": [span.process for span in kept], "name": [span.name for span in kept],
        "lane": [_lane(span, step_of) for span in kept],
        "step": [step_of[span.trace] for span in kept],
        "kind": [_kind(span) for span in kept], "tags": ["error" if span.failed else "" for span in kept],
    }  # fmt: skip
    info = {"file": str(path), "rank": -1, "world_size": None, "backend": None, "devices": [], "process_groups": [],
            "clock": "unix", "traces": len(step_of)}  # fmt: skip
    return Part(events=events_frame(events), info=info, notes=[f"{path.name}: {note}" for note in notes])


def _numbered(spans: list[Span]) -> dict[str, int]:
    """Trace id -> number, by the first start."""
    first_ns: dict[str, int] = {}
    for span in spans:
        first_ns[span.trace] = min(span.start_ns, first_ns.get(span.trace, span.start_ns))
    return {trace: number for number, trace in enumerate(sorted(first_ns, key=first_ns.get))}


def _lane(span: Span, step_of: dict[str, int]) -> str:
    thread = span.attributes.get("thread.name", span.attributes.get("thread.id"))
    return f"thread {thread}" if isinstance(thread, (str, int)) else f"trace {step_of[span.trace]}"


def _kind(span: Span) -> str:
    """A call to a database is storage, one to another service communication; all else, also serving it, is a span."""
    if span.role in _CALLING:
        if any(key.startswith(_DATABASE) for key in span.attributes):
            return "storage"
        if any(key.startswith(_REMOTE) for key in span.attributes):
            return "communication"
    return "span"


def _parents(spans: list[Span]) -> tuple[np.ndarray, int, int]:
    """Row [n] of each span's parent, -1 for none; how many parents are missing, and how many lay in circles."""
    row_of: dict[tuple[str, str], int] = {}
    for row, span in enumerate(spans):
        row_of.setdefault((span.trace, span.id), row)
    parents = np.array([row_of.get(span.parent, -1) for span in spans], dtype=np.int64)
    missing = sum(span.parent is not None and span.parent not in row_of for span in spans)
    # Whoever still has an ancestor after as many generations as there are spans goes round in a circle.
    above = parents.copy()
    for _ in range(len(spans).bit_length()):
        above = np.where(above >= 0, above[above], -1)
    circular = above >= 0
    parents[circular] = -1
    return parents, int(missing), int(circular.sum())


def _counted(count: int, text: str) -> list[str]:
    return [text.format(count)] if count else []
