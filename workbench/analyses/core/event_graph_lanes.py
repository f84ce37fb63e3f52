"""Which events make up the lanes of an event graph, on one clock, and the windows that a run's steps form.

A lane is a thread of a process or a stream of a device. Python frames belong to their thread. A process that a profiler
watched shows its operators; of the recorder's spans it keeps only those that say why the main thread stood still. A
place where nothing but annotations lies is no lane.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.analyses.core.rows import of_category, of_request, recorded, tagged
from workbench.trace.stitch import MAIN_LANE

_PYTHON, _SYNC, _PROFILER = "/python", "/sync", "profiler"
# What a recorder's span says that no operator does.
_TELLING_KINDS = ("wait", "communication", "storage", "serialization")


@dataclass(frozen=True)
class Lanes:
    """`start_ns`, `end_ns` [events] are on one clock, and `lane` [events] is the number of an event's lane, -1 for what
    lies on none; `beside` [events] is the lane of what else happened there too (a stream's synchronisation). `rows` are
    the events on lanes, by lane and start; those of lane l are rows[first[l]:first[l + 1]].

    By lane: `name`, `process` (its code in the events table), `rank`, `on_device`, and `main` (the lane of its process
    that drives the others, -1 for none). Main lanes have the lowest numbers.
    """

    start_ns: np.ndarray
    end_ns: np.ndarray
    lane: np.ndarray
    beside: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    name: np.ndarray
    process: np.ndarray
    rank: np.ndarray
    on_device: np.ndarray
    main: np.ndarray

    def of(self, lane: int) -> np.ndarray:
        """Rows of one lane, by start."""
        return self.rows[self.first[lane] : self.first[lane + 1]]


class Window(NamedTuple):
    """Steps in a row: from the first start of a step over the ranks to their last end (`host_end_ns`), and to the end
    of what their devices still did (`end_ns`). `steps` is empty for a trace without any."""

    start_ns: int
    host_end_ns: int
    end_ns: int
    steps: tuple[int, ...]


def lanes(events: pd.DataFrame, ahead_ns: dict[str, int]) -> Lanes:
    """The lanes of all events; `ahead_ns` says by how much the clock of a process is ahead."""
    process = events["process"].cat.codes.to_numpy()
    on_device, ours, works = (events["device"] != "cpu").to_numpy(), recorded(events), _works(events)
    names = pd.Index(events["lane"].cat.categories).str.removesuffix(_PYTHON).str.removesuffix(_SYNC)
    place = _places(events, process, pd.factorize(names)[0])
    somewhere = np.empty(place.max() + 1, dtype=np.int64)
    somewhere[place] = np.arange(len(place))
    profiled = np.bincount(process[works & ~ours], minlength=process.max() + 1) > 0
    shown = ~(ours & profiled[process]) & (works | ~on_device) & ~of_category(events["lane"], _lies_apart)
    drives = _main_places(events, process, place, shown & works & ~on_device & ~ours)
    telling = ours & events["kind"].isin(_TELLING_KINDS).to_numpy() & (events["lane"] == MAIN_LANE).to_numpy()
    moved = telling & profiled[process] & (drives[process] >= 0)
    place[moved] = drives[process[moved]]
    shown |= moved
    numbered = _numbered(np.bincount(place[shown & works], minlength=len(somewhere)) > 0, drives)
    number = np.full(len(somewhere) + 1, -1, dtype=np.int32)  # the last one stands for no place
    number[numbered] = np.arange(len(numbered))
    beside = number[place]
    lane = np.where(shown, beside, np.int32(-1))
    clock_ns = np.array([ahead_ns.get(name, 0) for name in events["process"].cat.categories], dtype=np.int64)
    start_ns = events["start_ns"].to_numpy() - clock_ns[process]
    since_ns = start_ns - start_ns.min()
    order = np.argsort(lane * (since_ns.max() + 1) + since_ns, kind="stable")
    rows = order[np.count_nonzero(lane < 0) :].astype(np.int32)
    some = somewhere[numbered]
    return Lanes(
        start_ns=start_ns, end_ns=start_ns + events["duration_ns"].to_numpy(), lane=lane, beside=beside,
        rows=rows, first=np.searchsorted(lane[rows], np.arange(len(numbered) + 1)),
        name=names.to_numpy(object)[events["lane"].cat.codes.to_numpy()[some]], process=process[some],
        rank=events["rank"].to_numpy()[some], on_device=on_device[some], main=number[drives[process[some]]],
    )  # fmt: skip


def windows(events: pd.DataFrame, found: Lanes) -> list[Window]:
    """The windows of the sampled steps, warm-up left out; one of everything where there are no steps."""
    on_lane = found.lane >= 0
    host_work = on_lane & _works(events) & (events["device"] == "cpu").to_numpy()
    on_device = on_lane & (events["device"] != "cpu").to_numpy()
    marks = _step_marks(events)
    if not marks.any():
        start_ns, host_end_ns = found.start_ns[on_lane].min(), found.end_ns[host_work].max(initial=0)
        end_ns = found.end_ns[on_device].max(initial=host_end_ns)
        return [Window(int(start_ns), int(host_end_ns), int(end_ns), ())]
    bounds = pd.DataFrame({"start_ns": found.start_ns[marks], "end_ns": found.end_ns[marks]})
    steps = bounds.groupby(events["step"].to_numpy()[marks]).agg({"start_ns": "min", "end_ns": "max"})
    numbers, step_of = steps.index.to_numpy(), events["step"].to_numpy()
    # Requests run beside one another, and between them are those that were not sampled.
    apart = np.diff(numbers) != 1 if not of_request(events)[marks].all() else np.zeros(len(numbers) - 1, dtype=bool)
    formed = []
    for own in np.split(np.arange(len(steps)), np.flatnonzero(apart) + 1):
        host_end_ns = int(steps["end_ns"].iloc[own].max())
        theirs = on_device & (step_of >= numbers[own[0]]) & (step_of <= numbers[own[-1]])
        end_ns = int(found.end_ns[theirs].max(initial=host_end_ns))
        formed.append(Window(int(steps["start_ns"].iloc[own].min()), host_end_ns, end_ns, tuple(numbers[own].tolist())))
    return formed


def within(events: pd.DataFrame, found: Lanes, window: Window) -> pd.DataFrame:
    """lane, start_ns, end_ns, event (row) of what lies in the window, clipped to it, in time since its start, by lane.

    The devices' own steps last until the end of the window, all else until the hosts' end.
    """
    rows, step = found.rows, events["step"].to_numpy()
    theirs = np.isin(step, window.steps) if window.steps else np.ones(len(step), dtype=bool)
    until_ns = np.where((theirs & (events["device"] != "cpu").to_numpy())[rows], window.end_ns, window.host_end_ns)
    start_ns = np.maximum(found.start_ns[rows], window.start_ns)
    end_ns = np.minimum(found.end_ns[rows], until_ns)
    inside = end_ns > start_ns
    return pd.DataFrame(
        {
            "lane": found.lane[rows][inside], "start_ns": start_ns[inside] - window.start_ns,
            "end_ns": end_ns[inside] - window.start_ns, "event": rows[inside],
        },
        copy=False,
    )  # fmt: skip


def _works(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of what is no annotation; of everything where there is nothing else."""
    works = (events["kind"] != "span").to_numpy()
    return works if works.any() else ~works


def _lies_apart(lane: str) -> bool:
    return lane == _PROFILER or lane.endswith(_SYNC)


def _places(events: pd.DataFrame, process: np.ndarray, thread: np.ndarray) -> np.ndarray:
    """Code [events] of the thread or stream of a process; `thread` [lane categories] is the same for one thread."""
    devices = events["device"].cat
    device = process * np.int64(len(devices.categories)) + devices.codes
    return pd.factorize(device * (thread.max() + 1) + thread[events["lane"].cat.codes])[0].astype(np.int32)


def _main_places(events: pd.DataFrame, process: np.ndarray, place: np.ndarray, works: np.ndarray) -> np.ndarray:
    """By process: where its steps are annotated, else where most operators run that are not of the backward pass; -1
    for a process without operators."""
    operators = works & (events["kind"].isin(("compute", "memory")) & (events["phase"] != "backward")).to_numpy()
    count = np.bincount(place[operators], minlength=place.max() + 1)
    marks = np.bincount(place[_annotated_steps(events)], minlength=len(count))
    process_of = np.empty(len(count), dtype=np.int64)
    process_of[place] = process
    ranking = np.lexsort((count, marks))
    ranking = ranking[count[ranking] > 0]
    found = np.full(process.max() + 1, -1)
    found[process_of[ranking]] = ranking  # the last of several wins
    return found


def _annotated_steps(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of a profiler's step annotations on the host."""
    named = of_category(events["name"], lambda name: name.startswith("ProfilerStep"))
    return named & (events["device"] == "cpu").to_numpy() & ~recorded(events)


def _step_marks(events: pd.DataFrame) -> np.ndarray:
    """Mask [events] of what says when a sampled step began and ended: annotations, else a recorder's spans (those of
    profiled steps, if some are), else requests to servers as their callers saw them."""
    marks = _annotated_steps(events)
    if not marks.any():
        marks = recorded(events) & (events["name"] == "step").to_numpy()
        profiled = marks & tagged(events, "profiled")
        marks = profiled if profiled.any() else marks
    if not marks.any():
        marks = recorded(events) & of_request(events) & (events["parent_span_id"] == 0).to_numpy()
    steps = events["step"].to_numpy()
    return marks & ~np.isin(steps, steps[tagged(events, "warmup")])


def _numbered(used: np.ndarray, drives: np.ndarray) -> np.ndarray:
    """The used places in the order of their lanes' numbers: main ones first."""
    is_main = np.zeros(len(used), dtype=bool)
    is_main[drives[drives >= 0]] = True
    places = np.flatnonzero(used)
    return places[np.argsort(~is_main[places], kind="stable")]
