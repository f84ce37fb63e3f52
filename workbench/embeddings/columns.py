"""Lookups that update after the backward pass: row-wise AdaGrad's moment is over all of a row's columns, on all ranks.

The state of row-wise AdaGrad is one number a row, the sum over steps of the mean of the squared gradient over the row.
Updating each column shard by its own mean would be another optimizer; so shards exchange their sums of squares, one
number for each row that was looked up. All shards of a table get the same lookups, hence the same rows in the same
order, and sums are taken in the order of columns.

In fixed order, the sums of squares are of 4 columns each and every table uses this lookup: then a table's update is the
same to the bit whether it is whole or cut into columns (at multiples of 4). Optimizers whose state is element-wise need
nothing from the other columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from workbench.embeddings.kernels import TorchLookup, set_initial_weights, update_rows
from workbench.embeddings.link import Link
from workbench.embeddings.routing import Piece
from workbench.embeddings.tables import TableShard

_FIXED_ORDER_COLUMNS = 4


class ColumnSquares:
    """Sums of squared gradients of whole rows, from those of the column shards on the ranks of `link`.

    `pieces_of` [ranks] are the column shards of each rank that have row-wise AdaGrad.
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


class DeferredLookup(TorchLookup):
    """As `kernels.make_lookup` makes, but the backward pass only sums gradients: `update` applies them.

    `columns` joins the columns that other ranks hold; every rank of its link must call `update`.
    """

    def __init__(
        self, tables: Sequence[TableShard], learning_rate: float, device: torch.device, seed: int, fixed_order: bool,
        columns: ColumnSquares | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tables, learning_rate, device, seed)
        self.tables, self.fixed_order, self.columns = tables, fixed_order, columns
        self.summed: list[tuple[Tensor, Tensor]] = []  # rows and their gradients, for each table
        set_initial_weights(self, tables, seed, device)

    def receive(self, table: int, rows: Tensor, gradients: Tensor) -> None:
        """The backward pass has summed a table's gradients [n, dim] of its distinct rows [n]; tables come in order."""
        self.summed.append((rows, gradients))

    @torch.no_grad()
    def update(self) -> None:
        """One optimizer step, once for each row of the batch."""
        means = self._mean_squares()
        for number, (rows, gradients) in enumerate(self.summed):
            update_rows(self.rows[number], self.states[number], self.optimizers[number], rows, gradients,
                        self.learning_rate, self.steps, means.get(number))  # fmt: skip
        self.summed = []

    def _mean_squares(self) -> dict[int, Tensor]:
        """Of the whole rows of each table [n] with row-wise AdaGrad."""
        rowwise = [number for number, name in enumerate(self.optimizers) if name == "rowwise_adagrad"]
        squares = [self._squares(self.summed[number][1]) for number in rowwise]
        if self.columns:
            squares = self.columns.gather(squares)
        # A running sum adds block after block, whatever the number of rows.
        return {
            number: blocks.cumsum(dim=1)[:, -1] / self.tables[number].whole.dim
            for number, blocks in zip(rowwise, squares, strict=True)
        }

    def _squares(self, gradients: Tensor) -> Tensor:
        """Sums of squares [rows, blocks]: one block, or in fixed order one for every 4 columns."""
        if not self.fixed_order:
            return gradients.square().sum(dim=1, keepdim=True)
        padded = pad(gradients.square(), (0, -gradients.shape[1] % _FIXED_ORDER_COLUMNS))
        return padded.view(len(padded), padded.shape[1] // _FIXED_ORDER_COLUMNS, _FIXED_ORDER_COLUMNS).sum(dim=2)
