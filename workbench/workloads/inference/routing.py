"""One net's way to its shards and back: bags are cut by the plan, pooled rows are joined to the net's embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.workloads.inference.bags import Bags, stacked
from workbench.workloads.inference.models.config import NetConfig
from workbench.workloads.inference.plan import Piece, Plan


class NetRouting:
    """Routes of `net` by `plan`. `shards` are the names of those that hold any of its tables, `pieces` what each of
    them holds, `widths` the width of what each returns."""

    def __init__(self, net: NetConfig, plan: Plan) -> None:
        self._position = {table.name: position for position, table in enumerate(net.tables)}
        shards = plan.shards_of(set(self._position))
        self.shards = [shard.name for shard in shards]
        self.pieces = [pieces_of(shard.pieces, net) for shard in shards]
        self._positions = [np.array([self._position[piece.table] for piece in pieces]) for pieces in self.pieces]
        self._whole = [all(piece.pieces == 1 for piece in pieces) for pieces in self.pieces]
        dims = [table.dim for table in net.tables]
        self.widths = [sum(dims[self._position[p.table]] for p in pieces) for pieces in self.pieces]
        self._plan_join(dims)

    def cut(self, bags: Bags) -> list[Bags]:
        """For each shard, the bags [its pieces, B] of the net's bags [tables, B], ids as rows of the pieces."""
        return [
            bags.tables(positions) if whole else self._by_pieces(bags, pieces)
            for positions, whole, pieces in zip(self._positions, self._whole, self.pieces, strict=True)
        ]

    def join(self, pooled: Sequence[Tensor]) -> Tensor:
        """The net's embeddings [B, sum of dims] of what each shard returned, [B, its width]."""
        arrived = torch.cat(list(pooled), dim=1)
        embeddings = arrived if self._columns is None else arrived.index_select(1, self._columns)
        for target, source in self._additions:  # the other pieces of tables that are cut by rows
            embeddings[:, target] += arrived[:, source]
        return embeddings

    def _by_pieces(self, bags: Bags, pieces: Sequence[Piece]) -> Bags:
        """A shard's bags, some of whose tables are cut by rows."""
        parts = [bags.tables([self._position[piece.table]]) for piece in pieces]
        return stacked([part.piece(p.piece, p.pieces) for part, p in zip(parts, pieces, strict=True)])

    def _plan_join(self, dims: Sequence[int]) -> None:
        """Where in the rows that arrive, shard after shard, each table's columns begin; several for a table that is
        cut by rows: the first is taken, the others are added to it."""
        sources: list[list[int]] = [[] for _ in dims]
        start = 0
        for pieces in self.pieces:
            for piece in pieces:
                position = self._position[piece.table]
                sources[position].append(start)
                start += dims[position]
        first = torch.cat([torch.arange(s[0], s[0] + dim) for s, dim in zip(sources, dims, strict=True)])
        in_order = torch.equal(first, torch.arange(start))
        self._columns = None if in_order else first
        targets = [sum(dims[:position]) for position in range(len(dims))]
        self._additions = [
            (slice(target, target + dim), slice(source, source + dim))
            for target, dim, starts in zip(targets, dims, sources, strict=True)
            for source in starts[1:]
        ]


def pieces_of(pieces: Sequence[Piece], net: NetConfig) -> tuple[Piece, ...]:
    """Those of one net's tables: the order in which a shard's bags and pooled rows travel."""
    names = {table.name for table in net.tables}
    return tuple(piece for piece in pieces if piece.table in names)
