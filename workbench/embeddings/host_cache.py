"""A cache in host memory in front of a file of rows: the middle of HBM over DRAM over SSD. Itself a store."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.embeddings.backing import Layout, Store, put_rows, take_rows
from workbench.embeddings.cache_index import NONE, CacheIndex, Placement


class HostCache(Store):
    """Caches rows of `backing`. A row that conflicts goes straight to or from it. Counts the rows that it serves and
    takes itself; the others count there."""

    tier = "dram"

    def __init__(self, index: CacheIndex, layout: Layout, backing: Store) -> None:
        self.index, self.backing, self._layout = index, backing, layout
        self._columns = layout.zeros(index.slots)
        self.moved_row_bytes = layout.row_bytes
        self.read_bytes = self.write_bytes = 0

    def read(self, rows: np.ndarray) -> list[Tensor]:
        placement = self._place(rows)
        held, missing = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (placement.hits, ~placement.hits))
        found = self._layout.zeros(len(rows))
        put_rows(found, held, take_rows(self._columns, torch.from_numpy(placement.slots[placement.hits])))
        put_rows(found, missing, self.backing.read(rows[~placement.hits]))
        came = ~placement.hits & (placement.slots != NONE)
        values = take_rows(found, torch.from_numpy(np.flatnonzero(came)))
        put_rows(self._columns, torch.from_numpy(placement.slots[came]), values)
        self.read_bytes += len(held) * self.moved_row_bytes
        return found

    def write(self, rows: np.ndarray, columns: Sequence[Tensor]) -> None:
        slots = self._place(rows).slots
        kept, refused = np.flatnonzero(slots != NONE), np.flatnonzero(slots == NONE)
        put_rows(self._columns, torch.from_numpy(slots[kept]), take_rows(columns, torch.from_numpy(kept)))
        self.index.mark_written(slots[kept])
        self.backing.write(rows[refused], take_rows(columns, torch.from_numpy(refused)))
        self.write_bytes += len(kept) * self.moved_row_bytes

    def flush(self) -> None:
        slots, rows = self.index.take_written()
        self.backing.write(rows, take_rows(self._columns, torch.from_numpy(slots)))

    def _place(self, rows: np.ndarray) -> Placement:
        """Where `rows` are or may go; what they evict is written back."""
        placement = self.index.place(rows)
        out = placement.evicted != NONE
        self.backing.write(placement.evicted[out], take_rows(self._columns, torch.from_numpy(placement.slots[out])))
        return placement
