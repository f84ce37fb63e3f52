"""Read and write what a rank holds of its tables, wherever the rows are: in memory, or behind a cache."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from workbench.embeddings.plan import Shard
from workbench.embeddings.sharded import ShardedEmbeddings
from workbench.embeddings.tiers import CachedLookup


class HeldRows(NamedTuple):
    """`shard` of `table`. `read(start, end)` gives the `columns` of some of its rows, [rows, ...] each, as they are
    stored: weight, optimizer state, scale and least value of int8 rows; bf16 as int16 of the same bits, for NumPy.
    `write(start, columns)` replaces them, before the first batch. `copied`: every rank holds it."""

    table: str
    shard: Shard
    copied: bool
    columns: tuple[str, ...]
    read: Callable[[int, int], list[Tensor]]
    write: Callable[[int, Sequence[Tensor]], None]


def held_rows(tables: ShardedEmbeddings) -> Iterator[HeldRows]:
    """Everything that this rank holds; caches are flushed."""
    for scheme, lookup in tables.lookups.items():
        pieces = [piece for piece in tables.pieces if piece.scheme == scheme]
        if isinstance(lookup, CachedLookup):
            lookup.flush()
            names = ("weight", "state")
            ways = [(names, partial(lookup.read_rows, k), partial(lookup.write_rows, k)) for k in range(len(pieces))]
        else:
            ways = map(_in_memory, lookup.stored)
        for piece, way in zip(pieces, ways, strict=True):
            if piece.shard.rows:  # an empty shard's one row is nobody's
                yield HeldRows(tables.name(piece.table), piece.shard, scheme == "data-parallel", *way)
    if tables.replicated:
        for (table, shard), stored in zip(tables.copies(), tables.replicated.stored, strict=True):
            yield HeldRows(table, shard, True, *_in_memory(stored))


def set_steps(tables: ShardedEmbeddings, steps: int) -> None:
    """Go on as after `steps` updates, which is what Adam and stochastic rounding ask for: before the first batch."""
    for lookup in filter(None, [*tables.lookups.values(), tables.replicated]):
        lookup.steps = steps


def _in_memory(stored: dict[str, Tensor]) -> tuple[tuple[str, ...], Callable, Callable]:
    """Names, `read` and `write` of HeldRows."""
    own = [column.view(torch.int16) if column.dtype == torch.bfloat16 else column for column in stored.values()]
    return tuple(stored), partial(_read, own), partial(_write, own)


def _read(columns: Sequence[Tensor], start: int, end: int) -> list[Tensor]:
    return [column[start:end] for column in columns]


def _write(columns: Sequence[Tensor], start: int, values: Sequence[Tensor]) -> None:
    for column, value in zip(columns, values, strict=True):
        column[start : start + len(value)].copy_(value)
