"""Spans of a distributed trace, whatever wrote them (OTLP, Jaeger), -> Part.

A trace (one request, as a rule) is a step, numbered by when it starts. `parent_id` is the span that caused this one: it
may lie on another lane or in another process, and children may overlap, so that self times are not durations minus
children.
"""

import re
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from workbench.trace.part import Part
from workbench.trace.schema import KINDS, events_frame

# Where our own export keeps an event's kind.
KIND_ATTRIBUTE = "workbench.kind"
UNKNOWN_SERVICE = "unknown_service"  # OpenTelemetry's word where nobody named the service
# Semantic conventions of OpenTelemetry, old and new: what a span waits for when it calls out.
_CALLING = ("client", "producer")
_REMOTE = ("rpc.", "http.", "messaging.")
_DATABASE = "db."
_HEXADECIMAL = re.compile("[0-9a-fA-F]+")


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
        "trace": [_hexadecimal(span.trace, 32) for span in kept],
        "span_id": np.array([_span_id(span.id) for span in kept], dtype=np.uint64),
        "parent_span_id": np.array([_span_id(span.parent[1]) if span.parent else 0 for span in kept], dtype=np.uint64),
    }  # fmt: skip
    info = {"file": str(path), "rank": -1, "world_size": None, "backend": None, "devices": [], "process_groups": [],
            "clock": "unix", "traces": len(step_of)}  # fmt: skip
    return Part(events=events_frame(events), info=info, notes=[f"{path.name}: {note}" for note in notes])


def joined(events: pd.DataFrame) -> pd.DataFrame:
    """The spans of several files, merged: traces numbered anew over all of them, and parents in other files found."""
    first_ns = events.groupby("trace", observed=True)["start_ns"].min().sort_values(kind="stable")
    number = pd.Series(np.arange(len(first_ns)), index=first_ns.index.astype(str))
    ids = pd.MultiIndex.from_arrays([events["trace"].astype(str), events["span_id"]])
    row_of = pd.Series(np.arange(len(events)), index=ids)
    row_of = row_of[~row_of.index.duplicated()]
    named = pd.MultiIndex.from_arrays([events["trace"].astype(str), events["parent_span_id"]])
    parents = row_of.reindex(named).fillna(-1).to_numpy(dtype=np.int64)
    parents = np.where(events["parent_span_id"] > 0, parents, -1)
    own = events["parent_id"].to_numpy()
    parents = _without_circles(np.where(own >= 0, own, parents))[0]
    return events.assign(step=number[events["trace"].astype(str)].to_numpy(), parent_id=parents)


def _span_id(written: str) -> int:
    """The id as a number; 0 for none."""
    return int(_hexadecimal(written, 16), 16) if written else 0


def _hexadecimal(written: str, digits: int) -> str:
    """An id in so many hexadecimal digits: as it is, or of its text, where somebody made up ids of their own."""
    if _HEXADECIMAL.fullmatch(written) and len(written) <= digits:
        return written.lower().zfill(digits)
    return blake2b(written.encode("utf-8", "replace"), digest_size=digits // 2).hexdigest()


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
    """What our own export says; else a call to a database is storage, one to another service communication, and all
    else, also serving it, a span."""
    if span.attributes.get(KIND_ATTRIBUTE) in KINDS:
        return span.attributes[KIND_ATTRIBUTE]
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
    parents, circular = _without_circles(parents)
    return parents, int(missing), circular


def _without_circles(parents: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows of the parents [n], -1 for what goes round in a circle, and how many do."""
    # Whoever still has an ancestor after as many generations as there are spans goes round in a circle.
    above = parents.copy()
    for _ in range(len(parents).bit_length()):
        above = np.where(above >= 0, above[above], -1)
    return np.where(above >= 0, -1, parents), int((above >= 0).sum())


def _counted(count: int, text: str) -> list[str]:
    return [text.format(count)] if count else []
