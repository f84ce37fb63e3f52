"""How the events of a trace hang together: which call launched which device event, what ancestors hand down, steps."""

import numpy as np


def launch_rows(correlation: np.ndarray, is_call: np.ndarray, is_launched: np.ndarray) -> np.ndarray:
    """Row [n] of the host call with the same correlation id, for launched device events; -1 elsewhere.

    A graph launch has many device events under one id. Ids count from 1; where two calls share one, the first wins.
    """
    launch = np.full(len(correlation), -1, dtype=np.int64)
    calls = np.flatnonzero(is_call & (correlation > 0))
    events = np.flatnonzero(is_launched & (correlation > 0))
    if len(calls) == 0 or len(events) == 0:
        return launch
    ids, first = np.unique(correlation[calls], return_index=True)
    place = np.searchsorted(ids, correlation[events]).clip(max=len(ids) - 1)
    found = ids[place] == correlation[events]
    launch[events[found]] = calls[first[place[found]]]
    return launch


def inherit(values: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """`values` [n] where a 0 is replaced by the value of the nearest ancestor that has one.

    Each round doubles how many ancestors have been asked, so depth d takes log2(d) rounds.
    """
    values, above = values.copy(), parents
    while (open_rows := np.flatnonzero((values == 0) & (above >= 0))).size:
        values[open_rows] = values[above[open_rows]]
        above = np.where(above >= 0, above[above], -1)
    return values


def ancestors(row: int, parents: np.ndarray) -> list[int]:
    """`row` and the events around it, innermost first; empty for row -1."""
    chain = []
    while row >= 0:
        chain.append(row)
        row = int(parents[row])
    return chain


def steps_at(times_ns: np.ndarray, starts_ns: np.ndarray, ends_ns: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Number [n] of the step in whose [start, end) each time lies, -1 outside all; steps follow one another."""
    if len(numbers) == 0:
        return np.full(len(times_ns), -1, dtype=np.int64)
    order = np.argsort(starts_ns)
    place = np.searchsorted(starts_ns[order], times_ns, side="right") - 1
    inside = (place >= 0) & (times_ns < ends_ns[order][place])
    return np.where(inside, numbers[order][place], -1)


def overlaps(lanes: np.ndarray, parents: np.ndarray, starts_ns: np.ndarray, ends_ns: np.ndarray) -> int:
    """How many events start before the previous one with the same parent on the same lane has ended.

    One thread does one thing at a time, so such events were written with wrong times. Writers round to 1 us.
    """
    order = np.lexsort((starts_ns, parents, lanes))
    lanes, parents, starts_ns, ends_ns = lanes[order], parents[order], starts_ns[order], ends_ns[order]
    siblings = (lanes[1:] == lanes[:-1]) & (parents[1:] == parents[:-1])
    return int((siblings & (starts_ns[1:] + 1000 < ends_ns[:-1])).sum())
