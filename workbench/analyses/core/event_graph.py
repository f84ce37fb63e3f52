"""What had to wait for what: the longest chain of pieces of work, the slack of all others, the length after a change.

A piece of work starts when all that it needs is there - the piece before it on its lane (thread or stream), and what
its edges name - and after a delay that nothing explains. What was there last *binds* it. Walking from the last piece
back along what binds each gives a chain without slack that covers the whole time: the critical path.

Some time on a lane is not work but waiting for another lane (a synchronise, the early ranks of a collective). Such a
piece takes no time of its own, so what follows it is bound by what it waited for.

A replay runs the graph forward with scaled pieces. Delays keep their length: unscaled pieces give the times that were
seen, and a shorter piece can only make the whole shorter.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np
import pandas as pd

# Roles of pieces, in the order in which those of one instant happen: a rank arrives at a meeting, the meeting (a piece
# on a lane of its own), a lane waits for another one, a lane works. Only work takes time of its own.
ARRIVAL, MEETING, WAITING, WORK = range(4)
# What binds a piece that no edge binds: the piece before it on its lane, or nothing.
LANE, NOTHING = -1, -2
# The row of a piece that is nobody's work.
NO_EVENT = -1


class Schedule(NamedTuple):
    """When each piece [p] starts and finishes, when what it needs is ready, and what binds it (`through`): the index of
    an edge, LANE or NOTHING."""

    start_ns: np.ndarray
    finish_ns: np.ndarray
    ready_ns: np.ndarray
    through: np.ndarray


@dataclass(frozen=True)
class EventGraph:
    """Pieces [p] sorted by lane and start, and edges [e] sorted by target: those into piece p are
    first_edge[p]:first_edge[p + 1]. Times are float64 ns since the start of the window, exact up to 2^53.

    `event` [p] is the row of the events table whose work it is, NO_EVENT for other roles: those finish as they start.
    An edge leaves its source piece `offset_ns` after that started; `cause` [e] says what kind of edge it is.
    """

    start_ns: np.ndarray
    finish_ns: np.ndarray
    lane: np.ndarray
    role: np.ndarray
    event: np.ndarray
    first_edge: np.ndarray
    source: np.ndarray
    offset_ns: np.ndarray
    cause: np.ndarray

    @cached_property
    def observed(self) -> Schedule:
        """As it happened."""
        return self._schedule(self.start_ns, self.finish_ns, np.ones(len(self.lane)))

    @property
    def delay_ns(self) -> np.ndarray:
        """Time [p] between the last of what a piece needs and its start."""
        return self.start_ns - self.observed.ready_ns

    def replay(self, work_scale: np.ndarray, delay_scale: np.ndarray) -> Schedule:
        """As it would have been with the work of each piece and the delay before it scaled by these factors [p]. What
        nothing binds has the time since the window's start as its delay."""
        work_ns = (self.finish_ns - self.start_ns) * work_scale
        start_ns = np.zeros(len(work_ns))
        _replay(self._order, *self._edges, work_ns, self.delay_ns * delay_scale, work_scale, start_ns)
        return self._schedule(start_ns, start_ns + work_ns, work_scale)

    def slack_ns(self) -> np.ndarray:
        """How much later each piece [p] could have finished without lengthening the whole."""
        work_ns = self.finish_ns - self.start_ns
        latest_ns = np.full(len(work_ns), self.finish_ns.max())
        _latest_finish(self._order, *self._edges, work_ns, self.delay_ns, latest_ns)
        return latest_ns - self.finish_ns

    def path(self, schedule: Schedule) -> pd.DataFrame:
        """The critical path, first to last, without a hole from 0 to the last finish: piece, start_ns, end_ns, delay
        (True: not the piece but the delay before it)."""
        last = int(np.argmax(schedule.finish_ns))
        room = 2 * _chain_length(last, self._before, self.source, schedule.through)
        piece, start_ns, end_ns, delay = (np.empty(room, dtype) for dtype in (np.int32, float, float, np.bool_))
        at = _walk(last, self._before, self.source, *schedule, piece, start_ns, end_ns, delay)
        columns = {"piece": piece[at:], "start_ns": start_ns[at:], "end_ns": end_ns[at:], "delay": delay[at:]}
        return pd.DataFrame(columns, copy=False)

    def _schedule(self, start_ns: np.ndarray, finish_ns: np.ndarray, work_scale: np.ndarray) -> Schedule:
        ready_ns, through = np.zeros(len(start_ns)), np.full(len(start_ns), NOTHING, np.int32)
        _ready(*self._edges, start_ns, finish_ns, work_scale, ready_ns, through)
        return Schedule(start_ns, finish_ns, ready_ns, through)

    @cached_property
    def _before(self) -> np.ndarray:
        """Piece before each on its lane [p], -1 for none."""
        follows = np.diff(self.lane, prepend=-1) == 0
        return np.where(follows, np.arange(-1, len(self.lane) - 1, dtype=np.int32), np.int32(-1))

    @property
    def _edges(self) -> tuple[np.ndarray, ...]:
        return self._before, self.first_edge, self.source, self.offset_ns

    @cached_property
    def _order(self) -> np.ndarray:
        """Pieces in an order in which whatever a piece needs comes before it: by start, then by role."""
        return np.argsort(self.start_ns.astype(np.int64) * (WORK + 1) + self.role, kind="stable")


@numba.njit(cache=True)
def _ready(before, first_edge, source, offset_ns, start_ns, finish_ns, work_scale, ready_ns, through):
    """Puts in when what each piece needs is there (`ready_ns`, 0) and what is there last (`through`, NOTHING)."""
    for piece in range(len(before)):
        if before[piece] >= 0:
            ready_ns[piece], through[piece] = finish_ns[before[piece]], LANE
        for edge in range(first_edge[piece], first_edge[piece + 1]):
            at = source[edge]
            left_ns = start_ns[at] + offset_ns[edge] * work_scale[at]
            if left_ns > ready_ns[piece] or through[piece] == NOTHING:
                ready_ns[piece], through[piece] = left_ns, edge


@numba.njit(cache=True)
def _replay(order, before, first_edge, source, offset_ns, work_ns, delay_ns, work_scale, start_ns):
    """Puts in the start of each piece, as soon as what it needs allows."""
    for piece in order:
        ready_ns = 0.0
        if before[piece] >= 0:
            ready_ns = start_ns[before[piece]] + work_ns[before[piece]]
        for edge in range(first_edge[piece], first_edge[piece + 1]):
            at = source[edge]
            ready_ns = max(ready_ns, start_ns[at] + offset_ns[edge] * work_scale[at])
        start_ns[piece] = ready_ns + delay_ns[piece]


@numba.njit(cache=True)
def _latest_finish(order, before, first_edge, source, offset_ns, work_ns, delay_ns, latest_ns):
    """Lowers `latest_ns` from the end of everything to the latest finish of each piece that keeps it."""
    for piece in order[::-1]:
        needed_ns = latest_ns[piece] - work_ns[piece] - delay_ns[piece]
        if before[piece] >= 0:
            latest_ns[before[piece]] = min(latest_ns[before[piece]], needed_ns)
        for edge in range(first_edge[piece], first_edge[piece + 1]):
            at = source[edge]
            latest_ns[at] = min(latest_ns[at], needed_ns - offset_ns[edge] + work_ns[at])


@numba.njit(cache=True)
def _chain_length(last, before, source, through):
    """Number of pieces from the `last` one back along what binds each."""
    length, piece = 1, last
    while through[piece] != NOTHING:
        piece = before[piece] if through[piece] == LANE else source[through[piece]]
        length += 1
    return length


@numba.njit(cache=True)
def _walk(last, before, source, start_ns, finish_ns, ready_ns, through, pieces, starts_ns, ends_ns, delay):
    """From the `last` piece back along what binds each: puts in the pieces, their starts and ends, and whether it is
    the delay before the piece, the first from the returned place on. A path has an end, also where nothing takes any
    time."""
    at, piece, end_ns = len(pieces), last, finish_ns[last]
    while True:
        if end_ns > start_ns[piece] or at == len(pieces):
            at -= 1
            pieces[at], starts_ns[at], ends_ns[at], delay[at] = piece, start_ns[piece], end_ns, False
        end_ns = ready_ns[piece]
        if start_ns[piece] > end_ns:
            at -= 1
            pieces[at], starts_ns[at], ends_ns[at], delay[at] = piece, end_ns, start_ns[piece], True
        if through[piece] == NOTHING:
            return at
        piece = before[piece] if through[piece] == LANE else source[through[piece]]
