"""Exactness: do the same bits come out for any number of threads, and under every way to shard the lookups?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.tables import TableConfig
from workbench.studies.core.criteria import AtLeast
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.core.threads import threads

SHARDS = 4
BATCH = {"tiny": 32, "small": 512, "full": 4096}
MANY_THREADS = 4  # more than cores are no problem: the work is then split as finely
_STEPS, _TABLES, _ROWS, _DIM, _POOLING = 3, 4, 1_000, 32, 20
_DETERMINISTIC = Fact("updates are fully deterministic", "src")
THREADS = Quantity(
    name=f"equal weights after {_STEPS} steps, 1 and {MANY_THREADS} threads", unit="1", scale_free=True,
    fact=_DETERMINISTIC, criterion=AtLeast(1),
)  # fmt: skip
REPEATED = Quantity(
    name=f"equal weights after {_STEPS} steps, run twice", unit="1", scale_free=True, fact=_DETERMINISTIC,
    criterion=AtLeast(1),
)  # fmt: skip
FORWARD = {
    scheme: Quantity(
        name=f"equal pooled values, {scheme} and unsharded", unit="1", scale_free=True,
        fact=fact, criterion=AtLeast(1) if fact else None,
    )
    for scheme, fact in {
        "table-wise": Fact(1, "derived: the same sums in the same order"),
        "column-wise": Fact(1, "derived: the same sums in the same order"),
        "row-wise": None,  # partial sums are added in another order
    }.items()
}  # fmt: skip


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Shares of elements that are equal to the bit; the shards of a table are looked up one by one, as ranks would."""
    batch = BATCH[scale]
    on_many, repeated = [], []
    forward: dict[str, list[float]] = {scheme: [] for scheme in FORWARD}
    for seed in seeds:
        once = trained_weights(batch, seed, threads_used=1)
        on_many.append(_equal_share(once, trained_weights(batch, seed, threads_used=MANY_THREADS)))
        repeated.append(_equal_share(once, trained_weights(batch, seed, threads_used=1)))
        for scheme, pooled in sharded_lookups(batch, seed).items():
            forward[scheme].append(_equal_share(unsharded_lookup(batch, seed), pooled))
    rows = [row(THREADS, on_many, "measured"), row(REPEATED, repeated, "measured")]
    rows += [row(FORWARD[scheme], forward[scheme], "measured") for scheme in FORWARD]
    return Part(rows)


def trained_weights(batch: int, seed: int, threads_used: int) -> Tensor:
    """All tables' weights after _STEPS steps, [tables * rows, dim]."""
    with threads(threads_used):
        lookup = _lookup(_tables(), seed)
        for step in range(_STEPS):
            indices, offsets = _lookups(batch, seed * _STEPS + step)
            pooled = lookup(indices, offsets)
            pooled.backward(torch.sin(pooled.detach() * 100))  # any gradient that depends on the weights
        return torch.cat([weight.detach().clone() for weight in lookup.weights])


def unsharded_lookup(batch: int, seed: int) -> Tensor:
    """Pooled values [batch, tables * dim] of all tables at once."""
    return _lookup(_tables(), seed)(*_lookups(batch, seed)).detach()


def sharded_lookups(batch: int, seed: int) -> dict[str, Tensor]:
    """The same by scheme: whole tables, blocks of columns, blocks of rows, each looked up for itself."""
    weights = [weight.detach().clone() for weight in _lookup(_tables(), seed).weights]
    ids = _lookups(batch, seed)[0].view(_TABLES, batch, _POOLING)
    block, columns = _ROWS // SHARDS, _DIM // SHARDS
    bags = torch.arange(0, batch * _POOLING + 1, _POOLING)
    found: dict[str, list[Tensor]] = {scheme: [] for scheme in FORWARD}
    for weight, table_ids in zip(weights, ids, strict=True):
        found["table-wise"].append(_pooled(weight, table_ids.flatten(), bags))
        for begin in range(0, _DIM, columns):
            found["column-wise"].append(_pooled(weight[:, begin : begin + columns], table_ids.flatten(), bags))
        partial = torch.zeros(batch, _DIM)
        for begin in range(0, _ROWS, block):
            mine = (table_ids >= begin) & (table_ids < begin + block)
            starts = torch.cat([torch.zeros(1, dtype=torch.int64), mine.sum(dim=1).cumsum(0)])
            partial += _pooled(weight[begin : begin + block], table_ids[mine] - begin, starts)
        found["row-wise"].append(partial)
    return {scheme: torch.cat(parts, dim=1) for scheme, parts in found.items()}


def _pooled(weight: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    rows, dim = weight.shape
    lookup = _lookup([TableConfig(name="shard", rows=rows, dim=dim)], seed=0)
    lookup.weights[0].copy_(weight)
    return lookup(indices, offsets).detach()


def _tables() -> list[TableConfig]:
    return [TableConfig(name=f"table_{n}", rows=_ROWS, dim=_DIM) for n in range(_TABLES)]


def _lookup(tables: Sequence[TableConfig], seed: int) -> nn.Module:
    return make_lookup(tables, "auto", 0.05, "cpu", seed)


def _lookups(batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Table-major indices, and offsets of bags of _POOLING."""
    generator = torch.Generator().manual_seed(seed)
    count = _TABLES * batch * _POOLING
    return torch.randint(0, _ROWS, (count,), generator=generator), torch.arange(0, count + 1, _POOLING)


def _equal_share(a: Tensor, b: Tensor) -> float:
    return float((a == b).double().mean())
