"""Which lookups go where: from the batch's tables to the plan's shards, in the order in which they travel.

Travel order: rank 0's shards first; of one rank, scheme after scheme, tables in their order. A shard of columns gets
all lookups of its table; a shard of rows gets those of its rows, counted from its first (block bucketization, Neo
section 4.2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.embeddings.jagged import permute_segments, split_by_rows
from workbench.embeddings.plan import SCHEMES, Plan, Shard, TablePlan


@dataclass(frozen=True)
class Piece:
    """A shard of table number `table` that lookups are sent to."""

    table: int
    scheme: str
    shard: Shard


class Routing:
    """The way of every lookup under `plan`; `replicate` sends data-parallel tables' lookups to all ranks too."""

    def __init__(self, plan: Plan, replicate: bool) -> None:
        self.ranks = plan.ranks
        pieces = [
            Piece(number, table.scheme, shard)
            for number, table in enumerate(plan.tables)
            if replicate or table.scheme != "data-parallel"
            for shard in _shards(table, plan.ranks)
        ]
        pieces.sort(key=lambda piece: (piece.shard.rank, SCHEMES.index(piece.scheme)))
        self.pieces_of = [[piece for piece in pieces if piece.shard.rank == rank] for rank in range(plan.ranks)]
        self.schemes = [scheme for scheme in SCHEMES if any(piece.scheme == scheme for piece in pieces)]
        # Row-split tables become a segment for each block of rows, after those of the tables themselves.
        self._split_tables = sorted({piece.table for piece in pieces if piece.scheme in ("row-wise", "table-row-wise")})
        segment_of: dict[tuple[int, Shard], int] = {}
        bounds, row_bases, base = [], [], 0
        for number in self._split_tables:
            row_bases.append(base)
            for shard in _shards(plan.tables[number], plan.ranks):
                segment_of[number, shard] = len(plan.tables) + len(bounds)
                bounds.append(base + shard.row_begin)
            base += plan.tables[number].rows
        self._bounds, self._row_bases = torch.tensor(bounds), torch.tensor(row_bases)
        self.order = [segment_of.get((piece.table, piece.shard), piece.table) for piece in pieces]

    def dims_of(self, scheme: str) -> list[int]:
        """Columns that each rank pools under `scheme`."""
        return [sum(p.shard.dim for p in pieces if p.scheme == scheme) for pieces in self.pieces_of]

    def route(self, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """A batch's lookups, lengths [tables, B] and indices, as they travel: lengths [pieces of all ranks, B]."""
        if self._split_tables:
            split = permute_segments(lengths, indices, self._split_tables)
            split_lengths, split_indices = split_by_rows(*split, self._bounds, self._row_bases)
            lengths, indices = torch.cat([lengths, split_lengths]), torch.cat([indices, split_indices])
        return permute_segments(lengths, indices, self.order)


def _shards(table: TablePlan, ranks: int) -> Sequence[Shard]:
    """The table's shards; of a row-wise one, an empty shard too on each rank that has none, after its last row.

    All ranks then take part in the reduce-scatter with the same columns; what they add is zero.
    """
    if table.scheme != "row-wise":
        return table.shards
    owners = {shard.rank for shard in table.shards}
    empty = replace(table.shards[-1], row_begin=table.rows, row_end=table.rows)
    return [*table.shards, *(replace(empty, rank=rank) for rank in range(ranks) if rank not in owners)]
