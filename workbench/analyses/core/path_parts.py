"""The critical path as a table of parts, and all work of its windows as another.

A part is a piece of an event or a delay before one. Delays have names too: what a device takes to start what was
launched on it, or what follows on a stream; a process that began its steps later than the first one; and waiting for
something that the trace does not show.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.analyses.core.event_graph import NO_EVENT, NOTHING, WORK, EventGraph, Schedule
from workbench.analyses.core.event_graph_build import EventGraphs
from workbench.analyses.core.event_graph_lanes import Lanes
from workbench.analyses.core.event_graph_links import CAUSES
from workbench.analyses.core.idle import WAIT_THRESHOLD_NS
from workbench.trace.schema import KINDS, SOURCES

LATE_BEGIN, NOTHING_RECORDED = "wait (for a late begin)", "wait (nothing recorded)"
# Delay -> kind.
DELAYS = {"(launch delay)": "runtime", "(stream delay)": "runtime", LATE_BEGIN: "wait", NOTHING_RECORDED: "wait"}
_LAUNCH, _STREAM, _LATE, _UNKNOWN = range(len(DELAYS))


class Words:
    """Names, kinds and sources of a run's events as numbers: places in `names` (the delays' last), KINDS, SOURCES."""

    def __init__(self, events: pd.DataFrame) -> None:
        self.names = [*events["name"].cat.categories, *DELAYS]
        self._name = events["name"].cat.codes.to_numpy()
        self._kind, self._source = (
            np.array([words.index(word) for word in events[column].cat.categories], dtype=np.int8)[
                events[column].cat.codes
            ]
            for column, words in (("kind", KINDS), ("source", SOURCES))
        )

    def of_events(self, event: np.ndarray) -> dict[str, np.ndarray]:
        """name, kind, source of each event (row) [n]."""
        return {"name": self._name[event], "kind": self._kind[event], "source": self._source[event]}

    def of_delays(self, delay: np.ndarray) -> dict[str, np.ndarray]:
        """name, kind, source of each delay (index into DELAYS) [n]: what the clock shows is measured."""
        kind = np.array([KINDS.index(kind) for kind in DELAYS.values()])
        return {"name": len(self.names) - len(DELAYS) + delay, "kind": kind[delay], "source": np.zeros_like(delay)}


def path_parts(events: pd.DataFrame, words: Words, found: EventGraphs, schedules: Sequence[Schedule]) -> pd.DataFrame:
    """The path through each window, in order: start_ns (on the common clock), path_ns, event (row, NO_EVENT for a
    delay), lane, step, name, kind, source. The parts of a window as it happened sum to its length."""
    parts = []
    for window, graph, schedule in zip(found.windows, found.graphs, schedules, strict=True):
        path = graph.path(schedule)
        piece, delayed = path["piece"].to_numpy(), path["delay"].to_numpy()
        event = np.where(delayed, NO_EVENT, graph.event[piece])
        step = pd.Series(np.where(graph.event[piece] >= 0, events["step"].to_numpy()[graph.event[piece]], -1))
        frame = {
            "start_ns": path["start_ns"], "path_ns": path["end_ns"] - path["start_ns"], "event": event,
            "delay": delays(graph, found.lanes)[piece], "lane": graph.lane[piece],
            "step": step.where(step >= 0).bfill().ffill().fillna(-1).astype("int64"),
        }  # fmt: skip
        part = _until_the_end(pd.DataFrame(frame, copy=False), window.end_ns - window.start_ns - graph.finish_ns.max())
        parts.append(part.assign(start_ns=window.start_ns + part["start_ns"].astype("int64")))
    path = pd.concat(parts, ignore_index=True)
    event, of_delay = path["event"].to_numpy(), words.of_delays(path.pop("delay").to_numpy())
    of_event = words.of_events(event)
    return path.assign(**{word: np.where(event == NO_EVENT, of_delay[word], of_event[word]) for word in of_event})


def _until_the_end(path: pd.DataFrame, rest_ns: float) -> pd.DataFrame:
    """`path` with what follows where its last piece ends before the step does: nobody knows what that waited for."""
    if rest_ns <= 0:
        return path
    rest = path.tail(1).assign(event=NO_EVENT, delay=_UNKNOWN, path_ns=rest_ns)
    rest["start_ns"] += path["path_ns"].iloc[-1]
    return pd.concat([path, rest], ignore_index=True)


def work_parts(words: Words, found: EventGraphs) -> pd.DataFrame:
    """All pieces of work in the windows: event (row), lane, total_ns, slack_ns, name, kind, source."""
    parts = []
    for graph in found.graphs:
        work = graph.role == WORK
        event, total_ns = graph.event[work], (graph.finish_ns - graph.start_ns)[work]
        frame = {"event": event, "lane": graph.lane[work], "total_ns": total_ns, "slack_ns": graph.slack_ns()[work]}
        parts.append(pd.DataFrame(frame | words.of_events(event), copy=False))
    return pd.concat(parts, ignore_index=True)


def delays(graph: EventGraph, on: Lanes) -> np.ndarray:
    """Index into DELAYS of the delay before each piece [p]. A device that starts nothing for more than
    WAIT_THRESHOLD_NS after what came before waits for something else."""
    through = graph.observed.through
    # A meeting has a lane of its own, behind those of the run.
    lane = np.minimum(graph.lane, len(on.on_device))
    device, drives = np.append(on.on_device, False)[lane], np.isin(graph.lane, on.main)
    launched = np.append(graph.cause, -1)[np.maximum(through, -1)] == CAUSES.index("launch")
    soon = (through != NOTHING) & (graph.delay_ns <= WAIT_THRESHOLD_NS)
    return np.select(
        [device & launched, device & soon, drives & (through == NOTHING)], [_LAUNCH, _STREAM, _LATE], _UNKNOWN
    )
