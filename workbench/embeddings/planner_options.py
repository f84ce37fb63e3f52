"""The ways in which a table can be sharded, and what each costs: what planners choose from.

An option is a scheme with the table cut up. Its parts come in groups that are placed together, each with the homes
that it may have: any rank for a whole table or a block of columns, one certain rank for a block of rows or a copy, the
ranks of any host for the blocks of rows that lie on one host.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workbench.costs.sharding import EqualRates, Rates, ShardCost, ShardWork, StepShape, shard_cost
from workbench.embeddings.sharding import COLUMN_MULTIPLE, blocks, even_blocks
from workbench.embeddings.tables import TableConfig

MIN_COLUMNS = 16  # a cache line of fp32: narrower rows move bytes that nobody asked for


@dataclass(frozen=True)
class Tier:
    """Memory of one rank that tables may lie in: its capacity and the rates from it. The nearest tier is the first."""

    name: str = "memory"
    capacity_bytes: float = float("inf")
    rates: Rates = field(default_factory=EqualRates)


@dataclass(frozen=True)
class Part:
    """Rows and columns of one shard, its bytes, and what it costs its rank a step in each tier."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    stored_bytes: int
    costs: tuple[ShardCost, ...]


@dataclass(frozen=True)
class Group:
    """Pieces that are placed together: part k on rank `home[k]`, for one of `homes`."""

    parts: tuple[Part, ...]
    homes: tuple[tuple[int, ...], ...]

    def cost_ns(self, tier: int) -> float:
        """Of the costliest part: no rank has two of them."""
        return max(part.costs[tier].total_ns for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Of the largest part."""
        return max(part.stored_bytes for part in self.parts)


@dataclass(frozen=True)
class Option:
    """One way to shard one table."""

    table: str
    scheme: str
    groups: tuple[Group, ...]

    @property
    def largest_ns(self) -> float:
        """The costliest part, in the nearest tier."""
        return max(group.cost_ns(0) for group in self.groups)

    @property
    def largest_bytes(self) -> int:
        """The largest part."""
        return max(group.stored_bytes for group in self.groups)

    @property
    def total_ns(self) -> float:
        """Cost over all ranks, in the nearest tier."""
        return sum(part.costs[0].total_ns for group in self.groups for part in group.parts)


def options(table: TableConfig, step: StepShape, tiers: Sequence[Tier], schemes: Sequence[str]) -> list[Option]:
    """Every way of `schemes` to shard `table` over the ranks of `step`: in column shards of each power of 2 too."""
    ranks, hosts = step.ranks, step.ranks // step.host_ranks
    whole_rows, whole_dim = (0, table.rows), (0, table.dim)
    anywhere = tuple((rank,) for rank in range(ranks))

    def part(scheme: str, rows: tuple[int, int], columns: tuple[int, int]) -> Part:
        shard = replace(table, rows=rows[1] - rows[0], dim=columns[1] - columns[0])
        lookups = table.pooling_factor * shard.rows / table.rows
        work = ShardWork(scheme, shard.rows, shard.dim, shard.row_bytes, shard.state_bytes_per_row, lookups)
        return Part(rows, columns, work.stored_bytes, tuple(shard_cost(work, step, tier.rates) for tier in tiers))

    found = []
    if "table-wise" in schemes:
        group = Group((part("table-wise", whole_rows, whole_dim),), anywhere)
        found.append(Option(table.name, "table-wise", (group,)))
    count = 2
    while "column-wise" in schemes and count <= ranks and table.dim // count >= MIN_COLUMNS:
        columns = blocks(table.dim, count, multiple=COLUMN_MULTIPLE)
        groups = tuple(Group((part("column-wise", whole_rows, each),), anywhere) for each in columns)
        found.append(Option(table.name, "column-wise", groups))
        count *= 2
    if "row-wise" in schemes and 1 < ranks <= table.rows:
        parts = [part("row-wise", rows, whole_dim) for rows in blocks(table.rows, ranks)]
        groups = tuple(Group((each,), ((rank,),)) for rank, each in enumerate(parts))
        found.append(Option(table.name, "row-wise", groups))
    if "table-row-wise" in schemes and 1 < step.host_ranks <= table.rows and hosts > 1:
        parts = tuple(part("table-row-wise", rows, whole_dim) for rows in even_blocks(table.rows, step.host_ranks))
        homes = tuple(tuple(range(host * step.host_ranks, (host + 1) * step.host_ranks)) for host in range(hosts))
        found.append(Option(table.name, "table-row-wise", (Group(parts, homes),)))
    if "data-parallel" in schemes and ranks > 1:
        copy = part("data-parallel", whole_rows, whole_dim)
        found.append(Option(table.name, "data-parallel", tuple(Group((copy,), (home,)) for home in anywhere)))
    return found
