"""Pooled lookups with the optimizer fused into the backward pass: FBGEMM's kernels and a plain torch path, one door.

Both sum each bag's rows, and both apply row-wise AdaGrad exactly once per unique row of the batch, on the sum of that
row's gradients (an update per occurrence would grow the state by a sum of squares instead of the square of a sum):

    state_r  += mean over the row of g_r^2          weight_r -= learning_rate * g_r / (sqrt(state_r) + EPSILON)

as FBGEMM's EXACT_ROWWISE_ADAGRAD defines it. Weights are therefore no parameters: no optimizer sees them.
"""

import importlib
import importlib.util
import zlib
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from workbench.embeddings.tables import TableConfig, TableShard
from workbench.errors import InputError

EPSILON = 1e-8
_BLOCK_ROWS = 4096  # rows that are drawn from one seed


def make_lookup(
    tables: Sequence[TableConfig], kernel: str, learning_rate: float, device: torch.device | str, seed: int
) -> nn.Module:
    """A module with `forward(indices [n], offsets [tables * bags + 1]) -> pooled [bags, sum of dims]`, both int64.

    Bags are table-major: bag b of table t is `indices[offsets[t * bags + b] : offsets[t * bags + b + 1]]`. `weights`
    and `states` are lists with [rows, dim] and [rows] of every table. `kernel` is fbgemm, torch, or auto: FBGEMM where
    it is built for the device and takes these dims. An index out of its table stops the program.
    """
    obstacle = _fbgemm_obstacle(tables, torch.device(device))
    if kernel == "fbgemm" and obstacle:
        raise InputError(f"kernel=fbgemm cannot run here: {obstacle}; use kernel=torch or kernel=auto")
    make = TorchLookup if kernel == "torch" or obstacle else FbgemmLookup
    lookup = make(tables, learning_rate, torch.device(device))
    initialize(lookup.weights, tables, seed)
    return lookup


def _fbgemm_obstacle(tables: Sequence[TableConfig], device: torch.device) -> str | None:
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm_gpu is not installed"
    if device.type == "cuda" and importlib.import_module("fbgemm_gpu").__variant__ == "cpu":
        return "the installed fbgemm_gpu is its CPU build"
    if odd := [table.name for table in tables if table.dim % 4]:
        return f"dims must be multiples of 4, and {odd[0]}'s is not"
    return None


def initialize(weights: Sequence[Tensor], tables: Sequence[TableConfig], seed: int) -> None:
    """Draw every table's weights [rows, dim]; those of a shard are the whole table's."""
    for weight, table in zip(weights, tables, strict=True):
        _initialize(weight, table if isinstance(table, TableShard) else TableShard.of(table), seed)


def _initialize(weight: Tensor, shard: TableShard, seed: int) -> None:
    """Uniform in +-1/sqrt(rows), as the open DLRM does. Blocks of the whole table's rows are drawn by the table's name
    and the block's number, so a row is the same wherever its table lies and however it is cut."""
    bound = shard.whole.rows**-0.5
    generator = torch.Generator(weight.device)
    columns = slice(shard.column_begin, shard.column_begin + shard.dim)
    end = min(shard.row_begin + shard.rows, shard.whole.rows)  # an empty shard's one row lies behind the table's last
    for block in range(shard.row_begin // _BLOCK_ROWS, -(-end // _BLOCK_ROWS)):
        first = block * _BLOCK_ROWS
        # Folded into 32 bits here: torch's CPU generator would drop the others.
        generator.manual_seed(zlib.crc32(f"{seed} {shard.name} {block}".encode()))
        rows = weight.new_empty(min(_BLOCK_ROWS, shard.whole.rows - first), shard.whole.dim)
        rows.uniform_(-bound, bound, generator=generator)
        begin = max(shard.row_begin, first)
        part = rows[begin - first : end - first, columns]
        weight.detach()[begin - shard.row_begin :][: len(part)].copy_(part)


class FbgemmLookup(nn.Module):
    """FBGEMM's split table-batched embedding bags: all tables in one kernel call."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device) -> None:
        super().__init__()
        # Imported here: with the torch path FBGEMM need not be installed.
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        on_gpu = device.type == "cuda"
        location = EmbeddingLocation.DEVICE if on_gpu else EmbeddingLocation.HOST
        compute = ComputeDevice.CUDA if on_gpu else ComputeDevice.CPU
        self.tables = SplitTableBatchedEmbeddingBagsCodegen(
            [(table.rows, table.dim, location, compute) for table in tables],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=learning_rate,
            eps=EPSILON,
            device=device,
            bounds_check_mode=BoundsCheckMode.FATAL,
        )

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return self.tables(indices, offsets)

    @property
    def weights(self) -> list[Tensor]:
        return self.tables.split_embedding_weights()

    @property
    def states(self) -> list[Tensor]:
        return [table_states[0] for table_states in self.tables.split_optimizer_states()]


class TorchLookup(nn.Module):
    """The same in plain torch, table by table: runs wherever torch does, and says what FBGEMM's result must be."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weights = [torch.empty(table.rows, table.dim, device=device) for table in tables]
        self.states = [torch.zeros(table.rows, device=device) for table in tables]
        # Autograd runs a backward pass only towards something that requires a gradient.
        self.anchor = torch.empty(0, device=device, requires_grad=True)

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return _PooledLookup.apply(self.anchor, indices, offsets, self)


class _PooledLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor: Tensor, indices: Tensor, offsets: Tensor, lookup: TorchLookup) -> Tensor:
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
        for weight, state, table_gradient, (rows, starts) in zip(
            lookup.weights, lookup.states, gradients, bags, strict=True
        ):
            bag_of_row = torch.repeat_interleave(starts.diff())
            update_rows(weight, state, rows, table_gradient[bag_of_row], lookup.learning_rate)
        return None, None, None, None


def bags_by_table(indices: Tensor, offsets: Tensor, tables: int) -> list[tuple[Tensor, Tensor]]:
    """Each table's own indices and its bags' offsets [bags + 1], counted from 0."""
    bags = (len(offsets) - 1) // tables
    bounds = offsets[::bags].tolist()
    return [
        (indices[start:end], offsets[table * bags : (table + 1) * bags + 1] - start)
        for table, (start, end) in enumerate(pairwise(bounds))
    ]


def update_rows(weight: Tensor, state: Tensor, rows: Tensor, gradients: Tensor, learning_rate: float) -> None:
    """One step of row-wise AdaGrad in place: weight [table rows, dim], state [table rows]; `gradients` [n, dim] belong
    to `rows` [n], and those of equal rows are summed first."""
    unique, summed = sum_by_row(rows, gradients)
    state[unique] += summed.square().mean(dim=1)
    weight[unique] -= learning_rate * summed / (state[unique].sqrt() + EPSILON)[:, None]


def sum_by_row(rows: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows [u] of `rows` [n], ascending, and the sums [u, dim] of their `gradients` [n, dim], in order."""
    unique, position = torch.unique(rows, return_inverse=True)
    return unique, gradients.new_zeros(len(unique), gradients.shape[1]).index_add_(0, position, gradients)
