"""A software cache of rows in front of a store: where each batch's rows lie, and when they come and go.

A batch passes through three moments; two batches are under way at a time.

    fetch     its distinct rows are found, victims written back while misses are read - while the batch before trains
    begin     the batch before is done: its spilled rows are settled, and this batch's may be read and updated
    (begin)   of the next batch, or `flush`

Rows that conflict (`cache_index`) are *spilled*: they get slots behind the cache's own for this one batch, and go back
to the store after it. Where the next batch wants such a row too, it has been fetched too early: `begin` corrects it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.embeddings.backing import Store, put_rows, take_rows
from workbench.embeddings.cache_index import NONE, CacheIndex, unique_rows

_FLUSHED_ROWS = 1 << 14  # at a time: what a flush needs in memory


@dataclass
class CachedBatch:
    """One batch's distinct `rows` [n] and their `slots` [n]; `position` [lookups] of every lookup among them.

    `spilled` are positions of rows with slots behind the cache, whose columns wait in `waiting` until the batch begins.
    `move_ns` is how long it took to move rows, there and back.
    """

    rows: np.ndarray
    slots: np.ndarray
    position: np.ndarray
    spilled: np.ndarray
    waiting: list[Tensor]
    misses: int
    move_ns: int
    trains: bool = False


class RowCache:
    """The first `index.slots` rows of `columns` (tensors [slots + room to spill, ...]) cache the rows of `store`."""

    def __init__(self, index: CacheIndex, store: Store, columns: Sequence[Tensor]) -> None:
        self.index, self.store, self.columns = index, store, list(columns)
        self._current: CachedBatch | None = None

    def fetch(self, lookups: np.ndarray) -> CachedBatch:
        """Make room for and read the rows of `lookups` [n], the next batch's; the batch that began last may train."""
        rows, position = unique_rows(lookups)
        placement = self.index.place(rows)
        began_ns = time.monotonic_ns()
        out = np.flatnonzero(placement.evicted != NONE)
        victims = take_rows(self.columns, torch.from_numpy(placement.slots[out]))
        missing = np.flatnonzero(~placement.hits)
        values = self.store.exchange(placement.evicted[out], victims, rows[missing])
        spills = placement.slots[missing] == NONE
        cached, spilled = np.flatnonzero(~spills), np.flatnonzero(spills)
        put_rows(self.columns, torch.from_numpy(placement.slots[missing[cached]]), _pick(values, cached))
        slots = placement.slots
        slots[missing[spilled]] = self.index.slots + np.arange(len(spilled))
        waiting = _pick(values, spilled)
        move_ns = time.monotonic_ns() - began_ns
        return CachedBatch(rows, slots, position, missing[spilled], waiting, len(missing), move_ns)

    def settle(self, following: CachedBatch | None = None) -> None:
        """The current batch is done: its spilled rows go to the store, and into the batch fetched meanwhile."""
        current, self._current = self._current, None
        if current is None or not current.trains or len(current.spilled) == 0:
            return
        rows = current.rows[current.spilled]
        values = take_rows(self.columns, torch.from_numpy(current.slots[current.spilled]))
        self.store.write(rows, values)
        if following is None:
            return
        _, mine, theirs = np.intersect1d(rows, following.rows, assume_unique=True, return_indices=True)
        spilled_again = following.slots[theirs] >= self.index.slots
        waiting = following.slots[theirs[spilled_again]] - self.index.slots
        put_rows(following.waiting, torch.from_numpy(waiting), _pick(values, mine[spilled_again]))
        slots = following.slots[theirs[~spilled_again]]
        put_rows(self.columns, torch.from_numpy(slots), _pick(values, mine[~spilled_again]))

    def begin(self, batch: CachedBatch, trains: bool) -> None:
        """`batch`, fetched last, is read from now on, and updated if it `trains`. The one before has been settled."""
        put_rows(self.columns, torch.from_numpy(batch.slots[batch.spilled]), batch.waiting)
        if trains:
            self.index.mark_written(batch.slots[batch.slots < self.index.slots])
        batch.trains, batch.waiting = trains, []
        self._current = batch

    def flush(self) -> None:
        """Have the store hold every row as it was trained; the batch before has been settled."""
        slots, rows = self.index.take_written()
        for start in range(0, len(rows), _FLUSHED_ROWS):
            chosen = slice(start, start + _FLUSHED_ROWS)
            self.store.write(rows[chosen], take_rows(self.columns, torch.from_numpy(slots[chosen])))
        self.store.flush()


def _pick(columns: Sequence[Tensor], entries: np.ndarray) -> list[Tensor]:
    return take_rows(columns, torch.from_numpy(entries))
