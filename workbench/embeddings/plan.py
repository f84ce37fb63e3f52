"""The sharding plan as data: which rank holds which rows and columns of which table.

    table-wise      one shard, the whole table
    row-wise        blocks of rows, all columns; each shard pools what it has, partial sums are added up
    column-wise     blocks of columns, all rows; pooled columns are joined
    table-row-wise  row-wise over the ranks of one host: hosts are equal blocks of consecutive ranks
    data-parallel   the whole table on every rank

Schemes are those of Neo (Mudigere et al., ISCA 2022, section 4.2); every table has its own. A plan is what planners
write, and what exchanges, lookups and checkpoints read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError

SCHEMES = ("table-wise", "row-wise", "column-wise", "table-row-wise", "data-parallel")


@dataclass(frozen=True)
class Shard:
    """Rows [row_begin, row_end) and columns [column_begin, column_end) of a table, held by `rank`."""

    rank: int
    row_begin: int
    row_end: int
    column_begin: int
    column_end: int

    @property
    def rows(self) -> int:
        """Rows of this shard."""
        return self.row_end - self.row_begin

    @property
    def dim(self) -> int:
        """Columns of this shard."""
        return self.column_end - self.column_begin


@dataclass(frozen=True)
class TablePlan:
    """One table's shards, in the order of their rows and columns; InputError where they do not make up a table."""

    table: str
    scheme: str
    shards: tuple[Shard, ...]

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InputError(f"plan: table {self.table} has scheme {self.scheme!r}: choose one of {', '.join(SCHEMES)}")
        if not self.shards:
            raise InputError(f"plan: table {self.table} has no shards")
        for shard in self.shards:
            if min(shard.rank, shard.row_begin, shard.column_begin) < 0 or min(shard.rows, shard.dim) < 1:
                raise InputError(f"plan: table {self.table} has an empty or negative shard: {shard}")
        if self.scheme == "table-wise" and len(self.shards) > 1:
            raise InputError(f"plan: table {self.table} is table-wise and has {len(self.shards)} shards: give it one")
        whole = Shard(0, 0, self.rows, 0, self.dim)
        by_row = self.scheme in ("row-wise", "table-row-wise")
        if by_row and len({shard.rank for shard in self.shards}) < len(self.shards):
            raise InputError(f"plan: table {self.table} is {self.scheme} and has two shards on one rank: join them")
        rows = _joined([(s.row_begin, s.row_end) for s in self.shards]) if by_row else whole.rows
        columns = _joined([(s.column_begin, s.column_end) for s in self.shards]) if self.column_wise else whole.dim
        full_columns = self.column_wise or all(shard.dim == whole.dim for shard in self.shards)
        full_rows = by_row or all(shard.rows == whole.rows for shard in self.shards)
        if (rows, columns) != (whole.rows, whole.dim) or not (full_rows and full_columns):
            wanted = {True: "every row once, in order", False: "all rows"}[by_row]
            wanted += {True: ", every column once, in order", False: ", all columns"}[self.column_wise]
            raise InputError(f"plan: the shards of {self.scheme} table {self.table} must hold {wanted}")

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return max(shard.row_end for shard in self.shards)

    @property
    def dim(self) -> int:
        """Columns of the whole table."""
        return max(shard.column_end for shard in self.shards)

    @property
    def column_wise(self) -> bool:
        """Whether a row lies in pieces."""
        return self.scheme == "column-wise"


@dataclass(frozen=True)
class Plan:
    """The plan of all tables, in table order, for this number of ranks; InputError says which table is wrong."""

    ranks: int
    tables: tuple[TablePlan, ...]

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise InputError(f"plan: ranks={self.ranks}: must be 1 or more")
        for table in self.tables:
            owners = [shard.rank for shard in table.shards]
            if max(owners) >= self.ranks:
                raise InputError(f"plan: table {table.table} has a shard on rank {max(owners)} of {self.ranks} ranks")
            if table.scheme == "data-parallel" and owners != list(range(self.ranks)):
                raise InputError(f"plan: data-parallel table {table.table} needs one shard a rank, in their order")
            if table.scheme == "table-row-wise":
                self._check_host(table.table, owners)

    def _check_host(self, table: str, owners: list[int]) -> None:
        size = self.host_ranks
        first = owners[0] - owners[0] % size
        if self.ranks % size or owners != list(range(first, first + size)):
            raise InputError(
                f"plan: table-row-wise table {table} must lie on the ranks of one host, in order: "
                f"hosts are equal blocks of consecutive ranks, here of {size}"
            )

    @property
    def host_ranks(self) -> int:
        """Ranks of one host: as many as a table-row-wise table has shards, else all ranks."""
        return next((len(table.shards) for table in self.tables if table.scheme == "table-row-wise"), self.ranks)

    def check(self, tables: Sequence[TableConfig], ranks: int) -> None:
        """InputError unless this plan is of exactly these tables, in their order, on this number of ranks."""
        if self.ranks != ranks:
            raise InputError(f"plan: it is for {self.ranks} ranks, and there are {ranks}")
        planned, given = [table.table for table in self.tables], [table.name for table in tables]
        if planned != given:
            odd = next((name for name in planned + given if name not in planned or name not in given), given[0])
            raise InputError(f"plan: its tables are not the model's, in their order: see {odd}")
        for plan, table in zip(self.tables, tables, strict=True):
            if (plan.rows, plan.dim) != (table.rows, table.dim):
                raise InputError(
                    f"plan: table {table.name} is {plan.rows} x {plan.dim} there and {table.rows} x {table.dim} here"
                )
            if table.row_dtype == "int8" and plan.column_wise and len(plan.shards) > 1:
                raise InputError(
                    f"plan: table {table.name} lies in columns, and its int8 rows have one scale a row: "
                    "choose another scheme, or row_dtype=fp16"
                )

    def to_json(self) -> str:
        """As JSON text, which `from_json` reads."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """The plan in JSON text; InputError where it is none."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.ValidationError as error:
            raise InputError(str(error) if str(error).startswith("plan: ") else f"plan: {error}") from None
        except msgspec.DecodeError as error:
            raise InputError(f"plan: not JSON: {error}") from None


def _joined(ranges: list[tuple[int, int]]) -> int:
    """End of ranges that follow each other from 0 on without gap or overlap; -1 if they do not."""
    end = 0
    for begin, stop in ranges:
        if begin != end:
            return -1
        end = stop
    return end
