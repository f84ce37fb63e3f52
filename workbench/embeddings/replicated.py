"""Data-parallel tables: every rank has a copy and looks up its own samples; dense gradients are summed over ranks.

Tables of one width lie in one tensor, so that each width takes one lookup. Row-wise AdaGrad on the summed dense
gradient changes only rows that were looked up, and equals the update that other schemes fuse into the backward pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from workbench.embeddings.jagged import offsets, permute_segments
from workbench.embeddings.kernels import EPSILON, initialize
from workbench.embeddings.tables import TableConfig


class ReplicatedTables(nn.Module):
    """`weights` are parameters, [rows of all tables of a width, width]; `tables` come out by width, then in order."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, seed: int) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.order = sorted(range(len(tables)), key=lambda number: tables[number].dim)
        self.widths = sorted({table.dim for table in tables})
        self.tables_of = [[tables[number] for number in self.order if tables[number].dim == w] for w in self.widths]
        self.row_bases = torch.tensor([base for of_width in self.tables_of for base in _row_bases(of_width)])
        self.weights = nn.ParameterList(
            torch.empty(sum(table.rows for table in of_width), width, device=device)
            for width, of_width in zip(self.widths, self.tables_of, strict=True)
        )
        self.states = [torch.zeros(len(weight), device=device) for weight in self.weights]
        for weight, of_width in zip(self.weights, self.tables_of, strict=True):
            initialize(_per_table(weight.detach(), of_width), of_width, seed)

    def prepare(self, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Lookups of these tables in table order, lengths [tables, B], as `forward` takes them."""
        lengths, indices = permute_segments(lengths, indices, self.order)
        return lengths, indices + torch.repeat_interleave(self.row_bases, lengths.sum(1))

    def forward(self, lengths: Tensor, indices: Tensor) -> list[Tensor]:
        """Pooled rows [B, tables * width] for each width."""
        lengths_of = lengths.split([len(of_width) for of_width in self.tables_of])
        indices_of = indices.split([int(part.sum()) for part in lengths_of])
        pooled = []
        for weight, part_lengths, part in zip(self.weights, lengths_of, indices_of, strict=True):
            rows = embedding_bag(part, weight, offsets(part_lengths), mode="sum", include_last_offset=True)
            by_table = rows.view(*part_lengths.shape, weight.shape[1])
            pooled.append(by_table.transpose(0, 1).flatten(1))
        return pooled

    @torch.no_grad()
    def update(self) -> None:
        """Row-wise AdaGrad by the gradients that the ranks have summed."""
        for weight, state in zip(self.weights, self.states, strict=True):
            state += weight.grad.square().mean(dim=1)
            weight -= self.learning_rate * weight.grad / (state.sqrt() + EPSILON)[:, None]

    def held(self) -> list[tuple[Tensor, Tensor]]:
        """Weights [rows, dim] and state [rows] of every table, in `order`."""
        return [
            pair
            for weight, state, of_width in zip(self.weights, self.states, self.tables_of, strict=True)
            for pair in zip(_per_table(weight.detach(), of_width), _per_table(state, of_width), strict=True)
        ]


def _row_bases(tables: Sequence[TableConfig]) -> list[int]:
    """Row at which each table begins."""
    return [sum(table.rows for table in tables[:number]) for number in range(len(tables))]


def _per_table(tensor: Tensor, tables: Sequence[TableConfig]) -> tuple[Tensor, ...]:
    return tensor.split([table.rows for table in tables])
