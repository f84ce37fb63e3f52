"""OpenTelemetry spans as OTLP JSON -> Part: one document, or one a line as the file exporter writes them.

Follows the JSON encoding of the OpenTelemetry protocol: 64-bit numbers may be texts, enumerations numbers or names.
"""

from pathlib import Path
from typing import Any

import msgspec

from workbench.trace.part import Part
from workbench.trace.readers.distributed import UNKNOWN_SERVICE, Span, span_part
from workbench.trace.readers.documents import Nanoseconds, decode, expanded

WHAT = "OpenTelemetry spans as OTLP JSON (resourceSpans)"

_ROLES = ("unspecified", "internal", "server", "client", "producer", "consumer")
_ERROR = (2, "STATUS_CODE_ERROR")


class KeyValue(msgspec.Struct, frozen=True):
    """An attribute; its value is {"stringValue": ...}, {"intValue": ...}..."""

    key: str = ""
    value: Any = None


class Status(msgspec.Struct, frozen=True):
    """How a span ended: 0 unset, 1 ok, 2 error."""

    code: int | str = 0


class SpanRecord(msgspec.Struct, frozen=True):
    """One span as written."""

    start_ns: Nanoseconds = msgspec.field(name="startTimeUnixNano")
    end_ns: Nanoseconds = msgspec.field(name="endTimeUnixNano")
    trace_id: str = msgspec.field(name="traceId", default="")
    span_id: str = msgspec.field(name="spanId", default="")
    parent_id: str | None = msgspec.field(name="parentSpanId", default=None)
    name: str = ""
    kind: int | str = 0
    attributes: list[KeyValue] = []
    status: Status = Status()


class ScopeSpans(msgspec.Struct, frozen=True):
    """The spans of one instrumented library."""

    spans: list[SpanRecord] = []


class Resource(msgspec.Struct, frozen=True):
    """Who wrote the spans."""

    attributes: list[KeyValue] = []


class ResourceSpans(msgspec.Struct, frozen=True):
    """The spans of one process."""

    scopes: list[ScopeSpans] = msgspec.field(name="scopeSpans", default=[])
    resource: Resource = Resource()


class TracesData(msgspec.Struct, frozen=True):
    """A document, or a line."""

    resource_spans: list[ResourceSpans] = msgspec.field(name="resourceSpans")


def read(path: Path) -> Part:
    """Spans as events (see `distributed.py`); process is `service.name`. InputError when the file is no OTLP JSON."""
    path = Path(path)
    text, notes = expanded(path, WHAT)
    lines = text.split(b"\n")
    if not lines[0].rstrip().endswith(b"}"):  # one document over several lines
        lines = [text]
    spans = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = str(path) if len(lines) == 1 else f"{path}, line {number}"
            document, repairs = decode(line, TracesData, where, WHAT)
            spans += [_span(record, owner) for owner in document.resource_spans for scope in owner.scopes
                      for record in scope.spans]  # fmt: skip
            notes += repairs
    return span_part(path, spans, notes)


def _span(record: SpanRecord, owner: ResourceSpans) -> Span:
    service = _values(owner.resource.attributes).get("service.name")
    return Span(
        trace=record.trace_id, id=record.span_id, name=record.name, process=str(service or UNKNOWN_SERVICE),
        parent=(record.trace_id, record.parent_id) if record.parent_id else None, role=_role(record.kind),
        start_ns=record.start_ns, end_ns=record.end_ns, attributes=_values(record.attributes),
        failed=record.status.code in _ERROR,
    )  # fmt: skip


def _role(kind: int | str) -> str:
    if isinstance(kind, str):
        return kind.removeprefix("SPAN_KIND_").lower()
    return _ROLES[kind] if 0 <= kind < len(_ROLES) else _ROLES[0]


def _values(attributes: list[KeyValue]) -> dict[str, Any]:
    """Attributes without the wrapping that tells their type."""
    return {a.key: next(iter(a.value.values()), None) if isinstance(a.value, dict) else a.value for a in attributes}
