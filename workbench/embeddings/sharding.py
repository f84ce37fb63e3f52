"""Which rank owns which table.

Table-wise placement with the greedy heuristic of Neo (Mudigere et al., ISCA 2022): the costliest table first, each to
the rank with the least cost so far. The slowest rank sets the step's time, so the largest sum is what counts.
"""

from collections.abc import Sequence

from workbench.embeddings.tables import TableConfig


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
