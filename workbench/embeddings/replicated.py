"""Data-parallel tables: every rank has a copy and looks up its own samples; dense gradients are summed over ranks.

Tables of one kind (width, row format, optimizer) lie in one tensor, so that each kind takes one lookup. The update by
the summed dense gradient changes only rows that were looked up, and equals the one that other schemes fuse into the
backward pass. A row whose gradient is zero is left as it is by all optimizers but Adam, whose moments decay, and in all
formats but int8, which cannot be read and written back: tables of those also sum over ranks how often a row was looked
up.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.embeddings.jagged import offsets, permute_segments
from workbench.embeddings.kernels import initialize, update_rows
from workbench.embeddings.optimizers import sum_by_row
from workbench.embeddings.rows import Rows
from workbench.embeddings.tables import TableConfig


class ReplicatedTables(nn.Module):
    """The tables come out by kind, narrow ones first, then in order: `order`. `row_bases` are their first rows."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, seed: int) -> None:
        super().__init__()
        self.steps = 0
        kinds = [(table.dim, table.row_dtype, table.optimizer) for table in tables]
        self.order = sorted(range(len(tables)), key=lambda number: kinds[number])
        self.kinds = nn.ModuleList(
            _Kind([table for table, own in zip(tables, kinds, strict=True) if own == kind], learning_rate, device, seed)
            for kind in sorted(set(kinds))
        )
        self.row_bases = torch.tensor([begin for kind in self.kinds for begin, _ in kind.bounds])

    def prepare(self, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Lookups of these tables in table order, lengths [tables, B], as `forward` takes them."""
        lengths, indices = permute_segments(lengths, indices, self.order)
        return lengths, indices + torch.repeat_interleave(self.row_bases, lengths.sum(1))

    def forward(self, lengths: Tensor, indices: Tensor) -> list[Tensor]:
        """Pooled rows [B, tables * width] for each kind."""
        lengths_of = lengths.split([len(kind.bounds) for kind in self.kinds])
        indices_of = indices.split([int(part.sum()) for part in lengths_of])
        return [kind(*lookups) for kind, *lookups in zip(self.kinds, lengths_of, indices_of, strict=True)]

    @torch.no_grad()
    def update(self) -> None:
        """One optimizer step by the gradients that the ranks have summed."""
        self.steps += 1
        for kind in self.kinds:
            kind.update(self.steps)

    @property
    def weights(self) -> list[Tensor]:
        """[rows, dim] of every table, in `order`: fp32 rows themselves, others widened."""
        return [weight[slice(*ends)] for kind in self.kinds for weight in [kind.rows.dense()] for ends in kind.bounds]

    @property
    def stored(self) -> list[dict[str, Tensor]]:
        """As those of `kernels.make_lookup`'s modules, in `order`."""
        return [
            {name: column[slice(*ends)] for name, column in {**kind.rows.columns, "state": kind.state}.items()}
            for kind in self.kinds
            for ends in kind.bounds
        ]


class _Kind(nn.Module):
    """Tables of one kind, one after the other; rows [begin, end) of each are `bounds`.

    Its parameters are there for their gradients alone, and have no memory of their own: [rows, dim], and where needed
    the lookups of every row, [rows].
    """

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, seed: int) -> None:
        super().__init__()
        self.learning_rate, self.optimizer, dim = learning_rate, tables[0].optimizer, tables[0].dim
        ends = torch.tensor([table.rows for table in tables]).cumsum(0).tolist()
        self.bounds = list(zip([0, *ends], ends, strict=False))
        self.rows = Rows(tables, device, seed)
        self.state = torch.zeros(ends[-1], *tables[0].state_shape, device=device)
        weight = torch.empty(ends[-1], dim, device=device)
        initialize([weight[slice(*each)] for each in self.bounds], tables, seed)
        self.rows.write(torch.arange(ends[-1], device=device), weight, step=0)
        nothing = torch.zeros(1, device=device)
        self.gradient = nn.Parameter(nothing.expand(ends[-1], dim))
        counted = self.optimizer == "adam" or self.rows.format == "int8"
        self.lookups = nn.Parameter(nothing.expand(ends[-1])) if counted else None

    def forward(self, lengths: Tensor, indices: Tensor) -> Tensor:
        """Pooled rows [B, tables * width] of lengths [tables, B]."""
        pooled = _DenseLookup.apply(self.gradient, self.lookups, indices, offsets(lengths), self.rows)
        return pooled.view(*lengths.shape, -1).transpose(0, 1).flatten(1)

    def update(self, step: int) -> None:
        """Step number `step` of the optimizer."""
        gradient = self.gradient.grad
        changed = _any_bit(gradient) if self.lookups is None else self.lookups.grad
        rows = changed.nonzero().squeeze(1)
        gradient = gradient.index_select(0, rows)
        update_rows(self.rows, self.state, self.optimizer, rows, gradient, self.learning_rate, step)


def _any_bit(values: Tensor) -> Tensor:
    """Whether each row of fp32 [rows, dim] has a bit set, [rows]: `any` takes four times as long."""
    bits = values.view(torch.int32)
    return (bits.amax(dim=1) != 0) | (bits.amin(dim=1) != 0)


class _DenseLookup(torch.autograd.Function):
    """Pooled rows, with the gradient of the whole tables, and how often each row was looked up."""

    @staticmethod
    def forward(ctx, gradient: Tensor, lookups: Tensor | None, indices: Tensor, starts: Tensor, rows: Rows) -> Tensor:
        ctx.save_for_backward(indices, starts)
        ctx.shape, ctx.counted = gradient.shape, lookups is not None
        return rows.pool(indices, starts)

    @staticmethod
    def backward(ctx, pooled: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        indices, starts = ctx.saved_tensors
        rows, sums = sum_by_row(indices, torch.repeat_interleave(starts.diff()), pooled)
        gradient = pooled.new_zeros(ctx.shape).index_copy_(0, rows, sums)
        counts = torch.bincount(indices, minlength=ctx.shape[0]).to(pooled.dtype) if ctx.counted else None
        return gradient, counts, None, None, None
