"""Our own span files, `<process>.spans.jsonl`: a header line, then a line a span or a lane, possibly cut by a kill."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.trace.lanes import spans_of
from workbench.trace.nesting import parents
from workbench.trace.part import Part
from workbench.trace.schema import SCHEMA_VERSION, Header, LaneLine, Span, events_frame, traffic_frame

_DECODER = msgspec.json.Decoder(Header | Span | LaneLine)
_TEXT = ("name", "kind", "lane", "phase", "device", "collective", "trace", "source", "tags")


def read(path: Path) -> Part:
    """Spans of one process as events: lane `<thread>/spans`, times on the Unix clock by the header's anchor; and the
    traffic that they say.

    The parent is the span that encloses it on its lane; a span that names its parent has that one, on whatever lane,
    where it is in this file.
    """
    records, notes = _records(Path(path))
    if not records or not isinstance(records[0], Header):
        raise InputError(f"{path} is no span file: its first line is not a header")
    header, spans = records[0], _as_last_told([record for record in records[1:] if isinstance(record, Span)])
    if header.schema > SCHEMA_VERSION:
        raise InputError(f"{path} has schema {header.schema}; this workbench reads up to {SCHEMA_VERSION}")
    to_unix_ns = header.wall_ns - header.monotonic_ns
    columns = {name: pd.Categorical([getattr(span, name) for span in spans]) for name in _TEXT}
    columns["lane"] = columns["lane"].rename_categories(lambda lane: f"{lane}/spans")
    columns["process"] = pd.Categorical([header.process] * len(spans))
    columns["rank"] = np.full(len(spans), header.rank, dtype=np.int32)
    for name in ("step", "duration_ns", "group_size"):
        columns[name] = [getattr(span, name) for span in spans]
    for name in ("flops", "message_bytes", "cpu_ns"):
        columns[name] = [np.nan if (value := getattr(span, name)) is None else value for span in spans]
    columns["start_ns"] = np.array([span.start_ns for span in spans], dtype=np.int64) + to_unix_ns
    columns["span_id"] = np.array([int(span.span or "0", 16) for span in spans], dtype=np.uint64)
    columns["parent_span_id"] = np.array([int(span.parent or "0", 16) for span in spans], dtype=np.uint64)
    columns["duration_ns"] = np.asarray(columns["duration_ns"], dtype=np.int64)
    enclosing = parents(columns["lane"].codes, columns["start_ns"], columns["duration_ns"])
    callers = _callers(columns["span_id"], columns["parent_span_id"], columns["start_ns"], columns["duration_ns"])
    columns["parent_id"] = np.where(callers >= 0, callers, enclosing)
    info = {"file": str(path), "process": header.process, "rank": header.rank, "host": header.host, "pid": header.pid}
    traffic = [(row, tier, *moved) for row, span in enumerate(spans) for tier, moved in (span.traffic or {}).items()]
    return Part(events=events_frame(columns), traffic=traffic_frame(traffic), info=info, notes=notes)


def _as_last_told(spans: list[Span]) -> list[Span]:
    """Of spans that were written again, with the same id, the last line; in the order of those lines."""
    last = {(span.trace, span.span): place for place, span in enumerate(spans) if span.span}
    return [span for place, span in enumerate(spans) if not span.span or last[span.trace, span.span] == place]


def _callers(
    span_ids: np.ndarray, parent_span_ids: np.ndarray, start_ns: np.ndarray, duration_ns: np.ndarray
) -> np.ndarray:
    """Row [n] of the span that each one names as its parent; -1 where it names none, or none in this file.

    A parent starts first; of two that start together it is the longer one, or the one that was written later. Without
    that order a damaged file could send whoever climbs to the root round in a circle.
    """
    named = np.flatnonzero(span_ids)
    unique, first = np.unique(span_ids[named], return_index=True)
    callers = pd.Series(named[first], index=unique).reindex(parent_span_ids, fill_value=-1).to_numpy()
    rows = np.arange(len(span_ids))
    place = np.empty_like(rows)
    place[np.lexsort((-rows, -duration_ns, start_ns))] = rows
    return np.where((callers >= 0) & (place[callers] < place), callers, -1) if len(rows) else callers


def _records(path: Path) -> tuple[list, list[str]]:
    records, notes = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = _DECODER.decode(line)
            records.extend(list(spans_of(record)) if isinstance(record, LaneLine) else [record])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if number != len(lines):  # a cut last line is what a kill leaves; anything else is damage
                raise InputError(f"{path}, line {number} is no span record: {error}") from None
            notes.append(f"{path.name}: the last line was cut, as a killed process leaves it; it was left out")
    return records, notes
