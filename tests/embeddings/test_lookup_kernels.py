"""FBGEMM and plain torch behind one door: equal to each other, and to row-wise AdaGrad worked by hand."""

import pytest
import torch

from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import make_lookup, update_rows
from workbench.embeddings.tables import TableConfig, synthetic_tables
from workbench.errors import InputError

TABLES = (TableConfig(name="a", rows=50, dim=8), TableConfig(name="b", rows=7, dim=4))


def random_lookups(tables, bags: int, seed: int):
    """Lengths [tables, bags] with empty bags and many repeats, and their indices."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 5, (len(tables), bags), dtype=torch.int32, generator=generator)
    counts = lengths.sum(1).tolist()
    rows = [torch.randint(0, t.rows, (n,), generator=generator) for t, n in zip(tables, counts, strict=True)]
    return lengths, torch.cat(rows)


def test_fbgemm_equals_torch_over_several_steps():
    pytest.importorskip("fbgemm_gpu")
    lookups = [make_lookup(TABLES, kernel, 0.1, "cpu", seed=1) for kernel in ("fbgemm", "torch")]
    for step in range(4):
        lengths, indices = random_lookups(TABLES, bags=33, seed=step)
        pooled = [lookup(indices, offsets(lengths)) for lookup in lookups]
        assert pooled[0].shape == (33, 12)
        torch.testing.assert_close(*pooled)
        for output in pooled:
            output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
        for name in ("weights", "states"):
            torch.testing.assert_close(*(list(getattr(lookup, name)) for lookup in lookups))


@pytest.mark.parametrize("kernel", ["fbgemm", "torch"])
def test_pooling_is_a_sum_of_rows_and_an_empty_bag_is_zero(kernel):
    lookup = make_lookup(TABLES, kernel, 0.1, "cpu", seed=0)
    lengths = torch.tensor([[2, 0], [1, 3]], dtype=torch.int32)
    pooled = lookup(torch.tensor([3, 3, 6, 0, 1, 0]), offsets(lengths))
    a, b = lookup.weights
    torch.testing.assert_close(pooled[0], torch.cat([2 * a[3], b[6]]))
    torch.testing.assert_close(pooled[1], torch.cat([torch.zeros(8), 2 * b[0] + b[1]]))


def test_one_update_a_unique_row_worked_by_hand():
    weight, state = torch.zeros(3, 2), torch.tensor([0.0, 7.0, 0.0])
    gradients = torch.tensor([[3.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    update_rows(weight, state, torch.tensor([1, 2, 1]), gradients, learning_rate=0.5)
    # Row 1: g = [3, 4], mean of squares 12.5; row 2: g = [0, 2], mean of squares 2. Row 0 is untouched.
    torch.testing.assert_close(state, torch.tensor([0.0, 19.5, 2.0]))
    expected = torch.tensor([[0.0, 0.0], [-1.5 / 19.5**0.5, -2.0 / 19.5**0.5], [0.0, -1.0 / 2**0.5]])
    torch.testing.assert_close(weight, expected)


def test_weights_depend_on_name_and_seed_not_on_neighbours():
    both, alone = make_lookup(TABLES, "torch", 0.1, "cpu", 5), make_lookup(TABLES[1:], "auto", 0.1, "cpu", 5)
    other = make_lookup(TABLES[1:], "torch", 0.1, "cpu", 6)
    torch.testing.assert_close(both.weights[1], alone.weights[0], rtol=0, atol=0)
    assert not torch.equal(both.weights[1], other.weights[0])
    assert both.weights[1].abs().max() <= 7**-0.5


@pytest.mark.parametrize("kernel", ["fbgemm", "torch"])
def test_an_index_outside_its_table_stops_the_program(kernel):
    lookup = make_lookup(TABLES, kernel, 0.1, "cpu", 0)
    with pytest.raises(RuntimeError):
        lookup(torch.tensor([0, 7]), offsets(torch.tensor([[1], [1]])))


def test_dims_that_fbgemm_does_not_take():
    odd = [TableConfig(name="odd", rows=10, dim=6)]
    with pytest.raises(InputError, match=r"odd.*kernel=torch"):
        make_lookup(odd, "fbgemm", 0.1, "cpu", 0)
    assert make_lookup(odd, "auto", 0.1, "cpu", 0).weights[0].shape == (10, 6)


def test_synthetic_tables_are_reproducible_and_spread_as_asked():
    tables = synthetic_tables(200, (100, 10_000), [16] * 200, 5.0, seed=2)
    assert tables == synthetic_tables(200, (100, 10_000), [16] * 200, 5.0, seed=2)
    assert sum(table.pooling_factor for table in tables) / 200 == pytest.approx(5.0)
    assert all(100 <= t.rows <= 10_000 and 0 < t.coverage <= min(1, t.pooling_factor) for t in tables)
    zipf = torch.tensor([table.zipf_exponent for table in tables])
    assert zipf.mean() == pytest.approx(0.9, abs=0.05) and zipf.std() == pytest.approx(0.2, abs=0.04)
    assert (tables[0].row_bytes, tables[0].state_bytes_per_row) == (64, 4)
