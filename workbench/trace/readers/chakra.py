"""Chakra execution traces as JSON -> Part: the feeder's form (`workload_graph`) and what chakra_jsonizer writes.

Chakra's nodes have durations and dependencies, but mostly no start: then each starts as soon as what it depends on has
ended and its lane is free, one lane for the host and one for the device. Those starts are modelled, and say so.
"""

import heapq
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from workbench.costs.collectives import collective_of
from workbench.trace.part import Part
from workbench.trace.readers.columns import MISSING_NS, integer, nanoseconds
from workbench.trace.readers.documents import Int64, decode, expanded, values
from workbench.trace.readers.kinds import meaning
from workbench.trace.schema import DEPENDENCY_COLUMNS, events_frame

WHAT = "a Chakra execution trace as JSON (workload_graph, or the output of chakra_jsonizer)"

# et_def.proto of Chakra: NodeType and CollectiveCommType by number.
_NODE_TYPES = (
    "INVALID_NODE", "METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE", "COMM_RECV_NODE",
    "COMM_COLL_NODE",
)  # fmt: skip
_COLLECTIVES = (
    "all_reduce", "reduce", "all_gather", "gather", "scatter", "broadcast", "all_to_all", "reduce_scatter",
    "reduce_scatter", "barrier",
)  # fmt: skip
_KINDS = {"METADATA_NODE": "runtime", "MEM_LOAD_NODE": "memory", "MEM_STORE_NODE": "memory"}
# Chakra's converter numbers the pieces into which it cuts an operator: "aten::copy_(1)".
_PIECE = re.compile(r"\(\d+\)$")
_DEVICE_COPY = re.compile(r"Memcpy|Memset")
_BEYOND_NS = 2**61
_NONE = msgspec.Raw()


class FeederNode(msgspec.Struct, frozen=True):
    """A node of the feeder's form; `runtime` in us."""

    id: Int64 = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name", default="")
    type: int | str = msgspec.field(name="NodeType", default=0)
    runtime: msgspec.Raw = _NONE
    data_deps: list[Int64] = []
    control_deps: list[Int64] = msgspec.field(name="ctrlDeps", default=[])
    is_cpu_op: bool = True
    comm_type: Any = None
    comm_size: Any = None


class Feeder(msgspec.Struct, frozen=True):
    """A whole file of the feeder's form."""

    workload_graph: list[FeederNode]


class Attribute(msgspec.Struct, frozen=True, rename="camel"):
    """An attribute as protobuf's JSON mapping writes it: one of many typed values."""

    name: str = ""
    bool_val: Any = None
    int32_val: Any = None
    int64_val: Any = None
    uint64_val: Any = None


class ProtoNode(msgspec.Struct, frozen=True, rename="camel"):
    """A Node (or the GlobalMetadata, which has no id) of et_def.proto in protobuf's JSON mapping: 64-bit numbers are
    texts, zeros are left out."""

    id: Int64 | None = None
    name: str = ""
    type: int | str = 0
    ctrl_deps: list[Int64] = []
    data_deps: list[Int64] = []
    start_time_micros: msgspec.Raw = _NONE
    duration_micros: msgspec.Raw = _NONE
    attr: list[Attribute] = []


class _Node(NamedTuple):
    """Alike for both forms; `start_us`, `duration_us` are JSON numbers, empty where not known."""

    id: int
    name: str
    type: str
    depends_on: list[int]
    on_host: bool
    start_us: msgspec.Raw
    duration_us: msgspec.Raw
    collective: int
    message_bytes: int


def read(path: Path) -> Part:
    """Nodes as events, lane and device by `is_cpu_op`, and their dependencies.

    `source` is modelled where the starts are. InputError when the file is no Chakra trace.
    """
    path = Path(path)
    text, notes = expanded(path, WHAT)
    nodes, repairs = _nodes(text, str(path))
    notes += repairs
    distinct = {node.id: node for node in reversed(nodes)}
    if len(distinct) < len(nodes):
        notes.append(f"left out {len(nodes) - len(distinct)} nodes whose id another one has")
    nodes = sorted(distinct.values(), key=lambda node: node.id)
    row_of = {node.id: row for row, node in enumerate(nodes)}
    known = [[row_of[other] for other in node.depends_on if other in row_of] for node in nodes]
    missing = sum(len(node.depends_on) for node in nodes) - sum(map(len, known))
    notes += [f"{missing} dependencies name nodes that are not in the file"] if missing else []
    start_ns, duration_ns, source, time_notes = _times(nodes, known)
    events = _events(nodes) | {"start_ns": start_ns, "duration_ns": duration_ns, "source": [source] * len(nodes)}
    edges = [(row, before) for row, rows in enumerate(known) for before in rows]
    info = {
        "file": str(path), "rank": -1, "world_size": None, "backend": None, "devices": [], "process_groups": [],
        "clock": "relative",
    }  # fmt: skip
    dependencies = pd.DataFrame(edges, columns=list(DEPENDENCY_COLUMNS), dtype="int64")
    notes = [f"{path.name}: {note}" for note in notes + time_notes]
    return Part(events=events_frame(events), dependencies=dependencies, info=info, notes=notes)


def _nodes(text: bytes, where: str) -> tuple[list[_Node], list[str]]:
    first = next(values(text), b"")
    if b'"workload_graph"' in first:
        feeder, notes = decode(text, Feeder, where, WHAT)
        return [_from_feeder(node) for node in feeder.workload_graph], notes
    nodes, notes = [], []
    for piece in values(text):
        node, repairs = decode(piece, ProtoNode, where, WHAT)
        nodes += [] if node.id is None else [_from_proto(node)]
        notes += repairs
    if not nodes:
        decode(text, Feeder, where, WHAT)  # says what is missing
    return nodes, notes


def _from_feeder(node: FeederNode) -> _Node:
    return _Node(
        node.id, node.name, _type(node.type), [*node.control_deps, *node.data_deps], node.is_cpu_op, _NONE,
        node.runtime, integer(node.comm_type), integer(node.comm_size),
    )  # fmt: skip


def _from_proto(node: ProtoNode) -> _Node:
    attributes = {a.name: next((v for v in (a.bool_val, a.int64_val, a.uint64_val, a.int32_val) if v is not None), None)
                  for a in node.attr}  # fmt: skip
    return _Node(
        node.id, node.name, _type(node.type), [*node.ctrl_deps, *node.data_deps],
        attributes.get("is_cpu_op", True) is not False, node.start_time_micros, node.duration_micros,
        integer(attributes.get("comm_type")), integer(attributes.get("comm_size")),
    )  # fmt: skip


def _type(value: int | str) -> str:
    if isinstance(value, str):
        return value
    return _NODE_TYPES[value] if 0 <= value < len(_NODE_TYPES) else _NODE_TYPES[0]


def _events(nodes: list[_Node]) -> dict[str, object]:
    """Columns of the events table, without times."""
    words = [_meaning(node) for node in nodes]
    sizes = [node.message_bytes if node.message_bytes >= 0 and collective else np.nan
             for node, (_, collective) in zip(nodes, words, strict=True)]  # fmt: skip
    return {
        "name": [node.name for node in nodes],
        "kind": [kind for kind, _ in words], "collective": [collective for _, collective in words],
        "device": ["cpu" if node.on_host else "device:0" for node in nodes],
        "lane": ["host" if node.on_host else "device" for node in nodes],
        "message_bytes": sizes,
    }  # fmt: skip


def _meaning(node: _Node) -> tuple[str, str]:
    """Kind and collective."""
    name = _PIECE.sub("", node.name)
    if node.type.startswith("COMM_"):
        if node.type != "COMM_COLL_NODE":
            return "communication", "send" if node.type == "COMM_SEND_NODE" else "recv"
        known = 0 <= node.collective < len(_COLLECTIVES)
        return "communication", _COLLECTIVES[node.collective] if known else collective_of(name) or ""
    if node.type in _KINDS:
        return _KINDS[node.type], ""
    if not node.on_host:
        return "memory" if _DEVICE_COPY.match(name) else "compute", ""
    return meaning("cpu_op", name).kind, ""


def _times(nodes: list[_Node], depends_on: list[list[int]]) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """Start and duration [n] in ns, their source, and notes."""
    duration_ns = nanoseconds([node.duration_us for node in nodes])
    lasting = (duration_ns >= 0) & (duration_ns < _BEYOND_NS // max(len(nodes), 1))
    duration_ns = np.where(lasting, duration_ns, 0)
    start_ns = nanoseconds([node.start_us for node in nodes])
    if len(nodes) and ((start_ns != MISSING_NS) & (start_ns >= 0) & (start_ns < _BEYOND_NS)).all():
        return start_ns, duration_ns, "measured", []
    order = _in_order(depends_on)
    notes = ["it has no start times: each node starts when what it depends on has ended and its lane is free"]
    if len(order) < len(nodes):
        notes.append(f"{len(nodes) - len(order)} nodes depend on one another in a circle, or on such: they come last")
        order += sorted(set(range(len(nodes))).difference(order))
    return _earliest(nodes, order, depends_on, duration_ns), duration_ns, "modelled", notes if nodes else []


def _in_order(depends_on: list[list[int]]) -> list[int]:
    """Rows so that each comes behind what it depends on, small ids first; without those in circles and behind them."""
    waits_for = [len(before) for before in depends_on]
    followers: list[list[int]] = [[] for _ in depends_on]
    for row, before in enumerate(depends_on):
        for other in before:
            followers[other].append(row)
    ready, order = [row for row, count in enumerate(waits_for) if count == 0], []
    while ready:
        order.append(heapq.heappop(ready))
        for row in followers[order[-1]]:
            waits_for[row] -= 1
            if waits_for[row] == 0:
                heapq.heappush(ready, row)
    return order


def _earliest(nodes: list[_Node], order: list[int], depends_on: list[list[int]], duration_ns: np.ndarray) -> np.ndarray:
    """Start [n] in ns of each node, when they are taken in `order`."""
    free_ns = {True: 0, False: 0}
    end_ns = [0] * len(nodes)
    for row in order:
        lane = nodes[row].on_host
        free_ns[lane] = max([free_ns[lane], *(end_ns[other] for other in depends_on[row])]) + int(duration_ns[row])
        end_ns[row] = free_ns[lane]
    return np.array(end_ns, dtype=np.int64) - duration_ns
