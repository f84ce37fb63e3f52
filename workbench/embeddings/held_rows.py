"""Read and write what a rank holds of its tables, wherever the rows are: in memory, or behind a cache."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from workbench.embeddings.plan import Shard
from workbench.embeddings.sharded import ShardedEmbeddings
from workbench.embeddings.tiers import CachedLookup

COLUMNS = ("weight", "state")


class HeldRows(NamedTuple):
    """`shard` of `table`. `read(start, end)` gives the COLUMNS of some of its rows: weights [rows, dim] and optimizer
    state [rows, ...]; `write(start, columns)` replaces them, before the first batch. `copied`: every rank holds it."""

    table: str
    shard: Shard
    copied: bool
    read: Callable[[int, int], list[Tensor]]
    write: Callable[[int, Sequence[Tensor]], None]


def held_rows(tables: ShardedEmbeddings) -> Iterator[HeldRows]:
    """Everything that this rank holds; caches are flushed."""
    for scheme, lookup in tables.lookups.items():
        pieces = [piece for piece in tables.pieces if piece.scheme == scheme]
        if isinstance(lookup, CachedLookup):
            lookup.flush()
            ways = [(partial(lookup.read_rows, k), partial(lookup.write_rows, k)) for k in range(len(pieces))]
        else:
            columns = zip(lookup.weights, lookup.states, strict=True)
            ways = [(partial(_read, own), partial(_write, own)) for own in columns]
        for piece, (read, write) in zip(pieces, ways, strict=True):
            if piece.shard.rows:  # an empty shard's one row is nobody's
                yield HeldRows(tables.name(piece.table), piece.shard, scheme == "data-parallel", read, write)
    for held in tables.held_replicated():
        own = held.weight, held.state
        yield HeldRows(held.table, held.shard, True, partial(_read, own), partial(_write, own))


def _read(columns: Sequence[Tensor], start: int, end: int) -> list[Tensor]:
    return [column.detach()[start:end] for column in columns]


def _write(columns: Sequence[Tensor], start: int, values: Sequence[Tensor]) -> None:
    for column, value in zip(columns, values, strict=True):
        column.detach()[start : start + len(value)].copy_(value)
