"""PyTorch execution traces (torch.profiler.ExecutionTraceObserver), schemas 1.0.1 to 1.1.1, -> Part.

They say what was called, with every operand, and in which order, but not when: `trace/link.py` joins them with a
profile of the same run. Only the file that Chakra's linker writes has times in it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.trace.part import Part
from workbench.trace.readers.columns import MISSING_NS, Codes, nanoseconds
from workbench.trace.readers.documents import read_document
from workbench.trace.readers.execution_collectives import Collective, collectives, process_groups
from workbench.trace.readers.execution_nodes import Document, Node, node
from workbench.trace.readers.execution_operands import TensorUse, signature, tensors
from workbench.trace.readers.kinds import DEVICE_CATEGORIES, Meaning, canonical, meaning
from workbench.trace.readers.links import inherit
from workbench.trace.readers.messages import Message, called, resolve
from workbench.trace.schema import OPERATOR_COLUMNS, empty_operators, events_frame

WHAT = "a PyTorch execution trace (torch.profiler.ExecutionTraceObserver)"
KNOWN_SCHEMAS = ("1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.1.0", "1.1.1")
NO_TIMES = "it has no times, only an order: start_ns counts the calls, durations are 0"

# Nodes that stand for the process and its threads, not for calls.
_STRUCTURE = re.compile(r"\[pytorch\|profiler\|execution_(graph|trace)\|(process|thread)\]$|__ROOT_(PROCESS|THREAD)__$")
_STEP = re.compile(r"ProfilerStep#(\d{1,15})$")
_USER_SCOPE = 7  # RecordScope::USER_SCOPE: an annotation
_PHASES = ("", "backward", "optimizer")
_UNIX_SINCE_NS, _BEYOND_NS = 10**18, 2**61


@dataclass(frozen=True)
class Execution:
    """What an execution trace knows beyond its events; `event_id` is the row of the events table.

    `collectives` by event_id. `tensors`: event_id, role (input, output), and the fields of `TensorUse`: who writes a
    storage_id and who reads it next depend on one another.
    """

    schema: str
    collectives: dict[int, Collective]
    tensors: pd.DataFrame


def read(path: Path) -> Part:
    """Calls in order as events, their signatures as operators; `info["execution"]` is an Execution.

    Without times start_ns counts the calls, durations are 0 and `info["clock"]` is "order". InputError when the file is
    no execution trace.
    """
    path = Path(path)
    document, notes = read_document(path, Document, WHAT)
    nodes, duplicates = _in_order(map(node, document.nodes))
    if duplicates:
        notes.append(f"left out {duplicates} nodes whose id another one has")
    if not document.schema.startswith(KNOWN_SCHEMAS):
        schema = document.schema.replace("\n", " ")[:40] or "not given"
        notes.append(f"its schema ({schema}) is not among those known: {', '.join(KNOWN_SCHEMAS)}")
    groups = process_groups(nodes)
    calls = [call for call in nodes if not _STRUCTURE.match(call.name)]
    if not calls:
        notes.append("no call in it")
    found = collectives(calls, groups)
    start_ns, duration_ns, clock, time_notes = _times(calls)
    operator_ids, operators = _operators(calls)
    events = _events(calls, found) | {"operator_id": operator_ids, "start_ns": start_ns, "duration_ns": duration_ns}
    info = {
        "file": str(path), "rank": -1, "world_size": None, "backend": None, "devices": [], "process_groups": groups,
        "clock": clock, "execution": Execution(document.schema, found, _tensors(calls)),
    }  # fmt: skip
    notes = [f"{path.name}: {note}" for note in notes + time_notes]
    return Part(events=events_frame(events), operators=operators, info=info, notes=notes)


def _in_order(nodes: Iterable[Node]) -> tuple[list[Node], int]:
    """Nodes by id, which counts them as they start, and how many were left out as duplicates."""
    listed = sorted(nodes, key=lambda found: found.id)
    distinct: dict[int, Node] = {}
    for found in listed:
        distinct.setdefault(found.id, found)
    return list(distinct.values()), len(listed) - len(distinct)


def _events(calls: list[Node], found: dict[int, Collective]) -> dict[str, object]:
    """Columns of the events table, without times and operators."""
    row_of = {call.id: row for row, call in enumerate(calls)}
    # A call starts after the one that makes it: a larger parent id is damage, and would make circles possible.
    parents = np.array([row_of.get(c.parent_id, -1) if c.parent_id < c.id else -1 for c in calls], dtype=np.int64)
    categories = [_category(call) for call in calls]
    names = frozenset(call.name for call in calls)
    meanings = [meaning(category, call.name, names) for category, call in zip(categories, calls, strict=True)]
    phases = inherit(np.array([_PHASES.index(words.phase) for words in meanings], dtype=np.int8), parents)
    messages = _messages(calls, meanings, found, parents)
    places = [_place(call, category) for call, category in zip(calls, categories, strict=True)]
    return {
        "parent_id": parents, "step": _steps(calls),
        "record_function_id": [call.record_function_id for call in calls],
        "name": [call.name for call in calls],
        "device": [device for device, _ in places], "lane": [lane for _, lane in places],
        "kind": [words.kind for words in meanings], "phase": pd.Categorical.from_codes(phases, _PHASES),
        "collective": [message.collective for message in messages],
        "group_size": [min(message.group_size, 2**31 - 1) for message in messages],
        "message_bytes": [message.size_bytes for message in messages],
    }  # fmt: skip


def _messages(
    calls: list[Node], meanings: list[Meaning], found: dict[int, Collective], parents: np.ndarray
) -> list[Message]:
    """Collective, group size and message size of each call; all-to-all is taken as even, as in a profile."""
    own = {}
    for row, (call, words) in enumerate(zip(calls, meanings, strict=True)):
        if known := found.get(row):
            own[row] = Message(known.collective, known.group_size, known.even_bytes)
        elif words.kind == "communication":
            own[row] = called(words.collective, signature(call), -1)
    resolved = resolve(own, np.full(len(calls), -1), parents)
    return [resolved.get(row, Message("")) for row in range(len(calls))]


def _category(call: Node) -> str:
    """The profiler's word for it."""
    if call.category:
        return canonical(call.category, None)
    return "user_annotation" if call.scope == _USER_SCOPE else "cpu_op"


def _place(call: Node, category: str) -> tuple[str, str]:
    """Device and lane."""
    if category not in DEVICE_CATEGORIES:
        return "cpu", f"thread {call.thread}"
    devices = (tensor.device for tensor in tensors([*call.inputs, *call.outputs]) if ":" in tensor.device)
    return next(devices, "cuda:0"), f"stream {call.stream}"


def _steps(calls: list[Node]) -> np.ndarray:
    """Number [n] of the profiler step that began last, -1 before the first."""
    steps, step = np.full(len(calls), -1, dtype=np.int64), -1
    for row, call in enumerate(calls):
        if matched := _STEP.match(call.name):
            step = int(matched[1])
        steps[row] = step
    return steps


def _times(calls: list[Node]) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """Start and duration [n] in ns, what clock they are on, and notes."""
    start_ns = nanoseconds([call.start_us for call in calls])
    duration_ns = nanoseconds([call.duration_us for call in calls])
    timed = (start_ns >= 0) & (start_ns < _BEYOND_NS) & (duration_ns != MISSING_NS)
    timed &= (duration_ns >= 0) & (duration_ns < _BEYOND_NS)
    if not timed.any():
        return np.arange(len(calls)), np.zeros(len(calls), dtype=np.int64), "order", [NO_TIMES] if calls else []
    last_timed = np.maximum.accumulate(np.where(timed, np.arange(len(calls)), -1))
    start_ns = start_ns[np.where(last_timed >= 0, last_timed, np.argmax(timed))]
    clock = "unix" if start_ns.min() > _UNIX_SINCE_NS else "relative"
    untimed = int((~timed).sum())
    note = f"{untimed} calls have no time: they stand where the call before them starts, with duration 0"
    return start_ns, np.where(timed, duration_ns, 0), clock, [note] if untimed else []


def _operators(calls: list[Node]) -> tuple[np.ndarray, pd.DataFrame]:
    """Row of the operators table for each call [n], -1 without operands, and that table."""
    codes = Codes()
    ids = [codes[signature(call)] if call.inputs else -1 for call in calls]
    table = pd.DataFrame(list(codes), columns=list(OPERATOR_COLUMNS), dtype="str") if codes else empty_operators()
    return np.array(ids, dtype=np.int32), table


def _tensors(calls: list[Node]) -> pd.DataFrame:
    rows = [
        (row, role, *tensor)
        for row, call in enumerate(calls)
        for role, operands in (("input", call.inputs), ("output", call.outputs))
        for tensor in tensors(operands)
    ]
    if not rows:
        return empty_tensors()
    frame = pd.DataFrame(rows, columns=["event_id", "role", *TensorUse._fields])
    return frame.astype(dict.fromkeys(("role", "device", "dtype"), "category"))


def empty_tensors() -> pd.DataFrame:
    """The tensors of an execution trace that uses none."""
    return pd.DataFrame(columns=["event_id", "role", *TensorUse._fields])
