"""Whose is each instant of a process: layers of disjoint segments, and the first layer that covers it wins.

Where a device worked, the layers are its streams: compute, then communication, then copies. Communication under
compute therefore counts as compute, and a copy counts only where neither runs.

Without a device the host is the device, and its threads are the layers. The critical thread comes first: its
compute, its communication, transfers on other threads, its copies, its waits; then what other threads do meanwhile
(the autograd thread of a trace that lost its device). What no layer covers inside a step is the host's: Python,
the framework, runtime wrappers.

The steps of a server are its requests; while none is inside it is idle. Its lanes are strands of requests, none of
which comes before the others: their compute comes first, their waits last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import numpy as np
import pandas as pd

from workbench.analyses.core.intervals import EMPTY, Intervals, intersect, merge, subtract, total_ns, union
from workbench.analyses.core.rows import SPAN_LANE, of_category, of_request, recorded, tagged, weakest_source
from workbench.analyses.core.segments import Segments, self_segments
from workbench.trace.run import Run

PARTS = ("compute", "communication", "copy", "host", "idle")
# A thread blocked in a wait does nothing; waiting inside a collective is communication instead.
PART_OF_KIND = {
    "compute": "compute", "communication": "communication", "memory": "copy", "storage": "copy", "wait": "idle",
}  # fmt: skip


# What layers are made of.
_LAYERED = ["lane", "device", "step", "start_ns", "end_ns", "part", "source"]


@dataclass(frozen=True)
class Layer:
    """The segments of one lane that belong to one part; `segments.event` are rows of `run.events`."""

    part: str
    lane: str
    segments: Segments


@dataclass(frozen=True)
class Timeline:
    """One device of one process over the sampled steps; on a host without a device, one process.

    `steps` [step, start_ns, end_ns] lie in `windows`; `active` is where layers count, and `rest` the part of an active
    instant that no layer covers. Outside `active` a window is idle.
    """

    process: str
    rank: int
    device: str
    steps: pd.DataFrame
    windows: Intervals
    active: Intervals
    rest: str
    critical_lane: str
    layers: list[Layer]
    source: str

    @property
    def on_device(self) -> bool:
        """A device worked: its streams are the layers."""
        return self.rest == "idle"

    @property
    def from_spans(self) -> bool:
        """No profiler watched: the layers are a recorder's spans."""
        return any(layer.lane.endswith(SPAN_LANE) for layer in self.layers)

    @cached_property
    def parts(self) -> dict[str, Intervals]:
        """PARTS as disjoint interval sets whose union is `windows`."""
        remaining = intersect(self.windows, self.active)
        found = {part: [EMPTY] for part in PARTS}
        found["idle"].append(subtract(self.windows, self.active))
        for layer in self.layers:
            found[layer.part].append(intersect(layer.segments.intervals, remaining))
            remaining = subtract(remaining, layer.segments.intervals)
        found[self.rest].append(remaining)
        return {part: union(*sets) for part, sets in found.items()}

    def everything(self, part: str) -> Intervals:
        """All that any layer has of one part, whatever runs beside it."""
        return union(*(layer.segments.intervals for layer in self.layers if layer.part == part))

    def foreground(self) -> Intervals:
        """The compute that hides communication: the layers before the first one that communicates."""
        leading = takewhile(lambda layer: layer.part == "compute", self.layers)
        return union(*(layer.segments.intervals for layer in leading))

    def owners(self) -> list[Segments]:
        """Disjoint segments, layer by layer, each owned by the event of the first layer that covers it."""
        remaining, owned = intersect(self.windows, self.active), []
        for layer in self.layers:
            owned.append(layer.segments.within(remaining))
            remaining = subtract(remaining, layer.segments.intervals)
        return owned


def timelines(run: Run) -> list[Timeline]:
    """One a process and device, by rank; processes in which nothing ran and no step passed are left out."""
    rows = _rows_of_interest(run.events)
    return [
        timeline
        for (rank, process), of_process in _groups(rows, ["rank", "process"])
        for timeline in _of_process(str(process), int(rank), of_process)
    ]


def _groups(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """(key, its rows) by key; where all rows share one, these are millions that need no copy."""
    if len(rows) and all((rows[name] == rows[name].iloc[0]).all() for name in by):
        yield tuple(rows[by].iloc[0]), rows
    else:
        yield from rows.groupby(by, observed=True)


def _rows_of_interest(events: pd.DataFrame) -> pd.DataFrame:
    """The events that a timeline is made of, with part, recorded, of_request, warmup, profiled and marks_step. Where a
    device worked that is what ran on it, and the host's operators, most of a trace, are left out."""
    part, mine, warmup = _part(events), recorded(events), _warmup(events)
    has_part, marks_step = part.codes >= 0, _marks_step(events)
    processes = events["process"].cat.codes.to_numpy()
    worked = has_part & ~mine & (events["device"] != "cpu").to_numpy() & (part != "idle")
    with_device = np.isin(processes, np.unique(processes[worked]))
    wanted = worked | warmup | (~with_device & (has_part | marks_step))
    chosen = np.flatnonzero(wanted & (events["duration_ns"] > 0).to_numpy())
    columns = ["process", "rank", "lane", "device", "step", "start_ns", "duration_ns", "source"]
    rows = events[columns].take(chosen).set_axis(chosen)
    rows["end_ns"] = rows["start_ns"] + rows["duration_ns"]
    flags = {
        "recorded": mine, "of_request": of_request(events), "warmup": warmup,
        "profiled": tagged(events, "profiled"), "marks_step": marks_step,
    }  # fmt: skip
    return rows.assign(part=part[chosen], **{name: flag[chosen] for name, flag in flags.items()})


def _part(events: pd.DataFrame) -> pd.Categorical:
    """One of PARTS [events], or none."""
    kinds = events["kind"].cat
    by_kind = [PARTS.index(PART_OF_KIND[kind]) if kind in PART_OF_KIND else -1 for kind in kinds.categories]
    codes = np.array([*by_kind, -1])[kinds.codes]
    waits_for_ranks = ((events["kind"] == "wait") & (events["collective"] != "")).to_numpy()
    codes[waits_for_ranks] = PARTS.index("communication")
    return pd.Categorical.from_codes(codes, categories=list(PARTS))


def _warmup(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of those tagged so, and of all that servers did for a request whose caller tagged it."""
    tags, of_requests = tagged(events, "warmup"), of_request(events)
    return tags | (of_requests & events["step"].isin(events.loc[tags & of_requests, "step"]).to_numpy())


def _marks_step(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of the profiler's step annotations on the host, of the recorder's step spans, and of the outermost
    spans of a request in a process."""
    annotated = of_category(events["name"], lambda name: name.startswith("ProfilerStep")) & (events["device"] == "cpu")
    outermost = of_request(events) & (events["parent_id"] == -1)
    return np.where(recorded(events), outermost | (events["name"] == "step"), annotated)


def _of_process(process: str, rank: int, rows: pd.DataFrame) -> Iterator[Timeline]:
    has_part = rows["part"].notna()
    busy = rows.loc[has_part & ~rows["recorded"], _LAYERED]
    on_device = busy[(busy["device"] != "cpu") & (busy["part"] != "idle")]
    if len(on_device):
        warm = rows.loc[rows["warmup"], "step"].unique()
        for device, of_device in on_device.groupby("device", observed=True):
            yield _device_timeline(process, rank, str(device), of_device, warm)
        return
    # A run that no profiler watched still has its own spans.
    busy = busy if len(busy) else rows.loc[has_part, _LAYERED]
    marks = _step_marks(rows)
    if len(busy) or len(marks):
        yield _host_timeline(process, rank, busy, marks)


def _device_timeline(process: str, rank: int, device: str, busy: pd.DataFrame, warm: np.ndarray) -> Timeline:
    """Layers are streams. A step lasts from its first device event to the first of the next one; what was launched
    outside any step belongs to the step before it."""
    busy = busy.sort_values("start_ns")
    number = busy["step"].where(busy["step"] >= 0).ffill().bfill().fillna(-1).astype("int64")
    steady = ~number.isin(warm)
    busy, number = (busy[steady], number[steady]) if steady.any() else (busy, number)
    bounds = {"start_ns": ("start_ns", "min"), "end_ns": ("end_ns", "max")}
    steps = busy.groupby(number).agg(**bounds).rename_axis("step").reset_index()
    in_a_row = steps.groupby((steps["step"].diff() != 1).cumsum())
    last_ns, steps["start_ns"] = in_a_row["end_ns"].transform("max"), in_a_row["start_ns"].cummax()
    # A NaN would make these floats, too coarse for Unix time in ns.
    next_ns = in_a_row["start_ns"].shift(-1, fill_value=-1)
    steps["end_ns"] = next_ns.where(next_ns >= 0, last_ns)
    steps = steps[steps["end_ns"] > steps["start_ns"]].reset_index(drop=True)
    windows = merge(steps["start_ns"], steps["end_ns"])
    layers = [
        Layer(part, lane, segments)
        for part in ("compute", "communication", "copy")
        for lane, of_lane in _by_lane(busy[busy["part"] == part]).items()
        for segments in [of_lane[part]]
    ]
    most = max(layers, key=lambda layer: (layer.part == "compute", total_ns(layer.segments.intervals)))
    return Timeline(process, rank, device, steps, windows, windows, "idle", most.lane, layers, weakest_source(busy))


def _step_marks(rows: pd.DataFrame) -> pd.DataFrame:
    """The steps that the profiler annotated, else the recorder's: those it tagged profiled where a profiler ran. Of a
    request there may be several marks in a process, with idle time between."""
    marks = rows[rows["marks_step"]]
    annotated = marks[~marks["recorded"]]
    if len(annotated):
        marks = annotated
    elif marks["profiled"].any():
        marks = marks[marks["profiled"]]
    steady = marks[~marks["step"].isin(rows.loc[rows["warmup"], "step"])]
    marks = steady if len(steady) else marks
    return marks[["step", "start_ns", "end_ns", "lane", "of_request"]]


def _host_timeline(process: str, rank: int, busy: pd.DataFrame, marks: pd.DataFrame) -> Timeline:
    """Layers are threads. Steps in a row form a window; what lies between two windows was not sampled."""
    lanes = _by_lane(busy)
    critical, served = _busiest(lanes), len(marks) > 0 and marks["of_request"].all()
    if len(marks) == 0:
        marks = pd.DataFrame({"step": [-1], "start_ns": [busy["start_ns"].min()], "end_ns": [busy["end_ns"].max()]})
    elif not served:
        marked = str(marks["lane"].mode()[0])
        critical = marked if marked in lanes or not lanes else critical
    bounds = {"start_ns": ("start_ns", "min"), "end_ns": ("end_ns", "max")}
    steps = marks.groupby("step", as_index=False).agg(**bounds)
    hulls = steps.groupby((steps["step"].diff() != 1).cumsum()).agg(**bounds)
    own = list(lanes) if served else [critical] if critical in lanes else []
    others = [lane for lane in lanes if lane not in own]
    order = [("compute", own), ("communication", own), ("communication", others), ("copy", own), ("idle", own),
             ("compute", others), ("copy", others)]  # fmt: skip
    layers = [Layer(part, lane, lanes[lane][part]) for part, some in order for lane in some]
    return Timeline(
        process, rank, "cpu", steps, merge(hulls["start_ns"], hulls["end_ns"]),
        merge(marks["start_ns"], marks["end_ns"]), "host", critical, layers, weakest_source(busy),
    )  # fmt: skip


def _busiest(lanes: dict[str, dict[str, Segments]]) -> str:
    """The lane with the most time outside communication: a thread that only transfers is not the one that waits."""

    def busy_ns(lane: str) -> tuple[int, int]:
        all_ns = {part: total_ns(segments.intervals) for part, segments in lanes[lane].items()}
        return sum(all_ns.values()) - all_ns["communication"], sum(all_ns.values())

    return max(lanes, key=busy_ns, default="")


def _by_lane(busy: pd.DataFrame) -> dict[str, dict[str, Segments]]:
    """Self segments of the rows, by lane and part; a collective is one piece with all that runs inside it."""
    found, part = {}, np.empty(busy.index.max() + 1 if len(busy) else 0, dtype=np.int8)
    part[busy.index] = busy["part"].cat.codes
    for (lane,), rows in _groups(busy[["lane", "start_ns", "end_ns"]], ["lane"]):
        event = rows.index.to_numpy()
        whole = part[event] == PARTS.index("communication")
        segments = self_segments(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy(), event, whole)
        own = part[segments.event]
        found[str(lane)] = {name: segments.take(np.flatnonzero(own == code)) for code, name in enumerate(PARTS)}
    return found
