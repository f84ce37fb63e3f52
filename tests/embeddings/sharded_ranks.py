"""What each rank of `test_sharded` does: a few steps of sharded tables with given gradients, left in a file."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from workbench.embeddings.link import WireBytes
from workbench.embeddings.plan import SCHEMES
from workbench.embeddings.sharded import EmbeddingOptions, ShardedEmbeddings
from workbench.embeddings.sharding import uniform_plan
from workbench.embeddings.tables import TableConfig
from workbench.trace.recorder import Recorder

TABLES = tuple(
    TableConfig(name=f"t{number}", rows=rows, dim=dim)
    for number, (rows, dim) in enumerate([(40, 8), (3, 16), (17, 12), (60, 8), (9, 4)])
)
SAMPLES = 24  # of the global batch: 1, 2 and 4 ranks share them equally
STEPS = 3
WIRES = {"fp16": ("fp16", "bf16"), "int8": ("int8", "int8")}
# name -> scheme, options
CASES = {
    f"{scheme}{' in fixed order' if fixed else ''}": (scheme, {"kernel": "torch", "fixed_order": fixed})
    for scheme, fixed in product((*SCHEMES, "mixed"), (False, True))
} | {
    f"{scheme} by {wire}": (scheme, {"kernel": "torch", "forward": forward, "backward": backward})
    for scheme, (wire, (forward, backward)) in product(("table-wise", "row-wise"), WIRES.items())
}

# Other optimizers and row formats, on 2 ranks: those that all schemes have in common, in fixed order, and each scheme
# that updates after the backward pass.
KINDS = [(optimizer, row_dtype) for optimizer in ("adagrad", "adam", "sgd") for row_dtype in ("fp32", "fp16")]
KINDS += [("rowwise_adagrad", "fp16"), ("rowwise_adagrad", "bf16")]
INT8_KINDS = [("rowwise_adagrad", "int8"), ("adam", "int8")]
SCHEMES_OF_KINDS = (
    *product(("mixed in fixed order", "column-wise", "data-parallel"), KINDS),
    *product(("row-wise in fixed order", "data-parallel"), INT8_KINDS),
)
KIND_CASES = {
    f"{scheme}, {optimizer} on {row_dtype}": (*CASES[scheme], {"optimizer": optimizer, "row_dtype": row_dtype})
    for scheme, (optimizer, row_dtype) in SCHEMES_OF_KINDS
}


def tables_of(case: str) -> tuple[TableConfig, ...]:
    return tuple(replace(table, **KIND_CASES[case][2]) for table in TABLES) if case in KIND_CASES else TABLES


def global_batch(step: int) -> tuple[torch.Tensor, list[list[torch.Tensor]], torch.Tensor]:
    """Lengths [tables, samples], bags [table][sample], and the gradient [samples, columns in table order]."""
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(0, 5, (len(TABLES), SAMPLES), dtype=torch.int32, generator=generator)
    bags = [
        [torch.randint(0, table.rows, (int(count),), generator=generator) for count in counts]
        for table, counts in zip(TABLES, lengths, strict=True)
    ]
    gradient = torch.randn(SAMPLES, sum(table.dim for table in TABLES), generator=generator)
    gradient[::3] = 0  # their rows are looked up all the same, which Adam and int8 rows notice
    return lengths, bags, gradient


def in_table_order(parts: Sequence[torch.Tensor], tables: ShardedEmbeddings) -> torch.Tensor:
    columns = torch.cat(list(parts), dim=1).split(tables.dims, dim=1)
    return torch.cat([columns[tables.order.index(number)] for number in range(len(TABLES))], dim=1)


def train(case: str, rank: int, ranks: int, scheme: str | None = None) -> dict[str, np.ndarray]:
    """Pooled rows of every step, and at the end every shard's weights and state; under another `scheme` if given."""
    planned, options, *_ = (CASES | KIND_CASES)[case]
    configs = tables_of(case)
    plan = uniform_plan(configs, ranks, scheme or planned, host_ranks=2 if ranks == 4 else None)
    tables = ShardedEmbeddings(
        configs, plan, EmbeddingOptions(**options), rank, torch.device("cpu"), Recorder(None), WireBytes()
    )
    mine = slice(rank * SAMPLES // ranks, (rank + 1) * SAMPLES // ranks)
    found = {}
    for step in range(STEPS):
        lengths, bags, gradient = global_batch(step)
        routed = tables.route(lengths[:, mine], torch.cat([bag for table in bags for bag in table[mine]]))
        arriving = tables.send(routed)
        arriving.send_indices()
        pooled = in_table_order(tables.start(arriving.finish(), routed).wait(), tables)
        for parameter in tables.dense_parameters():
            parameter.grad = torch.zeros_like(parameter)
        (pooled * gradient[mine]).sum().backward()
        for parameter in tables.dense_parameters():
            if ranks > 1:
                dist.all_reduce(parameter.grad)
        tables.update()
        found[f"pooled {step}"] = pooled.detach().numpy()
    for held in tables.held():
        shard = held.shard
        place = f"{held.table} {shard.row_begin} {shard.column_begin}"
        found |= {f"weight {place}": held.weight.numpy(), f"state {place}": held.state.numpy()}
    link = tables.inputs.link
    found["input bytes"] = np.array([link.wire_bytes["lookups", "input"]])
    for direction in ("input", "forward", "backward", "update"):
        sent_bytes = sum(count for (_, which), count in tables.wire_bytes.items() if which == direction)
        found[f"{direction} bytes by scheme"] = np.array([sent_bytes])
    return found


def rank_main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / f"store-{ranks}"), ranks), rank=rank, world_size=ranks
    )
    for case in [*CASES, *(KIND_CASES if ranks == 2 else ())]:
        np.savez(folder / f"{case} {rank} of {ranks}.npz", **train(case, rank, ranks))
    dist.destroy_process_group()


def plain_pooling(weights: dict[str, np.ndarray], step: int) -> np.ndarray:
    """Pooled rows of the global batch, bag by bag, from whole tables."""
    _, bags, _ = global_batch(step)
    columns = [
        np.stack([weights[table.name][bag.numpy()].sum(0, dtype=np.float64) for bag in of_table])
        for table, of_table in zip(TABLES, bags, strict=True)
    ]
    return np.concatenate(columns, axis=1)
