"""The critical path as a table of parts, and all work of its windows as another.

A part is a piece of an event or a delay before one. Delays have names too: what a device takes to start what was
launched on it, or what follows on a stream; a process that began its steps later than the first one; and waiting for
something that the trace does not show.
"""

from collections.abc import Iterable, Sequence

import numba
import numpy as np
import pandas as pd

from workbench.analyses.core.event_graph import NO_EVENT, NOTHING, WORK, EventGraph, Schedule
from workbench.analyses.core.event_graph_build import EventGraphs
from workbench.analyses.core.event_graph_lanes import Lanes
from workbench.analyses.core.event_graph_links import CAUSES
from workbench.analyses.core.idle import WAIT_THRESHOLD_NS
from workbench.analyses.core.rows import of_request
from workbench.trace.schema import KINDS, SOURCES

LATE_BEGIN, NOTHING_RECORDED = "wait (for a late begin)", "wait (nothing recorded)"
# Delay -> kind.
DELAYS = {"(launch delay)": "runtime", "(stream delay)": "runtime", LATE_BEGIN: "wait", NOTHING_RECORDED: "wait"}
_LAUNCH, _STREAM, _LATE, _UNKNOWN = range(len(DELAYS))
# What follows the last piece of a path.
_REST = {"event": NO_EVENT, "delay": _UNKNOWN}


class Words:
    """Names, kinds and sources of a run's events as numbers: places in `names` (the delays' last), KINDS, SOURCES."""

    def __init__(self, events: pd.DataFrame) -> None:
        self.names = [*events["name"].cat.categories, *DELAYS]
        self._events, first = len(events), len(self.names) - len(DELAYS)
        # The delays behind the events; what the clock shows is measured.
        self._words = {
            "name": np.append(
                events["name"].cat.codes.astype("int32"), np.arange(first, len(self.names), dtype="int32")
            ),
            "kind": _numbered(events["kind"], KINDS, DELAYS.values()),
            "source": _numbered(events["source"], SOURCES, ["measured"] * len(DELAYS)),
        }

    def of_events(self, event: np.ndarray) -> dict[str, np.ndarray]:
        """name, kind, source of each event (row) [n]."""
        return {word: numbers[event] for word, numbers in self._words.items()}

    def of_parts(self, event: np.ndarray, delay: np.ndarray) -> dict[str, np.ndarray]:
        """name, kind, source of each event (row) [n], or where it is NO_EVENT of the delay (index into DELAYS) [n]."""
        return self.of_events(np.where(event == NO_EVENT, self._events + delay.astype(np.int64), event))


def _numbered(column: pd.Series, words: tuple[str, ...], more: Iterable[str]) -> np.ndarray:
    """Places among `words` of the texts of a categorical column, and of `more` behind them."""
    places = np.array([words.index(word) for word in column.cat.categories], dtype=np.int8)
    return np.append(places[column.cat.codes], np.array([words.index(word) for word in more], dtype=np.int8))


def path_parts(events: pd.DataFrame, words: Words, found: EventGraphs, schedules: Sequence[Schedule]) -> pd.DataFrame:
    """The path through each window, in order: start_ns (on the common clock), path_ns, event (row, NO_EVENT for a
    delay), lane, step (-1 between two requests), name, kind, source. The parts of a window as it happened sum to its
    length."""
    parts, steps, of_requests = [], events["step"].to_numpy(), of_request(events)
    for window, graph, schedule in zip(found.windows, found.graphs, schedules, strict=True):
        path = graph.path(schedule)
        piece, end_ns = path["piece"].to_numpy(), path["end_ns"].to_numpy()
        own, is_delay = graph.event[piece], path["delay"].to_numpy()
        step = _next_known(np.where(own >= 0, steps[own], -1))
        between = is_delay & (own >= 0) & of_requests[own] & (np.diff(step, prepend=step[:1]) != 0)
        part = {
            "start_ns": window.start_ns + path["start_ns"].to_numpy(np.int64),
            "path_ns": end_ns - path["start_ns"].to_numpy(), "event": np.where(is_delay, NO_EVENT, own),
            "delay": delays(graph, found.lanes)[piece], "lane": graph.lane[piece],
            "step": np.where(between, -1, step),
        }  # fmt: skip
        parts.append(part)
        # Where the last piece ends before the step does, nobody knows what that waited for.
        rest_ns = window.end_ns - window.start_ns - graph.finish_ns.max()
        if rest_ns > 0:
            rest = {"start_ns": window.start_ns + int(end_ns[-1]), "path_ns": rest_ns} | _REST
            parts.append({name: np.array([rest.get(name, values[-1])], values.dtype) for name, values in part.items()})
    path = _stacked(parts)
    return pd.DataFrame(path | words.of_parts(path["event"], path.pop("delay")), copy=False)


@numba.njit(cache=True)
def _next_known(numbers):
    """Each of the numbers [n], which it writes over, or, where it is negative, the next one that is none, or else the
    last."""
    found = numbers
    for place in range(len(found) - 2, -1, -1):
        if found[place] < 0:
            found[place] = found[place + 1]
    for place in range(1, len(found)):
        if found[place] < 0:
            found[place] = found[place - 1]
    return found


def work_parts(words: Words, found: EventGraphs) -> pd.DataFrame:
    """All pieces of work in the windows: event (row), lane, total_ns, slack_ns, name, kind, source."""
    parts = []
    for graph in found.graphs:
        total_ns, works = graph.finish_ns - graph.start_ns, graph.role == WORK
        part = {"event": graph.event, "lane": graph.lane, "total_ns": total_ns, "slack_ns": graph.slack_ns()}
        parts.append(part if works.all() else {name: values[works] for name, values in part.items()})
    work = _stacked(parts)
    return pd.DataFrame(work | words.of_events(work["event"]), copy=False)


def _stacked(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of tables one below the other; of one alone, millions of rows that need no copy."""
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def delays(graph: EventGraph, on: Lanes) -> np.ndarray:
    """Index into DELAYS of the delay before each piece [p]. A device that starts nothing for more than
    WAIT_THRESHOLD_NS after what came before waits for something else."""
    through, lane = graph.observed.through, np.minimum(graph.lane, len(on.on_device))
    # A meeting has a lane of its own, behind those of the run.
    device, drives = np.append(on.on_device, False), np.isin(np.arange(len(on.on_device) + 1), on.main)
    launched = np.append(graph.cause, -1)[np.maximum(through, -1)] == CAUSES.index("launch")
    soon = (through != NOTHING) & (graph.delay_ns <= WAIT_THRESHOLD_NS)
    found = np.full(len(lane), _UNKNOWN, dtype=np.int8)
    found[drives[lane] & (through == NOTHING)] = _LATE
    found[device[lane] & soon] = _STREAM
    found[device[lane] & launched] = _LAUNCH
    return found
