"""OpenTelemetry spans as one OTLP JSON document, which Jaeger and other tracing tools open.

A request keeps the ids that its spans were recorded with. What has none (a training step) becomes a trace of its own,
with ids made from the run's name, the step and the events' numbers, so that a second export has the same.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.analyses.core.rows import positions, recorded, tagged
from workbench.export.items import items
from workbench.trace.run import Run

# The protocol's numbers: a span within a process, one that calls another process; a span that failed.
_INTERNAL, _CLIENT, _FAILED = 1, 3, 2
_ATTRIBUTES = {"kind": "stringValue", "phase": "stringValue", "source": "stringValue", "step": "intValue"}


def write_otlp(run: Run, path: Path) -> None:
    """Write the spans of `run` to `path`: those that a recorder or a tracing tool wrote, else (the trace of a profiler)
    all events. A service is a process of the run."""
    spans = _spans(run)
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        file.write(b'{"resourceSpans":[')
        for number, (process, own) in enumerate(spans.groupby("process", observed=True)):
            resource = encode({"attributes": [_attribute("service.name", "stringValue", process)]})
            file.write(b",\n" * (number > 0) + b'{"resource":%s,' % resource)
            file.write(b'"scopeSpans":[{"scope":{"name":"workbench"},"spans":[\n')
            file.writelines(items(_records(own)))
            file.write(b"]}]}")
        file.write(b"]}\n")


def _spans(run: Run) -> pd.DataFrame:
    """The events that are spans, with trace_id, id and parent (texts, "" for none) and failed."""
    events = run.events
    own_ids = events["span_id"].to_numpy()
    chosen = (own_ids > 0) | recorded(events)
    chosen = chosen if chosen.any() else np.ones(len(events), dtype=bool)
    made_ids = (events["event_id"] + 1).to_numpy(dtype=np.uint64)
    ids = np.array([f"{number:016x}" for number in np.where(own_ids > 0, own_ids, made_ids).tolist()], dtype=object)
    steps = events["step"].to_numpy()
    made = {step: blake2b(f"{run.name}/{step}".encode(), digest_size=16).hexdigest() for step in np.unique(steps)}
    traces = np.where(events["trace"] != "", events["trace"].astype(object), pd.Series(steps).map(made))
    parent = positions(events, events["parent_id"].to_numpy())
    known = (parent >= 0) & chosen[parent] & (traces[parent] == traces)
    named = [f"{number:016x}" if number else "" for number in events["parent_span_id"].to_list()]
    return events.assign(
        trace_id=traces, id=ids, parent=np.where(known, ids[parent], named), failed=tagged(events, "error")
    )[chosen]


def _records(spans: pd.DataFrame) -> Iterator[dict]:
    for row in spans.itertuples(index=False):
        told = [(key, kind, getattr(row, key)) for key, kind in _ATTRIBUTES.items()]
        attributes = [_attribute(f"workbench.{key}", kind, value) for key, kind, value in told if value != ""]
        span = {
            "traceId": row.trace_id, "spanId": row.id, "name": row.name, "startTimeUnixNano": str(row.start_ns),
            "endTimeUnixNano": str(row.start_ns + row.duration_ns),
            "kind": _CLIENT if row.kind == "communication" else _INTERNAL,
            "attributes": [_attribute("thread.name", "stringValue", row.lane), *attributes],
        }  # fmt: skip
        if row.parent:
            span["parentSpanId"] = row.parent
        if row.failed:
            span["status"] = {"code": _FAILED}
        yield span


def _attribute(key: str, kind: str, value: object) -> dict:
    # The protocol writes 64-bit integers as texts.
    return {"key": key, "value": {kind: str(value)}}
