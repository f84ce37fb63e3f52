"""Jaeger traces as JSON (what its page and its query API download) -> Part."""

from pathlib import Path
from typing import Any

import msgspec

from workbench.trace.part import Part
from workbench.trace.readers.distributed import UNKNOWN_SERVICE, Span, span_part
from workbench.trace.readers.documents import Microseconds, read_document

WHAT = "Jaeger traces as JSON (data with spans and processes)"


class Reference(msgspec.Struct, frozen=True):
    """What a span refers to: only the parent (CHILD_OF) is used, a predecessor (FOLLOWS_FROM) does not enclose it."""

    kind: str = msgspec.field(name="refType", default="")
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")


class Tag(msgspec.Struct, frozen=True):
    """An attribute."""

    key: str = ""
    value: Any = None


class Process(msgspec.Struct, frozen=True):
    """Who wrote the spans."""

    service: str = msgspec.field(name="serviceName", default="")


class SpanRecord(msgspec.Struct, frozen=True):
    """One span as written."""

    start_us: Microseconds = msgspec.field(name="startTime")
    duration_us: Microseconds = msgspec.field(name="duration")
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")
    name: str = msgspec.field(name="operationName", default="")
    process_id: str = msgspec.field(name="processID", default="")
    references: list[Reference] | None = None
    tags: list[Tag] | None = None


class Trace(msgspec.Struct, frozen=True):
    """One trace."""

    spans: list[SpanRecord]
    processes: dict[str, Process] = {}


class Document(msgspec.Struct, frozen=True):
    """The file."""

    data: list[Trace]


def read(path: Path) -> Part:
    """Spans as events (see `distributed.py`); process is `serviceName`. InputError when the file is no Jaeger JSON."""
    path = Path(path)
    document, notes = read_document(path, Document, WHAT)
    return span_part(path, [_span(record, trace) for trace in document.data for record in trace.spans], notes)


def _span(record: SpanRecord, trace: Trace) -> Span:
    tags = {tag.key: tag.value for tag in record.tags or ()}
    parents = (reference for reference in record.references or () if reference.kind == "CHILD_OF")
    service = trace.processes.get(record.process_id, Process()).service
    start_ns = 1000 * record.start_us
    return Span(
        trace=record.trace_id, id=record.span_id, name=record.name, process=service or UNKNOWN_SERVICE,
        parent=next(((found.trace_id or record.trace_id, found.span_id) for found in parents), None),
        role=str(tags.get("span.kind", "")), start_ns=start_ns, end_ns=start_ns + 1000 * record.duration_us,
        attributes=tags, failed=str(tags.get("error", "")).lower() == "true",
    )  # fmt: skip
