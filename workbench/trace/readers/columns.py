"""Decoded events to compact columns: texts become codes and times become int64 ns, a chunk at a time.

Only what the events table needs is decoded at all (the fields of `Event` and `Args`); the rest of an event's text is
skipped. An event costs about 100 bytes here, where Python objects would take ten times that.
"""

from collections.abc import Hashable, Iterable
from itertools import compress
from typing import Any, NamedTuple

import msgspec
import numba
import numpy as np

from workbench.trace.schema import LONGEST_NS

_NONE = msgspec.Raw()
MISSING_NS = np.iinfo(np.int64).min
FOREVER_NS = np.iinfo(np.int64).max
# No clock is this far from its beginning (73 years): with a base time and a duration it still fits 64 bits.
BEYOND_NS = 2**61


class Args(msgspec.Struct, frozen=True, gc=False):
    """An event's arguments that the table needs. `Any` where writers disagree on the type."""

    input_dims: msgspec.Raw = msgspec.field(name="Input Dims", default=_NONE)
    input_types: msgspec.Raw = msgspec.field(name="Input type", default=_NONE)
    concrete_inputs: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=_NONE)
    old_input_dims: msgspec.Raw = msgspec.field(name="Input dims", default=_NONE)
    correlation: Any = -1
    record_function_id: Any = msgspec.field(name="Record function id", default=-1)
    stream: Any = None
    bytes: Any = None
    size: Any = None  # MTIA's word for bytes
    direction: Any = None  # of an MTIA copy: HOST_TO_DEVICE...
    address: Any = msgspec.field(name="Addr", default=None)  # this and the next five are of a [memory] instant
    changed_bytes: Any = msgspec.field(name="Bytes", default=None)
    device_type: Any = msgspec.field(name="Device Type", default=None)
    device_index: Any = msgspec.field(name="Device Id", default=None)
    allocated_bytes: Any = msgspec.field(name="Total Allocated", default=None)
    reserved_bytes: Any = msgspec.field(name="Total Reserved", default=None)
    collective: Any = msgspec.field(name="Collective name", default=None)
    in_elements: Any = msgspec.field(name="In msg nelems", default=None)
    out_elements: Any = msgspec.field(name="Out msg nelems", default=None)
    group_size: Any = msgspec.field(name="Group size", default=None)
    dtype: Any = None
    in_split: Any = msgspec.field(name="In split size", default=None)
    out_split: Any = msgspec.field(name="Out split size", default=None)
    process_group: Any = msgspec.field(name="Process Group Name", default=None)
    group_ranks: Any = msgspec.field(name="Process Group Ranks", default=None)
    sequence: Any = msgspec.field(name="Seq", default=None)  # "Sequence number" counts autograd's nodes


class Event(msgspec.Struct, frozen=True, gc=False):
    """One trace event. Times stay text: as floats, absolute microseconds would lose their nanoseconds."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | float | str | None = None
    tid: int | float | str | None = None
    ts: msgspec.Raw = _NONE
    dur: msgspec.Raw = _NONE
    args: Args = Args()


class CollectiveArgs(NamedTuple):
    """What an event says of its collective. No `Args`: its raw JSON is a view that keeps the whole chunk in memory."""

    name: Any
    in_elements: Any
    out_elements: Any
    group_size: Any
    dtype: Any
    in_split: Any
    out_split: Any
    process_group: Any
    group_ranks: Any
    sequence: Any


class MemoryChange(NamedTuple):
    """What a `[memory]` instant says: an allocation, or (negative) a release, and the allocator's totals after it."""

    pid: Any
    tid: Any
    device_type: Any
    device_index: Any
    address: Any
    changed_bytes: Any
    allocated_bytes: Any
    reserved_bytes: Any


class Codes(dict):
    """Value -> code, counted from 0 in order of first appearance; a look-up of a new value adds it."""

    def __missing__(self, value: Hashable) -> int:
        code = self[value] = len(self)
        return code

    def encode(self, values: list) -> np.ndarray:
        """Codes [n], int32."""
        return np.fromiter(map(self.__getitem__, values), dtype=np.int32, count=len(values))


class Columns:
    """Rows of complete events in file order (events written as begin and end come last).

    After `finish`: `names`, `tracks` (category, pid, tid) and `operators` (see `call_signature`) map values to codes;
    `name`, `track`, `operator` [n] hold the codes (operator -1 for none); `start_ns`, `duration_ns`, `correlation`,
    `record_function_id` [n] are int64. `streams[track]` is a device track's stream if its events name one, `moved` is
    (row, bytes, direction) of copies and fills, `collectives` (row, arguments) of events that describe a collective;
    `memory` [m] the changes of memory, at `memory_ns` [m]. `found` counts the events, also those outside `between_ns`
    (on the trace's own clock), of which nothing else is kept.
    """

    def __init__(self, between_ns: tuple[int, int] | None = None) -> None:
        self.names, self.tracks, self.operators = Codes(), Codes(), Codes()
        self.streams: list[Any] = []
        self.moved: list[tuple[int, Any, Any]] = []
        self.collectives: list[tuple[int, CollectiveArgs]] = []
        self.memory: list[MemoryChange] = []
        self.found = self.untimed = self.negative = self.unpaired = 0
        self._first_ns, self._last_ns = between_ns or (-FOREVER_NS, FOREVER_NS)
        self._rows = 0
        self._chunks: list[tuple[np.ndarray, ...]] = []
        self._open: dict[tuple, list[Event]] = {}
        self._paired: list[tuple[Event, msgspec.Raw]] = []
        self._memory_ns: list[np.ndarray] = []

    def add(self, events: list[Event]) -> None:
        """Take the complete events of a chunk and its changes of memory; flows, counters, other instants and metadata
        are not for the tables."""
        complete = [event for event in events if event.ph == "X"]
        if len(complete) < len(events):
            self._pair(events)
            if changes := [event for event in events if event.ph == "i" and event.name == "[memory]"]:
                self._change(changes)
        if complete:
            starts_ns = nanoseconds([event.ts for event in complete])
            self._append(complete, starts_ns, nanoseconds([event.dur for event in complete]))

    def finish(self) -> None:
        """Append the paired events and join the chunks."""
        self.unpaired += sum(map(len, self._open.values()))
        if self._paired:
            starts_ns = nanoseconds([event.ts for event, _ in self._paired])
            ends_ns = nanoseconds([end for _, end in self._paired])
            durations_ns = np.where(_possible(ends_ns), ends_ns - starts_ns, MISSING_NS)
            self._append([event for event, _ in self._paired], starts_ns, durations_ns)
        dtypes = (np.int32, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64)
        joined = [
            np.concatenate([np.empty(0, dtype), *(chunk[column] for chunk in self._chunks)])
            for column, dtype in enumerate(dtypes)
        ]
        self.name, self.track, self.operator, self.start_ns, self.duration_ns = joined[:5]
        self.correlation, self.record_function_id = joined[5:]
        self._chunks.clear()
        self.memory_ns = np.concatenate([np.empty(0, np.int64), *self._memory_ns])

    def _pair(self, events: list[Event]) -> None:
        """Match each end ("E") with the innermost open begin ("B") of its thread."""
        for event in events:
            if event.ph == "B":
                # A copy, since raw JSON is a view that would keep its whole chunk in memory.
                begin = Event("X", event.cat, event.name, event.pid, event.tid, event.ts.copy())
                self._open.setdefault((event.pid, event.tid), []).append(begin)
            elif event.ph == "E":
                if stack := self._open.get((event.pid, event.tid)):
                    self._paired.append((stack.pop(), event.ts.copy()))
                else:
                    self.unpaired += 1

    def _change(self, instants: list[Event]) -> None:
        """Take `[memory]` instants."""
        times_ns = nanoseconds([event.ts for event in instants])
        timed = _possible(times_ns)
        self.untimed += int((~timed).sum())
        kept = timed & (times_ns >= self._first_ns) & (times_ns <= self._last_ns)
        self._memory_ns.append(times_ns[kept])
        for event in compress(instants, kept):
            a = event.args
            described = (a.address, a.changed_bytes, a.allocated_bytes, a.reserved_bytes)
            self.memory.append(MemoryChange(event.pid, event.tid, a.device_type, a.device_index, *described))

    def _append(self, events: list[Event], starts_ns: np.ndarray, durations_ns: np.ndarray) -> None:
        timed = _possible(starts_ns) & _possible(durations_ns) & (durations_ns <= LONGEST_NS)
        whole = timed & (durations_ns >= 0)
        self.found += int(whole.sum())
        kept = whole & (starts_ns >= self._first_ns) & (starts_ns + durations_ns <= self._last_ns)
        if not kept.all():
            self.untimed += int((~timed).sum())
            self.negative += int((timed & ~whole).sum())
            events, starts_ns, durations_ns = list(compress(events, kept)), starts_ns[kept], durations_ns[kept]
        args, names = [event.args for event in events], [event.name for event in events]
        track = self.tracks.encode([(event.cat, event.pid, event.tid) for event in events])
        if len(self.tracks) > len(self.streams):
            codes, first_rows = np.unique(track, return_index=True)
            self.streams += [args[row].stream for row in first_rows[codes >= len(self.streams)]]
        codes = self.names.encode(names), track, self._operators(names, args)
        ids = _integers([a.correlation for a in args]), _integers([a.record_function_id for a in args])
        self._chunks.append((*codes, starts_ns, durations_ns, *ids))
        for row, a in enumerate(args, self._rows):
            if a.bytes is not None or a.size is not None:
                self.moved.append((row, a.size if a.bytes is None else a.bytes, a.direction))
            if a.collective is not None:
                described = CollectiveArgs(
                    a.collective, a.in_elements, a.out_elements, a.group_size, a.dtype, a.in_split, a.out_split,
                    a.process_group, a.group_ranks, a.sequence,
                )  # fmt: skip
                self.collectives.append((row, described))
        self._rows += len(events)

    def _operators(self, names: list[str], args: list[Args]) -> np.ndarray:
        """Operator codes [n]. One bytes object a signature is made and found twice as fast as a tuple of five."""
        rows = [row for row, a in enumerate(args) if a.input_types is not _NONE or a.input_dims is not _NONE]
        recorded = [(args[row], names[row].encode()) for row in rows]
        signatures = [
            b"\0".join((a.input_dims, a.old_input_dims, a.input_types, a.concrete_inputs, name)) for a, name in recorded
        ]
        codes = np.full(len(args), -1, dtype=np.int32)
        codes[rows] = self.operators.encode(signatures)
        return codes


def _possible(times_ns: np.ndarray) -> np.ndarray:
    """Mask [n] of what is a time at all; MISSING_NS is not."""
    return (times_ns > -BEYOND_NS) & (times_ns < BEYOND_NS)


def call_signature(signature: bytes) -> tuple[str, bytes, bytes, bytes]:
    """Name, input dims, input types and concrete inputs (raw JSON, empty where not recorded) of an operator."""
    dims, old_dims, types, concrete_inputs, name = signature.split(b"\0", 4)  # valid JSON holds no zero byte
    return name.decode(), dims or old_dims, types, concrete_inputs


def integer(value: Any, bits: int = 64) -> int:
    """`value` as a signed integer of so many bits; -1 where it is none."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return -1
    return number if number.bit_length() < bits else -1


def _integers(values: list) -> np.ndarray:
    try:
        return np.fromiter(values, dtype=np.int64, count=len(values))
    except (TypeError, ValueError, OverflowError):
        return np.fromiter(map(integer, values), dtype=np.int64, count=len(values))


def nanoseconds(microseconds: Iterable[msgspec.Raw]) -> np.ndarray:
    """Decimal texts of microseconds as int64 ns [n], rounded to the nearest; MISSING_NS where one is no number."""
    texts = list(microseconds)
    joined = b"\n".join(texts)
    if joined.count(b"\n") != len(texts) - 1:  # a value that is no number may span lines
        joined = b"\n".join(bytes(text).replace(b"\n", b" ") for text in texts)
    return _nanoseconds(np.frombuffer(joined, dtype=np.uint8), len(texts))


_NEWLINE, _QUOTE, _PLUS, _MINUS, _POINT, _ZERO, _NINE, _SMALL_E, _LARGE_E = b'\n"+-.09eE'
_ROOM = (2**63 - 10) // 10  # a mantissa up to here takes one more digit


@numba.njit(cache=True)
def _nanoseconds(text, count):
    """Integer arithmetic on the digits: sign, mantissa, decimal point, exponent; quotation marks are passed over."""
    found = np.full(count, MISSING_NS, dtype=np.int64)
    slot = 0
    mantissa, digits, shift, exponent = 0, 0, 0, 0
    negative, after_point, in_exponent, negative_exponent, broken = False, False, False, False, False
    for index in range(len(text) + 1):
        byte = text[index] if index < len(text) else _NEWLINE
        if byte == _NEWLINE:
            if digits > 0 and not broken:
                power = 3 + shift - exponent if negative_exponent else 3 + shift + exponent
                found[slot] = _scaled(-mantissa if negative else mantissa, power)
            slot += 1
            mantissa, digits, shift, exponent = 0, 0, 0, 0
            negative, after_point, in_exponent, negative_exponent, broken = False, False, False, False, False
        elif _ZERO <= byte <= _NINE:
            digits += 1
            if in_exponent:
                exponent = min(10 * exponent + byte - _ZERO, 99)
            elif mantissa <= _ROOM:
                mantissa = 10 * mantissa + (byte - _ZERO)
                shift -= after_point
            else:  # no room: a digit before the point still counts as a factor of ten
                shift += not after_point
        elif byte == _POINT:
            after_point = True
        elif byte in (_SMALL_E, _LARGE_E):
            in_exponent = True
        elif byte == _MINUS:
            negative, negative_exponent = negative or not in_exponent, in_exponent
        elif byte != _PLUS and byte != _QUOTE:
            broken = True
    return found


@numba.njit(cache=True)
def _scaled(mantissa, power):
    """mantissa * 10**power as int64, rounded half away from zero; MISSING_NS beyond 64 bits."""
    for _ in range(power):
        if abs(mantissa) > _ROOM:
            return MISSING_NS
        mantissa *= 10
    if power >= 0:
        return mantissa
    if power < -18:
        return 0
    divisor = 1
    for _ in range(-power):
        divisor *= 10
    rest = abs(mantissa) + divisor // 2
    return rest // divisor if mantissa >= 0 else -(rest // divisor)
