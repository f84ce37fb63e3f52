"""Plans: what is a plan, what is not and which table is said to be wrong, and JSON there and back."""

import re

import pytest

from workbench.embeddings.plan import Plan, Shard, TablePlan
from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError

WHOLE = (0, 10, 0, 8)
TABLES = {
    "table-wise": (Shard(1, *WHOLE),),
    "row-wise": (Shard(2, 0, 4, 0, 8), Shard(0, 4, 10, 0, 8)),
    "column-wise": (Shard(3, 0, 10, 0, 4), Shard(0, 0, 10, 4, 8)),
    "table-row-wise": (Shard(2, 0, 5, 0, 8), Shard(3, 5, 10, 0, 8)),
    "data-parallel": tuple(Shard(rank, *WHOLE) for rank in range(4)),
}


def plan(**tables) -> Plan:
    return Plan(4, tuple(TablePlan(name.replace("_", "-"), name.replace("_", "-"), s) for name, s in tables.items()))


def test_all_schemes_in_one_plan_there_and_back():
    mixed = Plan(4, tuple(TablePlan(scheme, scheme, shards) for scheme, shards in TABLES.items()))
    assert Plan.from_json(mixed.to_json()) == mixed
    assert mixed.host_ranks == 2 and {(table.rows, table.dim) for table in mixed.tables} == {(10, 8)}
    mixed.check([TableConfig(name=scheme, rows=10, dim=8) for scheme in TABLES], 4)


@pytest.mark.parametrize(
    ("scheme", "shards", "message"),
    [
        ("sideways", (Shard(0, *WHOLE),), "table t has scheme 'sideways': choose one of table-wise"),
        ("table-wise", (), "table t has no shards"),
        ("table-wise", (Shard(0, *WHOLE), Shard(1, *WHOLE)), "table t is table-wise and has 2 shards"),
        ("table-wise", (Shard(0, 1, 10, 0, 8),), "table-wise table t must hold all rows"),
        ("row-wise", (Shard(0, 0, 4, 0, 8), Shard(1, 5, 10, 0, 8)), "row-wise table t must hold every row once"),
        ("row-wise", (Shard(0, 0, 4, 0, 8), Shard(1, 4, 10, 0, 4)), "row-wise table t must hold every row once"),
        ("row-wise", (Shard(0, 0, 4, 0, 8), Shard(0, 4, 10, 0, 8)), "two shards on one rank"),
        ("row-wise", (Shard(0, 0, 0, 0, 8), Shard(1, 0, 10, 0, 8)), "empty or negative shard"),
        ("column-wise", (Shard(0, 0, 10, 0, 4), Shard(1, 0, 10, 0, 8)), "must hold all rows, every column once"),
        ("table-row-wise", (Shard(1, 0, 5, 0, 8), Shard(2, 5, 10, 0, 8)), "t must lie on the ranks of one host"),
        ("data-parallel", (Shard(0, *WHOLE),), "t needs one shard a rank"),
        ("table-wise", (Shard(4, *WHOLE),), "t has a shard on rank 4 of 4 ranks"),
    ],
)
def test_what_is_no_plan(scheme, shards, message):
    with pytest.raises(InputError, match=message):
        Plan(4, (TablePlan("t", scheme, shards),))


@pytest.mark.parametrize(
    ("tables", "ranks", "message"),
    [
        ([TableConfig(name="a", rows=10, dim=8)], 2, "it is for 1 ranks, and there are 2"),
        ([TableConfig(name="b", rows=10, dim=8)], 1, "not the model's.*see a"),
        ([TableConfig(name="a", rows=11, dim=8)], 1, "table a is 10 x 8 there and 11 x 8 here"),
    ],
)
def test_a_plan_of_another_model(tables, ranks, message):
    of_a = Plan(1, (TablePlan("a", "table-wise", (Shard(0, *WHOLE),)),))
    with pytest.raises(InputError, match=message):
        of_a.check(tables, ranks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan: not JSON"),
        ('{"ranks": 1}', "plan: .*missing required field `tables`"),
        ('{"ranks": 1, "tables": [{"table": "t", "scheme": "table-wise", "shards": []}]}', "table t has no shards"),
    ],
)
def test_json_that_is_no_plan(text, message):
    with pytest.raises(InputError, match=re.compile(message)):
        Plan.from_json(text)
