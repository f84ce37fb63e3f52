"""Lookups whose row-wise AdaGrad spans shards: a row's moment is over all of its columns, wherever they lie.

The state of row-wise AdaGrad is one number a row, the sum over steps of the mean of the squared gradient over the row.
Updating each column shard by its own mean would be another optimizer; so shards exchange their sums of squares, one
number for each row that was looked up. All shards of a table get the same lookups, hence the same rows in the same
order, and sums are taken in the order of columns.

In fixed order, the sums of squares are of 4 columns each and every table uses this lookup: then a table's update is the
same to the bit whether it is whole or cut into columns (at multiples of 4).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from workbench.embeddings.kernels import EPSILON, bags_by_table, initialize, sum_by_row
from workbench.embeddings.link import Link
from workbench.embeddings.routing import Piece
from workbench.embeddings.tables import TableShard

_FIXED_ORDER_COLUMNS = 4


class ColumnSquares:
    """Sums of squared gradients of whole rows, from those of the column shards on the ranks of `link`.

    `pieces_of` [ranks] are the column shards of each rank.
    """

    def __init__(self, pieces_of: Sequence[Sequence[Piece]], link: Link, device: torch.device) -> None:
        self.link, self.own, self.device = link, pieces_of[link.rank], device
        tables_of = [{piece.table for piece in pieces} for pieces in pieces_of]
        # Pieces that each rank gets from this one and sends to it: those of tables of which both hold columns.
        self.outgoing = [
            [number for number, piece in enumerate(self.own) if rank != link.rank and piece.table in tables]
            for rank, tables in enumerate(tables_of)
        ]
        self.incoming = [
            [piece for piece in pieces if rank != link.rank and piece.table in tables_of[link.rank]]
            for rank, pieces in enumerate(pieces_of)
        ]

    def gather(self, squares: Sequence[Tensor]) -> list[Tensor]:
        """For each shard of this rank, given its own [rows, blocks]: those of the whole table, in column order."""
        rows_of = {piece.table: len(part) for piece, part in zip(self.own, squares, strict=True)}
        parts = [squares[number].flatten() for numbers in self.outgoing for number in numbers]
        source = torch.cat([torch.empty(0, device=self.device), *parts])
        sends = [sum(squares[k].numel() for k in numbers) for numbers in self.outgoing]
        sizes = [[rows_of[p.table] * self._blocks(p) for p in pieces] for pieces in self.incoming]
        received, transfer = self.link.all_to_all("update", source, list(map(sum, sizes)), sends)
        self.link.wait(transfer, "column_squares_exchange", "optimizer")

        found = {_place(piece): part for piece, part in zip(self.own, squares, strict=True)}
        arrived = received.split([size for of_rank in sizes for size in of_rank])
        for piece, part in zip((piece for pieces in self.incoming for piece in pieces), arrived, strict=True):
            found[_place(piece)] = part.view(rows_of[piece.table], self._blocks(piece))
        places = sorted(found)
        return [torch.cat([found[place] for place in places if place[0] == p.table], dim=1) for p in self.own]

    def _blocks(self, piece: Piece) -> int:
        return -(-piece.shard.dim // _FIXED_ORDER_COLUMNS) if self.link.fixed_order else 1


def _place(piece: Piece) -> tuple[int, int]:
    return piece.table, piece.shard.column_begin


class DeferredLookup(nn.Module):
    """As the modules of `kernels.make_lookup`, but the backward pass only sums gradients: `update` applies them.

    `columns` joins the columns that other ranks hold; every rank of its link must call `update`.
    """

    def __init__(
        self, tables: Sequence[TableShard], learning_rate: float, device: torch.device, seed: int, fixed_order: bool,
        columns: ColumnSquares | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tables, self.learning_rate, self.fixed_order, self.columns = tables, learning_rate, fixed_order, columns
        self.weights = [torch.empty(table.rows, table.dim, device=device) for table in tables]
        self.states = [torch.zeros(table.rows, device=device) for table in tables]
        initialize(self.weights, tables, seed)
        # Autograd runs a backward pass only towards something that requires a gradient.
        self.anchor = torch.empty(0, device=device, requires_grad=True)
        self.summed: list[tuple[Tensor, Tensor]] = []  # rows and their gradients, for each table

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return _SummedLookup.apply(self.anchor, indices, offsets, self)

    @torch.no_grad()
    def update(self) -> None:
        """Row-wise AdaGrad, once for each row of the batch."""
        squares = [self._squares(gradients) for _, gradients in self.summed]
        if self.columns:
            squares = self.columns.gather(squares)
        for table, weight, state, (rows, gradients), blocks in zip(
            self.tables, self.weights, self.states, self.summed, squares, strict=True
        ):
            # A running sum adds block after block, whatever the number of rows.
            state[rows] += blocks.cumsum(dim=1)[:, -1] / table.whole.dim
            weight[rows] -= self.learning_rate * gradients / (state[rows].sqrt() + EPSILON)[:, None]
        self.summed = []

    def _squares(self, gradients: Tensor) -> Tensor:
        """Sums of squares [rows, blocks]: one block, or in fixed order one for every 4 columns."""
        if not self.fixed_order:
            return gradients.square().sum(dim=1, keepdim=True)
        padded = pad(gradients.square(), (0, -gradients.shape[1] % _FIXED_ORDER_COLUMNS))
        return padded.view(len(padded), padded.shape[1] // _FIXED_ORDER_COLUMNS, _FIXED_ORDER_COLUMNS).sum(dim=2)


class _SummedLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor: Tensor, indices: Tensor, offsets: Tensor, lookup: DeferredLookup) -> Tensor:
        ctx.save_for_backward(indices, offsets)
        ctx.lookup = lookup
        pooled = [
            embedding_bag(rows, weight, starts, mode="sum", include_last_offset=True)
            for weight, (rows, starts) in zip(
                lookup.weights, bags_by_table(indices, offsets, len(lookup.weights)), strict=True
            )
        ]
        return torch.cat(pooled, dim=1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, None, None, None]:
        indices, offsets = ctx.saved_tensors
        lookup = ctx.lookup
        gradients = gradient.split([weight.shape[1] for weight in lookup.weights], dim=1)
        bags = bags_by_table(indices, offsets, len(lookup.weights))
        lookup.summed = [
            sum_by_row(rows, table_gradient[torch.repeat_interleave(starts.diff())])
            for table_gradient, (rows, starts) in zip(gradients, bags, strict=True)
        ]
        return None, None, None, None
