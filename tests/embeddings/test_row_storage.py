"""Rows in few bits: exact where they fit, at most one step off, and right on average."""

import pytest
import torch

from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.plan import Shard
from workbench.embeddings.rows import Rows
from workbench.embeddings.tables import TableConfig, TableShard

FORMATS = ("fp32", "fp16", "bf16", "int8")
BYTES = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 16}


def rows_of(row_dtype: str, count: int, dim: int = 8, seed: int = 1) -> Rows:
    return Rows([TableConfig(name="t", rows=count, dim=dim, row_dtype=row_dtype)], torch.device("cpu"), seed)


@pytest.mark.parametrize("row_dtype", FORMATS)
def test_values_that_fit_are_kept(row_dtype):
    rows = rows_of(row_dtype, 3)
    values = torch.tensor([[-4.0, 251.0, 0, 1, 2, 3, 17, 250], [0.0] * 8])  # int8: 255 steps of 1 from -4
    rows.write(torch.tensor([2, 0]), values, step=0)
    assert torch.equal(rows.read(torch.tensor([2, 0])), values)
    assert torch.equal(rows.dense(), torch.stack([values[1], torch.zeros(8), values[0]]))


@pytest.mark.parametrize("row_dtype", FORMATS)
def test_bytes_of_a_row(row_dtype):
    table = TableConfig(name="t", rows=3, dim=8, row_dtype=row_dtype)
    rows = rows_of(row_dtype, 3)
    held = rows.stored[0].nbytes + (rows.scales[0].nbytes if row_dtype == "int8" else 0)
    assert table.row_bytes == held == BYTES[row_dtype]


@pytest.mark.parametrize(("row_dtype", "relative"), [("fp16", 2**-10), ("bf16", 2**-7)])
def test_floats_are_rounded_to_a_neighbour_and_without_bias(row_dtype, relative):
    values = torch.tensor([1.0003, -0.7501, 3e-5, 0.1, -12.345, 1e-6, 0.3333, 5.0]).repeat(20_000, 1)
    rows = rows_of(row_dtype, len(values))
    rows.write(torch.arange(len(values)), values, step=0)
    found = rows.dense()
    step = (values[0].abs() * relative).clamp_min(2**-24 if row_dtype == "fp16" else 0)
    assert ((found - values).abs() <= step).all()
    # The mean of n draws that are at most a step apart has a standard error of at most step / (2 sqrt n).
    assert ((found.double().mean(0) - values[0]).abs() <= 4 * step / 2 / len(values) ** 0.5).all()


def test_int8_rows_span_their_own_range_without_bias():
    values = torch.linspace(-1, 1, 16)[None] * torch.logspace(-3, 3, 5_000)[:, None]
    rows = rows_of("int8", len(values), dim=16)
    rows.write(torch.arange(len(values)), values, step=0)
    steps = 2 * torch.logspace(-3, 3, 5_000)[:, None] / 255
    error = (rows.dense() - values) / steps
    assert error.abs().max() <= 1.001 and error.mean().abs() < 4 / 2 / error.numel() ** 0.5


def test_updates_smaller_than_a_step_add_up():
    rows = rows_of("bf16", 4_000)
    every = torch.arange(4_000)
    rows.write(every, torch.ones(4_000, 8), step=0)
    for step in range(1, 17):
        rows.write(
            every, rows.read(every) + 2**-10, step
        )  # an eighth of bf16's step at 1: rounding to nearest stays at 1
    assert rows.dense().mean() == pytest.approx(1 + 16 * 2**-10, abs=2e-4)


def test_rounding_depends_on_seed_row_and_write_not_on_company():
    values = torch.full((50, 8), 1.0003)
    all_rows, some, other = rows_of("fp16", 50), rows_of("fp16", 50), rows_of("fp16", 50, seed=2)
    for rows in (all_rows, other):
        rows.write(torch.arange(50), values, step=0)
    some.write(torch.tensor([7, 49]), values[:2], step=0)
    assert torch.equal(some.dense()[[7, 49]], all_rows.dense()[[7, 49]])
    assert not torch.equal(other.dense(), all_rows.dense())
    first = all_rows.dense()
    all_rows.write(torch.arange(50), values, step=1)
    assert not torch.equal(all_rows.dense(), first)


@pytest.mark.parametrize("row_dtype", ["fp16", "bf16"])
def test_a_shard_and_a_table_beside_others_round_as_the_whole_table_alone(row_dtype):
    a, b = (TableConfig(name=name, rows=50, dim=8, row_dtype=row_dtype) for name in "ab")
    part = TableShard.of(b, Shard(0, 10, 30, 4, 8))
    values = torch.full((100, 8), 1.0003)
    whole, both, shard = (Rows(tables, torch.device("cpu"), 1) for tables in ([b], [a, b], [part]))
    for rows in (whole, both, shard):
        count, dim = rows.stored.shape
        rows.write(torch.arange(count), values[:count, :dim].contiguous(), step=3)
    assert torch.equal(both.dense()[50:], whole.dense()) and not torch.equal(both.dense()[:50], whole.dense())
    assert torch.equal(shard.dense(), whole.dense()[10:30, 4:])


@pytest.mark.parametrize("row_dtype", FORMATS)
def test_lookups_widen_rows_before_they_pool(row_dtype):
    table = TableConfig(name="t", rows=9, dim=4, row_dtype=row_dtype)
    lookup = make_lookup([table], "torch", 0.1, "cpu", seed=0)
    pooled = lookup(torch.tensor([3, 3, 8]), torch.tensor([0, 2, 2, 3]))
    weight = lookup.weights[0]
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.stack([2 * weight[3], torch.zeros(4), weight[8]]))
