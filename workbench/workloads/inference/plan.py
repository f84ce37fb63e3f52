"""A plan: which rows lie on which shard, and where each process listens. Data, in one JSON file that all of them read.

    {"schema": 1, "strategy": "net_specific", "main": "127.0.0.1:50050", "shards": [
      {"name": "shard-0", "addresses": ["127.0.0.1:50051", "127.0.0.1:50061"],
       "pieces": [{"table": "user_0"}, {"table": "giant", "piece": 1, "pieces": 3}]}]}

Several addresses are replicas. Piece p of k holds the rows whose id is p modulo k. Without shards the main shard holds
all tables: the paper's singular configuration.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError
from workbench.units import format_bytes
from workbench.workloads.inference.models.config import ModelConfig, TableType, row_bytes

SCHEMA_VERSION = 1


class Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Rows piece, piece + pieces, ... of a table."""

    table: str
    piece: int = 0
    pieces: int = 1

    def rows(self, table: TableConfig) -> int:
        """How many they are."""
        return len(range(self.piece, table.rows, self.pieces))

    def size_bytes(self, table: TableConfig, table_type: TableType = "fp32") -> int:
        """Their bytes, as servers keep them."""
        return self.rows(table) * row_bytes(table, table_type)


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sparse shard; its replicas hold the same pieces."""

    name: str
    pieces: tuple[Piece, ...]
    addresses: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of every table on shards."""

    schema: int = SCHEMA_VERSION
    strategy: str
    shards: tuple[Shard, ...] = ()
    main: str = ""

    def version(self, model_version: str) -> str:
        """Names what a deployment serves: this model, cut this way. Addresses may differ."""
        pieces = [(shard.name, shard.pieces) for shard in self.shards]
        return hashlib.sha256(model_version.encode() + msgspec.json.encode(pieces)).hexdigest()[:16]

    def shard(self, name: str) -> Shard:
        """The shard `name`; an unknown one is an InputError."""
        for shard in self.shards:
            if shard.name == name:
                return shard
        raise InputError(f"the plan has no shard {name!r}: it has {', '.join(s.name for s in self.shards) or 'none'}")

    def at(self, main: str, addresses: Mapping[str, tuple[str, ...]]) -> "Plan":
        """The same plan with the main shard at `main` and each shard's replicas at `addresses[name]`."""
        shards = [msgspec.structs.replace(shard, addresses=addresses[shard.name]) for shard in self.shards]
        return msgspec.structs.replace(self, main=main, shards=tuple(shards))

    def shards_of(self, tables: set[str]) -> list[Shard]:
        """The shards that hold any of these tables."""
        return [shard for shard in self.shards if any(piece.table in tables for piece in shard.pieces)]

    def check(self, model: ModelConfig) -> None:
        """InputError unless every row of every table lies on exactly one shard."""
        twice = [name for name, times in Counter(shard.name for shard in self.shards).items() if times > 1]
        if twice:
            raise InputError(f"plan: two shards are called {twice[0]}")
        if not self.shards:
            return
        tables = {table.name: table for table in model.tables}
        held: dict[str, list[Piece]] = {name: [] for name in tables}
        for shard in self.shards:
            for piece in shard.pieces:
                if piece.table not in tables:
                    raise InputError(f"plan, {shard.name}: model {model.name} has no table {piece.table!r}")
                if not 0 <= piece.piece < piece.pieces:
                    raise InputError(f"plan, {shard.name}: {piece.table} has no piece {piece.piece} of {piece.pieces}")
                held[piece.table].append(piece)
        for name, pieces in held.items():
            _check_table(tables[name], pieces)

    def check_addresses(self) -> None:
        """InputError unless every process has an address."""
        for name, addresses in (("main", [self.main]), *((shard.name, shard.addresses) for shard in self.shards)):
            if not addresses or not all(":" in address for address in addresses):
                raise InputError(f"plan: {name} needs an address such as 127.0.0.1:50051")


def _check_table(table: TableConfig, pieces: list[Piece]) -> None:
    """Exactly the pieces 0 to k - 1 of one k, each once."""
    cuts = {piece.pieces for piece in pieces}
    if len(cuts) > 1:
        raise InputError(f"plan: table {table.name} is cut into {' and '.join(map(str, sorted(cuts)))} pieces at once")
    count = cuts.pop() if cuts else 1
    times = Counter(piece.piece for piece in pieces)
    twice = [number for number, held in times.items() if held > 1]
    if twice:
        raise InputError(f"plan: piece {twice[0]} of {count} of table {table.name} is on two shards")
    missing = [Piece(table=table.name, piece=number, pieces=count) for number in range(count) if number not in times]
    missing_bytes = sum(piece.size_bytes(table) for piece in missing)
    if missing_bytes:
        which = "" if count == 1 else f": piece {missing[0].piece} of {count} is on no shard"
        raise InputError(f"plan: table {table.name} misses {format_bytes(missing_bytes)} of its rows{which}")


def read_plan(path: Path) -> Plan:
    """The plan in a file; InputError when it is not there or not a plan."""
    try:
        plan = msgspec.json.decode(Path(path).read_bytes(), type=Plan)
    except OSError as error:
        raise InputError(f"cannot read the plan {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no plan: {error}") from None
    if plan.schema > SCHEMA_VERSION:
        raise InputError(f"{path} has schema {plan.schema}; this workbench reads up to {SCHEMA_VERSION}")
    return plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write and rename: a process that reloads sees the old plan or the new one."""
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1))
    scratch.replace(path)
