"""The events table, the traffic table and the records of a span file: columns, types, allowed words; checked on load.

`traces/README.md` tells the same in words. Times are ns, sizes bytes. Text columns are pandas categoricals, since a
trace of millions of events has a few thousand distinct names.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
import pandas as pd

SCHEMA_VERSION = 2  # 2: span files may hold lanes

KINDS = ("compute", "memory", "communication", "storage", "serialization", "wait", "runtime", "span")
SOURCES = ("measured", "modelled", "simulated")
# A kernel's own arguments; else the calls around its launch; the shapes and arguments of a call on the host; or an
# execution trace of the same run.
BYTES_SOURCES = ("kernel arguments", "launch and record_param_comms", "host call", "execution trace")
TIERS = ("l1", "l2", "l3", "dram", "hbm", "ssd", "nvlink", "pcie", "network")

# column -> (dtype, value where a reader has nothing to say, meaning)
EVENT_COLUMNS: dict[str, tuple[str, object, str]] = {
    "event_id": ("int64", None, "row key in the run"),
    "parent_id": ("int64", -1, "enclosing event on the same lane, -1 for none"),
    "launch_id": ("int64", -1, "host event that launched this device event, -1 for none"),
    "process": ("category", "", "trainer-0, shard-3, worker-1, rank-0..."),
    "rank": ("int32", -1, "rank in its group, -1 for none"),
    "lane": ("category", "", "thread or stream"),
    "device": ("category", "cpu", "cpu, cuda:0, mtia:0..."),
    "step": ("int64", -1, "iteration, request, split or round; -1 outside"),
    "name": ("category", "", "operator, kernel or span"),
    "kind": ("category", "span", "one of KINDS"),
    "phase": ("category", "", "forward, backward, optimizer, input... or empty"),
    "start_ns": ("int64", None, "Unix time on the run's clock"),
    "duration_ns": ("int64", None, "end - start, never negative"),
    "flops": ("float64", np.nan, "floating-point operations, NaN where unknown"),
    "collective": ("category", "", "all_to_all, all_reduce, all_gather, reduce_scatter, broadcast, send, recv..."),
    "group_size": ("int32", -1, "ranks in the collective's process group"),
    "message_bytes": ("float64", np.nan, "message size by the collective's own convention (costs/collectives.py)"),
    "bytes_source": ("category", "", "what tells message_bytes: one of BYTES_SOURCES, or empty"),
    "process_group": ("category", "", "name of the collective's process group"),
    "sequence": ("int64", -1, "number that the process group gives the collective, -1 unknown"),
    "operator_id": ("int32", -1, "row of the run's operators table: name, shapes, dtypes, concrete inputs"),
    "record_function_id": ("int64", -1, "id that profiler and execution trace give the same call, -1 unknown"),
    "cpu_ns": ("float64", np.nan, "CPU time of the thread that did it, NaN where not counted"),
    "trace": ("category", "", "trace id of the distributed request, 32 hexadecimal digits"),
    "span_id": ("uint64", 0, "id of this span in its trace, 0 for none"),
    "parent_span_id": ("uint64", 0, "span that caused this one, maybe in another process; 0 for none"),
    "source": ("category", "measured", "one of SOURCES"),
    "tags": ("category", "", "space-separated: warmup, profiled, error, gc..."),
}

TRAFFIC_COLUMNS: dict[str, str] = {
    "event_id": "int64", "tier": "category", "read_bytes": "float64", "write_bytes": "float64",
}  # fmt: skip

# One row an event of an all-to-all whose splits are known; entry i of a list is for the i-th rank of its process group.
SPLIT_COLUMNS = ("event_id", "sent_bytes", "received_bytes")

# One row a distinct sampled call stack of a thread ("" where the sampler does not say which): "outer;...;inner", how
# often it was seen (NaN where nobody counted), and its weight in `unit`: samples, ns or bytes.
STACK_COLUMNS: dict[str, str] = {
    "process": "str", "thread": "str", "stack": "str", "samples": "float64", "weight": "float64", "unit": "str",
}  # fmt: skip

# One row an event and another one that has to end first, of traces that record it.
DEPENDENCY_COLUMNS: dict[str, str] = {"event_id": "int64", "depends_on": "int64"}

# One row a distinct call signature; the three last columns are compact JSON text, "" where not recorded.
OPERATOR_COLUMNS = ("name", "input_dims", "input_types", "concrete_inputs")


# Wide enough for any clock, and narrow enough that two can be added in 64 bits.
_Time = Annotated[int, msgspec.Meta(ge=-(2**61), le=2**61)]
# 104 days: what lasts longer is damage, and a float holds it to the nanosecond.
LONGEST_NS = 2**53
_Duration = Annotated[int, msgspec.Meta(le=LONGEST_NS)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # a float holds them to the byte
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Header(msgspec.Struct, tag_field="record", tag="header", kw_only=True):
    """First line of a span file: who wrote it, and the anchor that maps its monotonic clock to Unix time."""

    schema: int
    process: str
    rank: _Int32
    pid: _Int64
    host: str
    wall_ns: _Time
    monotonic_ns: _Time


class Span(msgspec.Struct, tag_field="record", tag="span", kw_only=True, omit_defaults=True, gc=False):
    """One span as it is read, and checked. `start_ns` is on the writer's monotonic clock.

    `trace`, `span` and `parent` are ids of W3C Trace Context, in hexadecimal: 32, 16 and 16 digits. `traffic` has the
    bytes that it read from and wrote to each of TIERS, counted without those of spans inside it that say their own.
    """

    name: str
    kind: str
    start_ns: _Time
    duration_ns: _Duration
    lane: str = "main"
    phase: str = ""
    step: _Int64 = -1
    device: str = "cpu"
    flops: float | None = None
    collective: str = ""
    group_size: _Int32 = -1
    message_bytes: float | None = None
    cpu_ns: _Int64 | None = None
    trace: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32})?$")] = ""
    span: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{16})?$")] = ""
    parent: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{16})?$")] = ""
    source: str = "measured"
    tags: str = ""
    traffic: dict[str, tuple[_Bytes, _Bytes]] | None = None

    def __post_init__(self) -> None:
        _member("kind", self.kind, KINDS)
        _member("source", self.source, SOURCES)
        for tier in self.traffic or ():
            _member("tier", tier, TIERS)
        if not 0 <= self.duration_ns <= LONGEST_NS:
            raise ValueError(f"span {self.name!r} has a duration of {self.duration_ns} ns")


class LaneSpan(msgspec.Struct, array_like=True, gc=False):
    """A span in a `LaneLine`; what it shares with the others there is said once. `number` is what its id is counted by,
    `around` that of the span which caused it, 0 for the line's own `parent`."""

    name: str
    kind: str
    phase: str
    source: str
    tags: str
    message_bytes: float | None
    number: _Count
    around: _Count
    start_ns: _Time
    end_ns: _Time


class LaneLine(msgspec.Struct, tag_field="record", tag="lane", gc=False):
    """Spans of one strand of a distributed request, in the order in which they closed; `lanes.spans_of` spells them
    out.

    It is written while others wait for the processor, so it is what is at hand: numbers instead of ids, which count
    from the process's `id_zero`; and, instead of each span's CPU time, the `stretches` for which a thread ran the
    strand: from, to, CPU time meanwhile.
    """

    lane: str
    step: _Int64
    trace: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    parent: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{16})?$")]
    id_zero: _Count
    spans: list[LaneSpan]
    stretches: list[tuple[_Time, _Time, _Time]]


SPAN_FIELDS = frozenset(Span.__struct_fields__) - {"name", "start_ns", "duration_ns", "step", "lane"}


def _member(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(allowed)}")


def events_frame(columns: Mapping[str, object]) -> pd.DataFrame:
    """An events table from whatever columns a reader has; the others get their default. Validated."""
    length = len(columns["start_ns"])
    data = {}
    for name, (dtype, default, _) in EVENT_COLUMNS.items():
        if dtype == "category":
            data[name] = _categorical(columns[name]) if name in columns else repeated(default, length)
        elif name in columns:
            data[name] = np.asarray(columns[name], dtype=dtype)
        elif name == "event_id":
            data[name] = np.arange(length, dtype=np.int64)
        else:
            data[name] = np.full(length, default, dtype=dtype)
    frame = pd.DataFrame(data)
    validate_events(frame)
    return frame


def repeated(value: str, length: int) -> pd.Categorical:
    """A text column that says the same in every row."""
    return pd.Categorical.from_codes(np.zeros(length, dtype=np.int8), categories=pd.Index([value], dtype="str"))


def _categorical(values: object) -> pd.Categorical:
    """Categories are always of pandas' `str` type, also when there are none: only equal types can be merged."""
    values = pd.Categorical(values)
    return values.set_categories(values.categories.astype("str")) if values.categories.dtype != "str" else values


def validate_events(events: pd.DataFrame) -> None:
    """Raise ValueError with the first broken rule: columns, types, words, durations, keys and parents."""
    for name, (dtype, _, _) in EVENT_COLUMNS.items():
        if name not in events.columns:
            raise ValueError(f"events table lacks column {name!r}")
        if str(events[name].dtype) != dtype:
            raise ValueError(f"events column {name!r} is {events[name].dtype}, not {dtype}")
    for column, allowed in (("kind", KINDS), ("source", SOURCES)):
        for value in events[column].cat.categories:
            _member(column, value, allowed)
    if len(events) == 0:
        return
    if (events["duration_ns"].to_numpy() < 0).any():
        raise ValueError("events table holds a negative duration")
    identifiers = events["event_id"].to_numpy()
    rising = (np.diff(identifiers) > 0).all()  # as readers number them; sorting millions would cost a second
    if not rising and len(np.unique(identifiers)) != len(identifiers):
        raise ValueError("event_id is not unique")
    parents = events["parent_id"].to_numpy()
    counted = rising and identifiers[0] == 0 and identifiers[-1] == len(identifiers) - 1
    if not (parents.max() < len(identifiers) if counted else np.isin(parents[parents >= 0], identifiers).all()):
        raise ValueError("parent_id names an event that is not there")


def empty_events() -> pd.DataFrame:
    """An events table without rows."""
    return events_frame({"start_ns": [], "duration_ns": []})


def traffic_frame(rows: Sequence[tuple[int, str, float, float]]) -> pd.DataFrame:
    """The traffic table from (event id, tier, bytes read, bytes written)."""
    columns = zip(*rows, strict=True) if rows else [()] * len(TRAFFIC_COLUMNS)
    return pd.DataFrame({
        name: _categorical(values) if dtype == "category" else np.array(values, dtype=dtype)
        for (name, dtype), values in zip(TRAFFIC_COLUMNS.items(), columns, strict=True)
    })  # fmt: skip


def empty_traffic() -> pd.DataFrame:
    """A traffic table without rows."""
    return traffic_frame([])


def empty_operators() -> pd.DataFrame:
    """An operators table without rows."""
    return pd.DataFrame({name: pd.Series([], dtype="str") for name in OPERATOR_COLUMNS})


def splits_frame(event_ids: Sequence[int], sent: Sequence[Sequence], received: Sequence[Sequence]) -> pd.DataFrame:
    """The splits table: event id [n], bytes sent to and received from each rank of the group [n][ranks]."""
    columns = zip(SPLIT_COLUMNS[1:], (sent, received), strict=True)
    lists = {name: pd.Series([np.array(parts, dtype=np.float64) for parts in values], dtype="object")
             for name, values in columns}  # fmt: skip
    return pd.DataFrame({"event_id": np.array(event_ids, dtype=np.int64)} | lists)


def empty_splits() -> pd.DataFrame:
    """A splits table without rows."""
    return splits_frame([], [], [])


def empty_stacks() -> pd.DataFrame:
    """A stacks table without rows."""
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in STACK_COLUMNS.items()})


def empty_dependencies() -> pd.DataFrame:
    """A table of dependencies without rows."""
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in DEPENDENCY_COLUMNS.items()})
