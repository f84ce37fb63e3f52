"""Our own span files, `<process>.spans.jsonl`: a header line, then a line a span, possibly cut by a kill."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.trace.nesting import parents
from workbench.trace.part import Part
from workbench.trace.schema import SCHEMA_VERSION, Header, Span, events_frame

_DECODER = msgspec.json.Decoder(Header | Span)
_TEXT = ("name", "kind", "lane", "phase", "device", "collective", "source", "tags")


def read(path: Path) -> Part:
    """Spans of one process as events: lane `<thread>/spans`, times on the Unix clock by the header's anchor."""
    records, notes = _records(Path(path))
    if not records or not isinstance(records[0], Header):
        raise InputError(f"{path} is no span file: its first line is not a header")
    header, spans = records[0], [record for record in records[1:] if isinstance(record, Span)]
    if header.schema > SCHEMA_VERSION:
        raise InputError(f"{path} has schema {header.schema}; this workbench reads up to {SCHEMA_VERSION}")
    to_unix_ns = header.wall_ns - header.monotonic_ns
    columns = {name: pd.Categorical([getattr(span, name) for span in spans]) for name in _TEXT}
    columns["lane"] = columns["lane"].rename_categories(lambda lane: f"{lane}/spans")
    columns["process"] = pd.Categorical([header.process] * len(spans))
    columns["rank"] = np.full(len(spans), header.rank, dtype=np.int32)
    for name in ("step", "duration_ns", "group_size"):
        columns[name] = [getattr(span, name) for span in spans]
    for name in ("flops", "message_bytes"):
        columns[name] = [np.nan if (value := getattr(span, name)) is None else value for span in spans]
    columns["start_ns"] = np.array([span.start_ns for span in spans], dtype=np.int64) + to_unix_ns
    columns["parent_id"] = parents(columns["lane"].codes, columns["start_ns"], np.asarray(columns["duration_ns"]))
    info = {"file": str(path), "process": header.process, "rank": header.rank, "host": header.host, "pid": header.pid}
    return Part(events=events_frame(columns), info=info, notes=notes)


def _records(path: Path) -> tuple[list, list[str]]:
    records, notes = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            records.append(_DECODER.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number != len(lines):  # a cut last line is what a kill leaves; anything else is damage
                raise InputError(f"{path}, line {number} is no span record: {error}") from None
            notes.append(f"{path.name}: the last line was cut, as a killed process leaves it; it was left out")
    return records, notes
