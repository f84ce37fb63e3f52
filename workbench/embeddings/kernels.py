"""Pooled lookups with the optimizer fused into the backward pass: FBGEMM's kernels and a plain torch path, one door.

Both sum each bag's rows, and both update each unique row of the batch exactly once, on the sum of that row's gradients:
`optimizers.py` says by which rules. Weights are therefore no parameters: no optimizer sees them. FBGEMM takes fp32 rows
and the optimizers that it has for CPUs; the torch path takes all. Each gives the same bits for any number of threads.
"""

import importlib
import importlib.util
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from workbench.embeddings.huge_pages import use_huge_pages
from workbench.embeddings.optimizers import EPSILON, sum_by_row, update
from workbench.embeddings.rows import Rows
from workbench.embeddings.rowwise_update import rowwise_adagrad_backward
from workbench.embeddings.tables import TableConfig, TableShard
from workbench.errors import InputError

_FBGEMM_OPTIMIZERS = {"rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD", "adagrad": "EXACT_ADAGRAD", "sgd": "EXACT_SGD"}
_BLOCK_ROWS = 4096  # rows that are drawn from one seed


def make_lookup(
    tables: Sequence[TableConfig], kernel: str, learning_rate: float, device: torch.device | str, seed: int
) -> nn.Module:
    """A module with `forward(indices [n], offsets [tables * bags + 1]) -> pooled [bags, sum of dims]`, both int64.

    Bags are table-major: bag b of table t is `indices[offsets[t * bags + b] : offsets[t * bags + b + 1]]`. `weights`
    and `states` are lists with [rows, dim] (fp32 rows themselves, others widened) and [rows, *state_shape] of every
    table, `stored` with all that is stored of it, by name (weight, state...), [rows, ...] each. `steps` counts the
    updates, for optimizers and rows that ask: set it to go on where others stopped. `kernel` is fbgemm, torch, or auto:
    FBGEMM where it is built for the device and takes these tables, with an update of our own for row-wise AdaGrad on
    CPUs (`rowwise_update`). An index out of its table stops the program.
    """
    obstacle = _fbgemm_obstacle(tables, torch.device(device))
    if kernel == "fbgemm" and obstacle:
        raise InputError(f"kernel=fbgemm cannot run here: {obstacle}; use kernel=torch or kernel=auto")
    compiled = kernel == "auto" and torch.device(device).type == "cpu" and tables[0].optimizer == "rowwise_adagrad"
    make = TorchLookup if kernel == "torch" or obstacle else CompiledUpdateLookup if compiled else FbgemmLookup
    lookup = make(tables, learning_rate, torch.device(device), seed)
    set_initial_weights(lookup, tables, seed, device)
    return lookup


def set_initial_weights(
    lookup: nn.Module, tables: Sequence[TableConfig], seed: int, device: torch.device | str
) -> None:
    """Draw the weights of a new lookup, table by table."""
    for index, table in enumerate(tables):
        weight = torch.empty(table.rows, table.dim, device=device)
        initialize([weight], [table], seed)
        lookup.set_weight(index, weight)


def _fbgemm_obstacle(tables: Sequence[TableConfig], device: torch.device) -> str | None:
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm_gpu is not installed"
    if device.type == "cuda" and importlib.import_module("fbgemm_gpu").__variant__ == "cpu":
        return "the installed fbgemm_gpu is its CPU build"
    if odd := [table.name for table in tables if table.dim % 4]:
        return f"dims must be multiples of 4, and {odd[0]}'s is not"
    if narrow := [table for table in tables if table.row_dtype != "fp32"]:
        return f"its rows are fp32 here, and {narrow[0].name}'s are {narrow[0].row_dtype}"
    optimizers = {table.optimizer for table in tables}
    if len(optimizers) > 1 or not optimizers <= _FBGEMM_OPTIMIZERS.keys():
        return f"it has one optimizer, of {', '.join(_FBGEMM_OPTIMIZERS)}, not {' and '.join(sorted(optimizers))}"
    return None


def initialize(weights: Sequence[Tensor], tables: Sequence[TableConfig], seed: int) -> None:
    """Draw every table's weights [rows, dim]; those of a shard are the whole table's."""
    for weight, table in zip(weights, tables, strict=True):
        _initialize(weight, TableShard.of(table), seed)


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
    """FBGEMM's split table-batched embedding bags: all tables in one kernel call. Nothing in it is random."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, _: int) -> None:
        super().__init__()
        self.steps = 0  # not counted: none of its optimizers asks
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
            optimizer=EmbOptimType[_FBGEMM_OPTIMIZERS[tables[0].optimizer]],
            learning_rate=learning_rate,
            eps=EPSILON,
            device=device,
            bounds_check_mode=BoundsCheckMode.FATAL,
        )
        if not on_gpu:
            use_huge_pages(self.tables.weights_host)

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return self.tables(indices, offsets)

    @property
    def weights(self) -> list[Tensor]:
        return self.tables.split_embedding_weights()

    def set_weight(self, table: int, weight: Tensor) -> None:
        """Copy [rows, dim] into a table."""
        self.weights[table].detach().copy_(weight)

    @property
    def stored(self) -> list[dict[str, Tensor]]:
        return [{"weight": w.detach(), "state": s} for w, s in zip(self.weights, self.states, strict=True)]

    @property
    def states(self) -> list[Tensor]:
        # SGD keeps none and FBGEMM lists none.
        found = self.tables.split_optimizer_states()
        return [states[0] for states in found] if found else [weight[:, :0] for weight in self.weights]


class CompiledUpdateLookup(FbgemmLookup):
    """FBGEMM's lookup, and our update, of tables with row-wise AdaGrad on a CPU."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, seed: int) -> None:
        super().__init__(tables, learning_rate, device, seed)
        self.learning_rate, self.dims = learning_rate, [table.dim for table in tables]
        self.first_rows = [0, *accumulate(table.rows for table in tables[:-1])]
        self.anchor = torch.empty(0, requires_grad=True)

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return _LookupWithUpdate.apply(self.anchor, indices, offsets, self)


class _LookupWithUpdate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor: Tensor, indices: Tensor, offsets: Tensor, lookup: CompiledUpdateLookup) -> Tensor:
        ctx.save_for_backward(indices, offsets)
        ctx.lookup = lookup
        return lookup.tables(indices, offsets)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, None, None, None]:
        lookup, tables = ctx.lookup, ctx.lookup.tables
        rowwise_adagrad_backward(
            gradient, tables.weights_host.detach(), tables.momentum1_host, *ctx.saved_tensors, lookup.dims,
            lookup.first_rows, lookup.learning_rate,
        )  # fmt: skip
        return None, None, None, None


class TorchLookup(nn.Module):
    """The same in plain torch, table by table: runs wherever torch does, and says what FBGEMM's result must be."""

    def __init__(self, tables: Sequence[TableConfig], learning_rate: float, device: torch.device, seed: int) -> None:
        super().__init__()
        self.learning_rate, self.steps = learning_rate, 0
        self.optimizers = [table.optimizer for table in tables]
        self.dims = [table.dim for table in tables]
        self.rows = [Rows([table], device, seed) for table in tables]
        self.states = [torch.zeros(table.rows, *table.state_shape, device=device) for table in tables]
        # Autograd runs a backward pass only towards something that requires a gradient.
        self.anchor = torch.empty(0, device=device, requires_grad=True)

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        return _PooledLookup.apply(self.anchor, indices, offsets, self)

    @property
    def weights(self) -> list[Tensor]:
        return [rows.dense() for rows in self.rows]

    @property
    def stored(self) -> list[dict[str, Tensor]]:
        return [{**rows.columns, "state": state} for rows, state in zip(self.rows, self.states, strict=True)]

    def set_weight(self, table: int, weight: Tensor) -> None:
        """Copy [rows, dim] into a table, rounded to what its rows are stored as."""
        self.rows[table].write(torch.arange(len(weight), device=weight.device), weight, step=0)

    def receive(self, table: int, rows: Tensor, gradients: Tensor) -> None:
        """The backward pass has summed a table's gradients [n, dim] of its distinct rows [n], of the step `steps`."""
        update_rows(self.rows[table], self.states[table], self.optimizers[table], rows, gradients,
                    self.learning_rate, self.steps)  # fmt: skip


def update_rows(
    table: Rows, state: Tensor, optimizer: str, rows: Tensor, gradients: Tensor, learning_rate: float, step: int,
    mean_squares: Tensor | None = None,
) -> None:  # fmt: skip
    """One step of `optimizers.update` for the distinct `rows` [n] of a table and its optimizer state, in place."""
    weight, state[rows] = update(optimizer, table.read(rows), state[rows], gradients, learning_rate, step, mean_squares)
    table.write(rows, weight, step)


class _PooledLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor: Tensor, indices: Tensor, offsets: Tensor, lookup: TorchLookup) -> Tensor:
        ctx.save_for_backward(indices, offsets)
        ctx.lookup = lookup
        bags = bags_by_table(indices, offsets, len(lookup.rows))
        pooled = [table.pool(rows, starts) for table, (rows, starts) in zip(lookup.rows, bags, strict=True)]
        return torch.cat(pooled, dim=1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, None, None, None]:
        indices, offsets = ctx.saved_tensors
        lookup = ctx.lookup
        lookup.steps += 1
        gradients = gradient.split(lookup.dims, dim=1)
        for table, (rows, starts) in enumerate(bags_by_table(indices, offsets, len(gradients))):
            lookup.receive(table, *sum_by_row(rows, torch.repeat_interleave(starts.diff()), gradients[table]))
        return None, None, None, None


def bags_by_table(indices: Tensor, offsets: Tensor, tables: int) -> list[tuple[Tensor, Tensor]]:
    """Each table's own indices and its bags' offsets [bags + 1], counted from 0."""
    bags = (len(offsets) - 1) // tables
    bounds = offsets[::bags].tolist()
    return [
        (indices[start:end], offsets[table * bags : (table + 1) * bags + 1] - start)
        for table, (start, end) in enumerate(pairwise(bounds))
    ]
