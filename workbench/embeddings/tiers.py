"""Embedding tables that are larger than the memory they train from: a software cache over host memory or a file.

    lookups --> slots of a cache (a share of the rows, on the device) <-- misses, write-backs --> store (dram | ssd)

A rank has one cache for its tables of each width and optimizer. While a batch trains, a thread fetches the rows of the
next: the trainer announces a batch before the one ahead of it is looked up. Updates run on the cache's slots with the
same kernels, in the same order, as on whole tables, so training gives the same bits.

Where the store is a file, a second cache in host memory may stand before it: HBM over DRAM over SSD.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embeddings.backing import Layout, Store, put_rows
from workbench.embeddings.cache_index import WAYS, CacheIndex
from workbench.embeddings.cache_stores import CacheConfig, cache_slots, chain, make_store
from workbench.embeddings.jagged import offsets as jagged_offsets
from workbench.embeddings.kernels import initialize
from workbench.embeddings.row_cache import CachedBatch, RowCache
from workbench.embeddings.tables import TableConfig, TableShard
from workbench.errors import InputError
from workbench.trace.recorder import Recorder

_CHUNK_ROWS = 1 << 14  # rows that move at a time where a whole table does
Traffic = dict[str, tuple[int, int]]  # tier -> bytes read and written, as spans say them


class Fetched(NamedTuple):
    """One batch for each cache, and what fetching them took: wall time, and CPU time of the fetching threads."""

    batches: list[CachedBatch]
    duration_ns: int
    cpu_ns: int


class CachedLookup(nn.Module):
    """Looks like what `kernels.make_lookup` makes for `tables`, with their rows in a cache and a store.

    `make(tables)` makes a lookup that holds all its rows: one for the slots of each cache.
    """

    def __init__(
        self,
        tables: Sequence[TableConfig],
        config: CacheConfig,
        make: Callable[[Sequence[TableConfig]], nn.Module],
        seed: int,
        recorder: Recorder,
    ) -> None:
        super().__init__()
        self.tables, self.config, self.recorder, self._make = list(tables), config, recorder, make
        self._kind = "storage" if config.backing == "ssd" else "memory"
        self._groups = alike(tables)
        self._first_row = {}  # of each table, among the rows of its group
        for group in self._groups:
            rows = [tables[table].rows for table in group]
            self._first_row |= dict(zip(group, accumulate(rows, initial=0), strict=False))
        group_rows = [sum(tables[table].rows for table in group) for group in self._groups]
        self._slots = [cache_slots(rows, config.share) for rows in group_rows]
        self._spill_slots = [WAYS] * len(self._groups)
        self._inner = self._make_inner()
        self.caches = [
            RowCache(
                CacheIndex(slots // WAYS, rows, config.policy), make_store(rows, Layout.of(columns), config), columns
            )
            for slots, rows, columns in zip(self._slots, group_rows, self._inner_columns(), strict=True)
        ]
        for table in range(len(tables)):
            self._initialize(table, seed)
        self._moved_bytes = self._bytes_by_tier()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._announced: tuple[Tensor, Tensor] | None = None
        self._fetching: tuple[Tensor, Future[Fetched]] | None = None

    def announce(self, indices: Tensor, offsets: Tensor) -> None:
        """`forward` gets these after the batch that it gets next: their rows are fetched while that one trains."""
        self._announced = indices, offsets

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        """As `make_lookup`'s modules. Waits for the batch's rows; fetches those of one that was not announced."""
        traffic: Traffic = {}
        with self.recorder.span("row_wait", kind="wait", phase="prefetch", traffic=traffic):
            fetched = self._take(indices, offsets, traffic)
        self._make_room(fetched.batches)
        for cache, batch in zip(self.caches, fetched.batches, strict=True):
            cache.begin(batch, trains=torch.is_grad_enabled())
        if torch.is_grad_enabled():
            self._record(fetched)
        if self._announced is not None:
            announced, self._announced = self._announced, None
            self._fetching = announced[0], self._thread.submit(self._fetch, *announced)
        return self._pool(fetched.batches, offsets)

    def flush(self) -> None:
        """Between steps: have `read_rows` give every row as it was trained."""
        fetched, traffic, before = self._fetched(), {}, self._bytes_by_tier()
        with self.recorder.span("row_flush", kind=self._kind, phase="checkpoint", traffic=traffic):
            self._settle(fetched)
            for cache in self.caches:
                cache.flush()
            traffic |= self._moved_since(before)

    def read_rows(self, table: int, start: int, end: int) -> list[Tensor]:
        """Weights [end - start, dim] and optimizer state of a table's rows, as they were when last flushed."""
        first = self._first_row[table]
        return self._store_of(table).read(np.arange(first + start, first + end))

    def write_rows(self, table: int, start: int, columns: Sequence[Tensor]) -> None:
        """Replace a table's rows from `start` on: before the first batch."""
        first = self._first_row[table] + start
        self._store_of(table).write(np.arange(first, first + len(columns[0])), columns)

    @property
    def weights(self) -> list[Tensor]:
        """[rows, dim] of every table: a copy of all that they hold."""
        return self._whole_tables(0)

    @property
    def states(self) -> list[Tensor]:
        """The optimizer's state of every table: a copy."""
        return self._whole_tables(1)

    @property
    def steps(self) -> int:
        """As those of `kernels.make_lookup`'s modules."""
        return self._inner[0].steps

    @steps.setter
    def steps(self, steps: int) -> None:
        for inner in self._inner:
            inner.steps = steps

    def _whole_tables(self, column: int) -> list[Tensor]:
        self.flush()
        return [self.read_rows(index, 0, table.rows)[column] for index, table in enumerate(self.tables)]

    def _take(self, indices: Tensor, offsets: Tensor, traffic: Traffic) -> Fetched:
        """This batch's rows, with the batch before settled, whose bytes go into `traffic`."""
        began_ns = time.monotonic_ns()
        fetched, announced = self._fetched(), self._fetching is not None and self._fetching[0] is indices
        self._fetching = None
        waited_ns, before = time.monotonic_ns(), self._bytes_by_tier()
        self._settle(fetched)
        traffic |= self._moved_since(before)
        self.recorder.metric("cache_wait_ns", waited_ns - began_ns)
        self.recorder.metric("cache_settle_ns", time.monotonic_ns() - waited_ns)
        return fetched if announced else self._fetch(indices, offsets)

    def _fetched(self) -> Fetched | None:
        """What is being fetched, once it is there."""
        return self._fetching[1].result() if self._fetching else None

    def _settle(self, following: Fetched | None) -> None:
        batches = following.batches if following else [None] * len(self.caches)
        for cache, batch in zip(self.caches, batches, strict=True):
            cache.settle(batch)

    @torch.no_grad()
    def _fetch(self, indices: Tensor, offsets: Tensor) -> Fetched:
        began_ns, cpu_ns = time.monotonic_ns(), self._fetching_cpu_ns()
        traffic, before = {}, self._bytes_by_tier()
        with self.recorder.span("row_fetch", kind=self._kind, phase="prefetch", traffic=traffic):
            bags = (len(offsets) - 1) // len(self.tables)
            ids = np.split(indices.cpu().numpy(), offsets[bags:-1:bags].tolist())
            for table, own in zip(self.tables, ids, strict=True):
                _check_ids(table, own)
            batches = [
                cache.fetch(np.concatenate([ids[table] + self._first_row[table] for table in group]))
                for cache, group in zip(self.caches, self._groups, strict=True)
            ]
            traffic |= self._moved_since(before)
        return Fetched(batches, time.monotonic_ns() - began_ns, self._fetching_cpu_ns() - cpu_ns)

    def _fetching_cpu_ns(self) -> int:
        """CPU time so far of this thread and those of the stores."""
        return time.thread_time_ns() + sum(store.cpu_ns for store in self._stores())

    def _pool(self, batches: Sequence[CachedBatch], offsets: Tensor) -> Tensor:
        """[bags, sum of dims]: each cache's slots are one table, and its group's bags one feature, table after table.

        (A kernel that knows of several features on one table adds up their gradients in another order.)
        """
        lengths = offsets.diff().view(len(self.tables), -1)
        pooled: dict[int, Tensor] = {}
        for group, batch, inner in zip(self._groups, batches, self._inner, strict=True):
            slots = torch.from_numpy(batch.slots[batch.position]).to(offsets.device)
            of_group = inner(slots, jagged_offsets(lengths[group]))
            pooled |= zip(group, of_group.view(len(group), lengths.shape[1], -1), strict=True)
        return torch.cat([pooled[table] for table in range(len(self.tables))], dim=1)

    def _make_inner(self) -> nn.ModuleList:
        """For each cache a lookup of its slots."""
        return nn.ModuleList(
            self._make([
                TableConfig(
                    name="cache", rows=slots + spill_slots, dim=self.tables[group[0]].dim,
                    optimizer=self.tables[group[0]].optimizer,
                )
            ])
            for group, slots, spill_slots in zip(self._groups, self._slots, self._spill_slots, strict=True)
        )  # fmt: skip

    def _inner_columns(self) -> list[list[Tensor]]:
        # `data`: autograd need not hear of the rows that come and go, since none of them is of the batch in flight.
        return [[inner.weights[0].data, inner.states[0].data] for inner in self._inner]

    def _make_room(self, batches: Sequence[CachedBatch]) -> None:
        """Enlarge the slots behind the caches where more rows than ever spill; rare, since the room doubles."""
        spilled = [len(batch.spilled) for batch in batches]
        if all(count <= room for count, room in zip(spilled, self._spill_slots, strict=True)):
            return
        self._spill_slots = [max(2 * count, room) for count, room in zip(spilled, self._spill_slots, strict=True)]
        steps = self.steps
        self._inner = self._make_inner()
        self.steps = steps
        for cache, columns in zip(self.caches, self._inner_columns(), strict=True):
            put_rows(
                columns, torch.arange(cache.index.slots), [column[: cache.index.slots] for column in cache.columns]
            )
            cache.columns = columns

    def _initialize(self, table: int, seed: int) -> None:
        config = self.tables[table]
        layout = Layout.of(self.caches[self._group_of(table)].columns)
        shard = TableShard.of(config)
        for start in range(0, config.rows, _CHUNK_ROWS):
            part = replace(shard, row_begin=shard.row_begin + start, rows=min(_CHUNK_ROWS, config.rows - start))
            columns = layout.zeros(part.rows)
            initialize(columns[:1], [part], seed)
            self.write_rows(table, start, columns)

    def _record(self, fetched: Fetched) -> None:
        """What this batch found in the cache, what that took, and the bytes that each tier moved since the last."""
        metric, batches = self.recorder.metric, fetched.batches
        metric("cache_fetch_ns", fetched.duration_ns)
        metric("cache_move_ns", sum(batch.move_ns for batch in batches))
        metric("cache_fetch_cpu_ns", fetched.cpu_ns)
        metric("cache_lookups", sum(len(batch.position) for batch in batches))
        metric("cache_unique_rows", sum(len(batch.rows) for batch in batches))
        metric("cache_misses", sum(batch.misses for batch in batches))
        metric("cache_conflicts", sum(len(batch.spilled) for batch in batches))
        moved = self._bytes_by_tier()
        for tier, moved_bytes in moved.items():
            for way, now, before in zip(("read", "write"), moved_bytes, self._moved_bytes[tier], strict=True):
                metric(f"{tier}_{way}_bytes", now - before)
        self._moved_bytes = moved

    def _bytes_by_tier(self) -> Traffic:
        """So far."""
        found: Traffic = {}
        for store in self._stores():
            read, written = found.get(store.tier, (0, 0))
            found[store.tier] = read + store.read_bytes, written + store.write_bytes
        return found

    def _moved_since(self, before: Traffic) -> Traffic:
        """Bytes that tiers have moved since they had moved `before`; nothing of those that moved none."""
        moved = {
            tier: (read - before[tier][0], written - before[tier][1])
            for tier, (read, written) in self._bytes_by_tier().items()
        }
        return {tier: each for tier, each in moved.items() if any(each)}

    def _stores(self) -> list[Store]:
        return [store for cache in self.caches for store in chain(cache.store)]

    def _group_of(self, table: int) -> int:
        return next(place for place, group in enumerate(self._groups) if table in group)

    def _store_of(self, table: int) -> Store:
        return chain(self.caches[self._group_of(table)].store)[-1]


def _check_ids(table: TableConfig, ids: np.ndarray) -> None:
    if len(ids) and (ids.min() < 0 or ids.max() >= table.rows):
        wrong = ids[(ids < 0) | (ids >= table.rows)][0]
        raise InputError(f"table {table.name} has {table.rows} rows, numbered from 0: it has no id {wrong}")


def alike(tables: Sequence[TableConfig]) -> list[list[int]]:
    """The tables of each width and optimizer, narrow ones first: each group has a cache."""
    kinds = [(table.dim, table.optimizer) for table in tables]
    return [[index for index, own in enumerate(kinds) if own == kind] for kind in sorted(set(kinds))]
