"""Simple plans: table-wise by the greedy heuristic, or one scheme for all tables.

Greedy as in Neo (Mudigere et al., ISCA 2022): the costliest table first, each to the rank with the least cost so far.
The slowest rank sets the step's time, so the largest sum is what counts.
"""

from collections.abc import Sequence
from itertools import pairwise

from workbench.embeddings.plan import Plan, Shard, TablePlan
from workbench.embeddings.tables import TableConfig

COLUMN_MULTIPLE = 4  # FBGEMM's kernels want widths that are multiples of it
_MIXED = ("table-wise", "row-wise", "column-wise", "data-parallel")


def table_cost_bytes(table: TableConfig) -> float:
    """Bytes that one sample moves for `table` in a step.

    A looked-up row is read in the forward pass, and read and written by the update (at most once a lookup: equal rows
    of a batch are updated together); its pooled row crosses to the sample's rank and its gradient comes back.
    """
    return (3 * table.pooling_factor + 2) * table.row_bytes


def place_tables(tables: Sequence[TableConfig], ranks: int) -> tuple[int, ...]:
    """The rank of every table, in table order; deterministic: ties go to the lower index."""
    costs = [table_cost_bytes(table) for table in tables]
    loads = [0.0] * ranks
    placement = [0] * len(tables)
    for index in sorted(range(len(tables)), key=lambda index: -costs[index]):
        rank = loads.index(min(loads))
        placement[index] = rank
        loads[rank] += costs[index]
    return tuple(placement)


def uniform_plan(tables: Sequence[TableConfig], ranks: int, scheme: str, host_ranks: int | None = None) -> Plan:
    """A plan with `scheme` for all tables, or "mixed": one scheme after the other.

    Row-wise blocks are of ceil(rows / ranks) rows, so a small table has fewer shards than ranks; `host_ranks` (all
    ranks, if not given) is the size of a host for table-row-wise.
    """
    host_ranks = host_ranks or ranks
    placement = place_tables(tables, ranks)
    schemes = [_MIXED[number % len(_MIXED)] if scheme == "mixed" else scheme for number in range(len(tables))]
    plans = (
        _table_plan(table, each, owner, ranks, host_ranks)
        for table, each, owner in zip(tables, schemes, placement, strict=True)
    )
    return Plan(ranks, tuple(plans))


def _table_plan(table: TableConfig, scheme: str, owner: int, ranks: int, host_ranks: int) -> TablePlan:
    """`owner` is where greedy placement puts the table: on this rank, or on this rank's host."""
    if scheme == "row-wise":
        shards = [Shard(rank, *rows, 0, table.dim) for rank, rows in enumerate(blocks(table.rows, ranks))]
    elif scheme == "column-wise":
        shards = [
            Shard(rank, 0, table.rows, *columns)
            for rank, columns in enumerate(blocks(table.dim, ranks, multiple=COLUMN_MULTIPLE))
        ]
    elif scheme == "table-row-wise" and table.rows >= host_ranks:
        first = owner - owner % host_ranks
        shards = [Shard(first + k, *rows, 0, table.dim) for k, rows in enumerate(_even_blocks(table.rows, host_ranks))]
    elif scheme == "data-parallel":
        shards = [Shard(rank, 0, table.rows, 0, table.dim) for rank in range(ranks)]
    else:  # also a table with fewer rows than a host has ranks
        scheme, shards = "table-wise", [Shard(owner, 0, table.rows, 0, table.dim)]
    return TablePlan(table.name, scheme, tuple(shards))


def blocks(size: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """(begin, end) of at most `parts` blocks of ceil(size / parts), rounded up to `multiple`; the last may be short."""
    block = -(-size // parts)
    block = -(-block // multiple) * multiple
    return [(begin, min(begin + block, size)) for begin in range(0, size, block)]


def _even_blocks(size: int, parts: int) -> list[tuple[int, int]]:
    """(begin, end) of exactly `parts` blocks that differ by one at most."""
    return list(pairwise(size * part // parts for part in range(parts + 1)))
