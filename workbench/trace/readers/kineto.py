"""PyTorch profiler (Kineto) and other Chrome traces -> Part.

    bytes (decompress) -> chunks of whole events (chunks, salvage) -> columns (columns) -> tables (tables, about)

One pass over the file decodes it in bounded memory; what the events mean (kinds), how they hang together (links) and
what their collectives moved (messages) is then worked out on whole columns.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from workbench.errors import InputError
from workbench.trace.part import Part
from workbench.trace.readers import about
from workbench.trace.readers.chunks import EVENT_START, LOST_BYTES, EventChunks
from workbench.trace.readers.columns import FOREVER_NS, MISSING_NS, Columns, Event, nanoseconds
from workbench.trace.readers.decompress import Blocks
from workbench.trace.readers.salvage import LEFT_OUT, salvage
from workbench.trace.readers.tables import Tables
from workbench.trace.schema import events_frame

_CHUNK = msgspec.json.Decoder(list[Event])
_EVENT = msgspec.json.Decoder(Event)
_SEPARATORS = b", \t\r\n"
# Absolute times lie beyond 2001 (10^18 ns); smaller ones count from the start of something else.
_UNIX_SINCE_NS = 10**18


class _Decoded(NamedTuple):
    """The columns of a file's events, its other top-level keys, and what was wrong with it."""

    columns: Columns
    metadata: dict[str, Any]
    notes: list[str]


class Clock(NamedTuple):
    """When the earliest event of a trace starts by its own clock, and the Unix time that this clock counts from: 0
    where it is Unix time itself, or unknown."""

    first_ns: int
    base_ns: int


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: a decoder makes millions of objects, and no cycle of them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_uncollected()
def read(path: Path, between_ns: tuple[int, int] | None = None) -> Part:
    """Events, operators, traffic and memory of one profiler trace: `.json`, gzip or zip, an object or a bare array.

    Damaged events are repaired or left out, and `notes` counts them. Of events that do not lie wholly in `between_ns`
    (by the trace's own clock: see `clock`) nothing is kept. InputError where nothing of a trace is in it.
    """
    path = Path(path)
    columns, metadata, notes = _decode(path, Columns(between_ns))
    info = {"file": str(path)} | about.describe(metadata)
    info["process_groups"] = about.with_groups(info["process_groups"], columns.collectives)
    tables = Tables(columns, info)
    for device in info["devices"]:
        device["name"] = f"{tables.accelerator}:{device['name']}"
    events = tables.events() | {"rank": np.full(len(columns.name), info["rank"], dtype=np.int32)}
    notes += [*about.complaints(metadata), *tables.notes()]
    unix = len(columns.name) == 0 or tables.start_ns.min() > _UNIX_SINCE_NS
    info["clock"] = "unix" if unix else "relative"
    if not unix:
        notes.append("times do not count from 1970: they cannot be set beside those of other traces")
    return Part(
        events=events_frame(events), operators=tables.operators(), traffic=tables.traffic(),
        splits=tables.splits(), memory=tables.memory(), info=info, notes=[f"{path.name}: {note}" for note in notes],
    )  # fmt: skip


def head(path: Path) -> dict[str, Any]:
    """What stands before the events of a trace, as `about.describe` tells it: newer writers put all of it there."""
    chunks = EventChunks(Blocks(Path(path)), str(path))
    next(iter(chunks), None)
    return about.describe(about.decode(chunks.head + b"]}") or {})


def clock(path: Path) -> Clock | None:
    """The clock of a trace, from one pass over all of it; None where it has no events."""
    chunks = EventChunks(Blocks(Path(path)), str(path))
    first_ns, rest = FOREVER_NS, b""
    for chunk in chunks:
        events, _, rest = _events(rest + chunk)
        times_ns = nanoseconds([event.ts for event in events if event.ph in ("X", "B")])
        first_ns = min(first_ns, times_ns[times_ns != MISSING_NS].min(initial=FOREVER_NS))
    metadata = about.decode(chunks.head + chunks.tail) or about.decode(chunks.head + b"]}") or {}
    return None if first_ns == FOREVER_NS else Clock(int(first_ns), about.describe(metadata)["base_time_ns"])


def _decode(path: Path, columns: Columns) -> _Decoded:
    blocks = Blocks(path)
    chunks = EventChunks(blocks, str(path))
    defects, recognised, rest = Counter(), False, b""
    for chunk in chunks:
        events, found, rest = _events(rest + chunk)
        defects += found
        recognised = recognised or any(event.ph for event in events)
        columns.add(events)
    metadata = about.decode(chunks.head + chunks.tail) if chunks.tail else None
    if metadata is None and (rest or EVENT_START.search(chunks.tail)):
        # A lost quotation mark made the array seem to end too early, or not at all.
        events, found, rest = salvage(rest + chunks.tail, _EVENT)
        defects += found
        columns.add(events)
        if rest.lstrip(_SEPARATORS).startswith(b"]"):
            metadata, rest = about.decode(chunks.head + rest), b""
    defects[LEFT_OUT] += max(rest.count(b'"ph"'), 1) if rest else 0
    columns.finish()
    lost = defects.total() or columns.untimed or not chunks.tail
    if (columns.found == 0 and lost) or (chunks.bare and not recognised):
        raise InputError(f"{path} holds no readable event: expected a PyTorch profiler (Kineto) or Chrome trace")
    notes = [*blocks.notes, *_damage(defects, columns)]
    if metadata is None and chunks.tail:
        notes.append("what follows the events cannot be read: rank, devices and clock may be missing")
    elif metadata is None and (rest or not chunks.bare):  # a bare array may lawfully stay open
        notes.append("the file ends inside its events: it was cut")
    return _Decoded(columns, metadata or about.decode(chunks.head + b"]}") or {}, notes)


def _events(text: bytes) -> tuple[list[Event], Counter, bytes]:
    """The events of a chunk, their defects, and the text behind the last one, which may be part of the next chunk."""
    text = text.strip(_SEPARATORS)
    try:
        return _CHUNK.decode(b"".join((b"[", text, b"]"))), Counter(), b""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        events, defects, rest = salvage(text, _EVENT)
        return events, defects, rest[-LOST_BYTES:]


def _damage(defects: Counter, columns: Columns) -> list[str]:
    """Notes about what the writer got wrong."""
    left_out = defects.pop(LEFT_OUT)
    notes = [f"events repaired ({defect}): {count}" for defect, count in sorted(defects.items())]
    for count, what in (
        (left_out, "which could not be decoded"),
        (columns.negative, "which have a negative duration"),
        (columns.untimed, "which lack a time or duration, or have an impossible one"),
        (columns.unpaired, "which begin without an end or end without a begin"),
    ):
        if count:
            notes.append(f"events left out, {what}: {count}")
    if columns.found == 0:
        notes.append("no event in it")
    return notes
