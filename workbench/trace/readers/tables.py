"""From the columns of a decoded trace to the tables of a Part: places, meanings, parents, launches, steps, messages."""

import re
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from workbench.trace.nesting import parents
from workbench.trace.readers import about, links
from workbench.trace.readers.columns import Codes, Columns, call_signature
from workbench.trace.readers.communication import Communication
from workbench.trace.readers.copies import traffic_frame
from workbench.trace.readers.kinds import DEVICE_CATEGORIES, LAUNCHED_CATEGORIES, Meaning, canonical, meaning
from workbench.trace.readers.memory_events import memory_table
from workbench.trace.readers.messages import Message, called, described
from workbench.trace.schema import KINDS, OPERATOR_COLUMNS

_STEP = re.compile(r"ProfilerStep#(\d{1,18})$")
_PHASES = ("", "backward", "optimizer")
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
# Copies and fills; other events carry a "size" too, of the call that launched them.
_MOVING = frozenset({"gpu_memcpy", "gpu_memset", "mtia_ccp_events"})


class Tables:
    """The tables of one trace, each worked out when first asked for. Row numbers are event_ids.

    `info` is what the trace says about itself (see `about`); its base time is added to all times.
    """

    def __init__(self, columns: Columns, info: dict[str, Any]) -> None:
        self._columns, self._info = columns, info
        self._names = list(columns.names)
        self._signatures = [
            (name, *map(_compact, shapes)) for name, *shapes in map(call_signature, columns.operators)
        ]  # fmt: skip
        self._categories = [canonical(category, pid) for category, pid, _ in columns.tracks]
        self.start_ns = columns.start_ns + info["base_time_ns"]
        self.end_ns = self.start_ns + columns.duration_ns

    @cached_property
    def accelerator(self) -> str:
        """The word before a device's number, as in cuda:0 (also for ROCm, which keeps CUDA's names)."""
        runtimes = (category for category in self._categories if category.endswith("_runtime"))
        return next((category.removesuffix("_runtime") for category in runtimes), "cuda")

    def events(self) -> dict[str, object]:
        """Columns of the events table (those of which a trace has something to say)."""
        columns = self._columns
        devices, lanes, _ = zip(*self._places, strict=True) if self._places else ((), (), ())
        return {
            "parent_id": self.parent, "launch_id": self.launch, "step": self.step,
            "start_ns": self.start_ns, "duration_ns": columns.duration_ns,
            "device": _categorical(devices, columns.track), "lane": _categorical(lanes, columns.track),
            "name": pd.Categorical.from_codes(columns.name, self._names),
            "kind": pd.Categorical.from_codes(self.kind, KINDS),
            "phase": pd.Categorical.from_codes(self.phase, _PHASES),
            "operator_id": columns.operator, "record_function_id": columns.record_function_id,
            **self._communication.columns(self._rows_of(DEVICE_CATEGORIES)),
        }  # fmt: skip

    def operators(self) -> pd.DataFrame:
        """One row a distinct call signature, by operator_id; JSON without whitespace, "" where not recorded."""
        return pd.DataFrame(self._signatures, columns=list(OPERATOR_COLUMNS), dtype="str")

    def traffic(self) -> pd.DataFrame:
        """Bytes that copies and fills moved through each tier."""
        columns = self._columns
        return traffic_frame(
            (row, str(direction or self._names[columns.name[row]]), size)
            for row, size, direction in columns.moved
            if self._categories[columns.track[row]] in _MOVING
        )

    def memory(self) -> pd.DataFrame:
        """The memory table: each change inside the innermost host event that was open on its thread."""
        changes, times_ns = self._columns.memory, self._columns.memory_ns + self._info["base_time_ns"]
        lanes = Codes()
        lanes.encode(self._places)
        changed = lanes.encode([("cpu", f"thread {change.tid}", change.pid) for change in changes])
        rows = np.flatnonzero(np.isin(self._lane, changed))
        around = parents(
            np.concatenate([self._lane[rows], changed]), np.concatenate([self.start_ns[rows], times_ns]),
            np.concatenate([self._columns.duration_ns[rows], np.zeros_like(times_ns)]),
        )[len(rows) :]  # fmt: skip
        event_ids = np.full(len(changes), -1, dtype=np.int64)
        event_ids[around >= 0] = rows[around[around >= 0]]
        return memory_table(changes, times_ns, event_ids, self.accelerator)

    def splits(self) -> pd.DataFrame:
        """How the all-to-alls are split."""
        return self._communication.splits()

    def notes(self) -> list[str]:
        """Findings about the trace's integrity, most of which change what an analysis can say."""
        kernels = self._rows_of({"kernel"})
        unlaunched = int((self.launch[kernels] < 0).sum())
        in_operator = links.inherit(self._rows_of({"cpu_op"}).astype(np.int8), self.parent)
        launched = kernels & (self.launch >= 0)
        outside = int((in_operator[self.launch[launched]] == 0).sum())
        graphs = [code for code, name in enumerate(self._names) if name.endswith("GraphLaunch")]
        graph_launches = np.flatnonzero(np.isin(self._columns.name, graphs))
        in_graphs = int(np.isin(self.launch[kernels], graph_launches).sum())
        overlapping = links.overlaps(self._lane, self.parent, self.start_ns, self.end_ns)
        found = [
            (unlaunched, f"kernels without a launching call in the trace: {_part(unlaunched, kernels.sum())}"),
            (outside, f"kernels launched outside any recorded operator: {_part(outside, kernels.sum())}"),
            (len(graph_launches), f"graph launches: {len(graph_launches)}; the operators of their {in_graphs} kernels "
             "cannot be told"),
            (overlapping, f"events that overlap the one before on the same thread or stream: {overlapping}"),
        ]  # fmt: skip
        return [note for count, note in found if count]

    @cached_property
    def parent(self) -> np.ndarray:
        """Row [n] of the innermost enclosing event of the same lane, -1 for none."""
        return parents(self._lane, self.start_ns, self._columns.duration_ns)

    @cached_property
    def launch(self) -> np.ndarray:
        """Row [n] of the host call that launched a device event, -1 elsewhere."""
        is_call = self._rows_of({c for c in self._categories if c.endswith(("_runtime", "_driver"))})
        return links.launch_rows(self._columns.correlation, is_call, self._rows_of(LAUNCHED_CATEGORIES))

    @cached_property
    def step(self) -> np.ndarray:
        """Number [n] of the profiler step in which a host event starts, or a device event's launch did; else -1."""
        numbers = {code: int(found[1]) for code, name in enumerate(self._names) if (found := _STEP.match(name))}
        rows = np.flatnonzero(self._rows_of({"user_annotation", "cpu_op"}) & np.isin(self._columns.name, [*numbers]))
        if len(rows):  # the main thread's steps, should others have some too
            rows = rows[self._lane[rows] == self._lane[rows[0]]]
        number = np.array([numbers[code] for code in self._columns.name[rows].tolist()], dtype=np.int64)
        step = links.steps_at(self.start_ns, self.start_ns[rows], self.end_ns[rows], number)
        launched = self.launch >= 0
        step[launched] = step[self.launch[launched]]
        return step

    @cached_property
    def kind(self) -> np.ndarray:
        """Index [n] into KINDS."""
        return self._by_meaning(lambda found: _KIND_CODES[found.kind])

    @cached_property
    def phase(self) -> np.ndarray:
        """Index [n] into _PHASES: an event's own, else that of the event around it, or around its launch."""
        phase = links.inherit(self._by_meaning(lambda found: _PHASES.index(found.phase)), self.parent)
        launched = self.launch >= 0
        phase[launched] = phase[self.launch[launched]]
        return phase

    @cached_property
    def _communication(self) -> Communication:
        group_size = about.group_size(self._info)

        @cache
        def by_call(category: int, name: int, operator: int) -> Message:
            signature = self._signatures[operator] if operator >= 0 else ("", "", "", "")
            return called(self._meanings[category, name].collective, signature, group_size)

        rows = np.flatnonzero(self.kind == _KIND_CODES["communication"])
        rows = rows[np.argsort(self.start_ns[rows], kind="stable")]
        calls = zip(self._category[rows], self._columns.name[rows], self._columns.operator[rows], strict=True)
        own = {row: by_call(*call) for row, call in zip(rows.tolist(), calls, strict=True)}
        own |= {row: described(args) for row, args in self._columns.collectives if row in own}
        names = {row: self._names[self._columns.name[row]] for row in own}
        return Communication(own, names, self.launch, self.parent, self._info)

    @cached_property
    def _places(self) -> list[tuple[str, str, object]]:
        """(device, lane, pid) of each track."""
        tracks = zip(self._categories, self._columns.tracks, self._columns.streams, strict=True)
        return [
            (*_place(category, pid, tid, stream, self.accelerator), pid)
            for category, (_, pid, tid), stream in tracks
        ]  # fmt: skip

    @cached_property
    def _lane(self) -> np.ndarray:
        """Code [n] of the thread or stream: events of several categories share one."""
        return np.asarray(Codes().encode(self._places), dtype=np.int32)[self._columns.track]

    @cached_property
    def _category_codes(self) -> Codes:
        codes = Codes()
        codes.encode(self._categories)
        return codes

    @cached_property
    def _category(self) -> np.ndarray:
        """Code [n] of the category."""
        return self._category_codes.encode(self._categories)[self._columns.track]

    @cached_property
    def _meanings(self) -> dict[tuple[int, int], Meaning]:
        """By (category code, name code), for the pairs that occur."""
        present = np.zeros((len(self._category_codes), len(self._names)), dtype=bool)
        present[self._category, self._columns.name] = True
        categories, names = list(self._category_codes), frozenset(self._names)
        return {
            (category, name): meaning(categories[category], self._names[name], names)
            for category, name in np.argwhere(present).tolist()
        }

    def _by_meaning(self, code: Callable[[Meaning], int]) -> np.ndarray:
        """`code(meaning)` of each row [n], int8."""
        table = np.zeros((len(self._category_codes), len(self._names)), dtype=np.int8)
        for pair, found in self._meanings.items():
            table[pair] = code(found)
        return table[self._category, self._columns.name]

    def _rows_of(self, categories: set[str] | frozenset[str]) -> np.ndarray:
        """Mask [n] of the events of these categories."""
        return np.array([category in categories for category in self._categories], dtype=bool)[self._columns.track]


def _place(category: str, pid: object, tid: object, stream: object, accelerator: str) -> tuple[str, str]:
    """Device and lane of a track. Synchronisation and Python calls get lanes of their own: they overlap what runs."""
    if category in DEVICE_CATEGORIES:
        lane = f"stream {_number(tid if stream is None else stream)}"
        return f"{accelerator}:{_number(pid)}", f"{lane}/sync" if category == "cuda_sync" else lane
    if category == "trace":
        return "cpu", "profiler"
    return "cpu", f"thread {tid}/python" if category == "python_function" else f"thread {tid}"


def _number(value: object) -> int:
    """The number that `value` is or ends in: 'stream 7' -> 7."""
    found = re.search(r"-?\d+$", str(value))
    return int(found[0]) if found else 0


def _categorical(values: tuple[str, ...], codes: np.ndarray) -> pd.Categorical:
    """values[codes] as a categorical, where `values` may repeat."""
    distinct = Codes()
    recoded = distinct.encode(list(values))
    return pd.Categorical.from_codes(recoded[codes], list(distinct))


def _compact(raw: bytes) -> str:
    try:
        return msgspec.json.format(raw, indent=-1).decode("utf-8", "replace") if raw else ""
    except msgspec.DecodeError:
        return ""


def _part(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / max(total, 1):.1f} %)"
