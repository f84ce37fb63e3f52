"""How tables are cut over shards (Lui et al., ISPASS 2021, section on sharding strategies).

`singular` has no shards, `one_shard` puts everything behind one RPC. `capacity_balanced` gives shards equal bytes and
`load_balanced` equal lookups, both greedily. `net_specific` packs each net's tables into shards of its own, so that a
net calls the fewest shards; only it cuts a table by rows, over shards that hold nothing else.

All are deterministic: of equal tables or shards the first wins.
"""

from collections.abc import Callable, Sequence

from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError
from workbench.units import format_bytes
from workbench.workloads.inference.models.config import ModelConfig, TableType, table_bytes
from workbench.workloads.inference.plan import Piece, Plan, Shard

STRATEGIES = ("singular", "one_shard", "capacity_balanced", "load_balanced", "net_specific")


def make_plan(
    strategy: str,
    model: ModelConfig,
    shards: int,
    lookups: Sequence[float],
    limit_bytes: int | None = None,
    table_type: TableType = "fp32",
) -> Plan:
    """A plan over `shards` shards, without addresses. `lookups` [tables] is each table's expected ids a request; bytes
    are those of rows as `table_type`.

    InputError for an unknown strategy, or when a shard would hold more than `limit_bytes`.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    tables = model.tables
    if strategy == "singular":
        groups = []
    elif strategy == "net_specific":
        groups = _net_specific(model, shards, table_type)
    else:
        count = 1 if strategy == "one_shard" else shards
        costs = lookups if strategy == "load_balanced" else [table_bytes(table, table_type) for table in tables]
        groups = _balanced(tables, costs, count)
    plan = Plan(
        strategy=strategy,
        shards=tuple(Shard(name=f"shard-{i}", pieces=tuple(pieces)) for i, pieces in enumerate(groups)),
    )
    plan.check(model)
    if limit_bytes is not None:
        _check_limit(plan, model, limit_bytes, table_type)
    return plan


def shard_bytes(shard: Shard, model: ModelConfig, table_type: TableType) -> int:
    """Bytes of a shard's rows, as it keeps them."""
    tables = {table.name: table for table in model.tables}
    return sum(piece.size_bytes(tables[piece.table], table_type) for piece in shard.pieces)


def _balanced(tables: Sequence[TableConfig], costs: Sequence[float], shards: int) -> list[list[Piece]]:
    """Costliest table first, each to the shard with the least cost so far."""
    if shards > len(tables):
        raise InputError(f"{shards} shards for {len(tables)} tables: every shard needs one")
    loads, groups = [0.0] * shards, [[] for _ in range(shards)]
    for index in sorted(range(len(tables)), key=lambda index: -costs[index]):
        # Tables that cost nothing are spread too: of shards with equal cost, the one with fewest tables.
        shard = min(range(shards), key=lambda shard: (loads[shard], len(groups[shard])))
        loads[shard] += costs[index]
        groups[shard].append(index)
    return [[Piece(table=tables[index].name) for index in sorted(group)] for group in groups]


def _net_specific(model: ModelConfig, shards: int, table_type: TableType) -> list[list[Piece]]:
    """First-fit of each net's tables into shards of the smallest size with which `shards` of them are enough."""
    if shards < len(model.nets):
        raise InputError(f"{shards} shards for {len(model.nets)} nets: each net needs one of its own")

    def packed(limit_bytes: int) -> list[list[Piece]]:
        return [group for net in model.nets for group in _first_fit(net.tables, limit_bytes, shards, table_type)]

    all_bytes = sum(table_bytes(table, table_type) for table in model.tables)
    return packed(_smallest(lambda limit_bytes: len(packed(limit_bytes)) <= shards, all_bytes))


def _smallest(enough: Callable[[int], bool], most: int) -> int:
    """The smallest number up to `most` that is enough, by bisection; `most` is."""
    least = 1
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle + 1, most)
    return most


def _first_fit(
    tables: Sequence[TableConfig], limit_bytes: int, most_pieces: int, table_type: TableType
) -> list[list[Piece]]:
    """Tables in decreasing size, each into the first shard with room; one larger than a shard is cut by rows."""
    cut, whole, free_bytes = [], [], []
    for table in sorted(tables, key=lambda table: table_bytes(table, table_type), reverse=True):
        size_bytes = table_bytes(table, table_type)
        if size_bytes > limit_bytes:
            # A shard more than there are says as well that this limit is too small.
            count = min(-(-size_bytes // limit_bytes), most_pieces + 1)
            cut += [[Piece(table=table.name, piece=piece, pieces=count)] for piece in range(count)]
            continue
        fitting = [shard for shard, free in enumerate(free_bytes) if size_bytes <= free]
        if not fitting:
            fitting = [len(whole)]
            whole.append([])
            free_bytes.append(limit_bytes)
        whole[fitting[0]].append(Piece(table=table.name))
        free_bytes[fitting[0]] -= size_bytes
    return whole + cut


def _check_limit(plan: Plan, model: ModelConfig, limit_bytes: int, table_type: TableType) -> None:
    """InputError that says which table finds no room, and how many bytes it misses."""
    tables = {table.name: table for table in model.tables}
    for shard in plan.shards:
        held_bytes = 0
        for piece in shard.pieces:
            held_bytes += piece.size_bytes(tables[piece.table], table_type)
            if held_bytes > limit_bytes:
                raise InputError(
                    f"{plan.strategy} over {len(plan.shards)} shards: table {piece.table} misses "
                    f"{format_bytes(held_bytes - limit_bytes)} on {shard.name}, which holds {format_bytes(limit_bytes)}"
                )
