"""What the streams of a device and the threads of its host needed of one another.

- launch: a device event needs the call that launched it.
- synchronise: a synchronising call, and a copy that blocks its caller, last until the device has done what it had been
  given before.
- stream wait: what is launched on a stream after a cudaStreamWaitEvent needs what other streams had been given before
  that call.

Few traces say which streams a call was about. Where they do not, it is all that had done so when the waiting ended.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.analyses.core.event_graph_lanes import Lanes
from workbench.analyses.core.event_graph_links import Collector
from workbench.analyses.core.rows import of_category, positions

_SYNCHRONISES = re.compile("synchronize", re.IGNORECASE)
_STREAM_WAIT = re.compile("(cuda|hip)StreamWaitEvent")
_NEVER = np.iinfo(np.int64).min


class _Stream(NamedTuple):
    """What a lane of a device was given, in the order of the launches [n]."""

    lane: int
    launched_ns: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray

    def done_ns(self, given_before_ns: np.ndarray) -> np.ndarray:
        """When it had done what it was given before each time [m]; _NEVER where that is nothing."""
        count = np.searchsorted(self.launched_ns, given_before_ns)
        return np.append(np.maximum.accumulate(self.end_ns), _NEVER)[count - 1]


def link_devices(events: pd.DataFrame, lanes: Lanes, into: Collector) -> None:
    """Collect the links of every process that has a device."""
    launch = _launching_calls(events, lanes)
    about = _streams_named(lanes, launch)
    on_host = (lanes.lane >= 0) & (events["kind"] == "runtime").to_numpy() & (events["device"] == "cpu").to_numpy()
    blocks = _blocking_copies(events, lanes, launch)
    streams: dict[int, list[_Stream]] = {}
    for lane in np.flatnonzero(lanes.on_device):
        rows = lanes.of(lane)
        rows = rows[launch[rows] >= 0]
        _link_launches(lanes, rows, launch[rows], blocks[rows], into)
        rows = rows[np.argsort(lanes.start_ns[launch[rows]], kind="stable")]
        stream = _Stream(lane, lanes.start_ns[launch[rows]], lanes.start_ns[rows], lanes.end_ns[rows])
        streams.setdefault(lanes.process[lane], []).append(stream)
    synchronising = np.flatnonzero(on_host & of_category(events["name"], _SYNCHRONISES.search))
    stream_waits = np.flatnonzero(on_host & of_category(events["name"], _STREAM_WAIT.match))
    for process, own in streams.items():
        _link_synchronises(lanes, own, _of_process(lanes, synchronising, process), about, into)
        _link_stream_waits(lanes, own, _of_process(lanes, stream_waits, process), about, into)


def _launching_calls(events: pd.DataFrame, lanes: Lanes) -> np.ndarray:
    """Row [events] of the call on a lane that launched each event, -1 for none."""
    launched = np.flatnonzero((events["launch_id"] >= 0).to_numpy())
    call = positions(events, events["launch_id"].to_numpy()[launched])
    launch = np.full(len(events), -1)
    launch[launched] = np.where(lanes.lane[call] >= 0, call, -1)
    return launch


def _streams_named(lanes: Lanes, launch: np.ndarray) -> np.ndarray:
    """Lane [events] of the stream that a call was about, -1 unknown: newer profilers show synchronisation beside it."""
    shown = np.flatnonzero((lanes.lane < 0) & (lanes.beside >= 0) & (launch >= 0))
    about = np.full(len(launch), -1)
    about[launch[shown]] = lanes.beside[shown]
    return about


def _blocking_copies(events: pd.DataFrame, lanes: Lanes, launch: np.ndarray) -> np.ndarray:
    """Mask [events] of the copies whose call returned only when they were done: it is no asynchronous one, or they
    pass memory that the system may move."""
    call = np.maximum(launch, 0)
    within = (lanes.end_ns > lanes.start_ns[call]) & (lanes.end_ns <= lanes.end_ns[call])
    pageable = of_category(events["name"], lambda name: "Pageable" in name)
    returns_at_once = of_category(events["name"], lambda name: "Async" in name)[call]
    return (launch >= 0) & (events["kind"] == "memory").to_numpy() & within & (pageable | ~returns_at_once)


def _of_process(lanes: Lanes, rows: np.ndarray, process: int) -> np.ndarray:
    return rows[lanes.process[lanes.lane[rows]] == process]


def _link_launches(lanes: Lanes, rows: np.ndarray, calls: np.ndarray, blocks: np.ndarray, into: Collector) -> None:
    """From the end of each call (or from within, where the device event starts earlier) to the device event. A call
    that blocks waits from its start."""
    start_ns, called_ns = lanes.start_ns[rows], lanes.start_ns[calls]
    # An instant after its start, so that the edge leaves the call and not what ran before it.
    departs_ns = np.where(blocks, called_ns + 1, np.minimum(lanes.end_ns[calls], np.maximum(start_ns, called_ns + 1)))
    into.edges("launch", lanes.lane[calls], departs_ns, lanes.lane[rows], start_ns)
    rows, calls = rows[blocks], calls[blocks]
    into.waits(lanes.lane[calls], lanes.start_ns[calls], lanes.end_ns[rows])
    into.edges("synchronise", lanes.lane[rows], lanes.end_ns[rows], lanes.lane[calls], lanes.end_ns[rows])


def _link_synchronises(
    lanes: Lanes, streams: list[_Stream], calls: np.ndarray, about: np.ndarray, into: Collector
) -> None:
    """A call waits from its start until the last stream has done what it was given; its end waits for all of them."""
    start_ns, lane = lanes.start_ns[calls], lanes.lane[calls]
    waits_until_ns = start_ns.copy()
    for stream in streams:
        done_ns = stream.done_ns(start_ns)
        mine = (done_ns != _NEVER) & (done_ns <= lanes.end_ns[calls]) & np.isin(about[calls], (-1, stream.lane))
        after_ns = np.maximum(done_ns, start_ns)
        into.edges("synchronise", np.full(mine.sum(), stream.lane), done_ns[mine], lane[mine], after_ns[mine])
        waits_until_ns = np.maximum(waits_until_ns, np.where(mine, done_ns, start_ns))
    into.waits(lane, start_ns, waits_until_ns)


def _link_stream_waits(
    lanes: Lanes, streams: list[_Stream], calls: np.ndarray, about: np.ndarray, into: Collector
) -> None:
    """What is launched first on a stream after a call waits for what other streams had been given before the call."""
    calls = calls[np.argsort(lanes.start_ns[calls])]
    for stream in streams:
        called_ns = lanes.start_ns[calls[np.isin(about[calls], (-1, stream.lane))]]
        last_call_ns = np.append(called_ns, _NEVER)[np.searchsorted(called_ns, stream.launched_ns) - 1]
        told = last_call_ns > np.append(_NEVER, stream.launched_ns[:-1])
        start_ns = stream.start_ns[told]
        for other in streams:
            if other is not stream:
                done_ns = other.done_ns(last_call_ns[told])
                mine = (done_ns != _NEVER) & (done_ns <= start_ns)
                lane = np.full(mine.sum(), stream.lane)
                into.edges("stream wait", np.full(mine.sum(), other.lane), done_ns[mine], lane, start_ns[mine])
