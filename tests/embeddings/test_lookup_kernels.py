"""FBGEMM and plain torch behind one door: equal to each other, and to row-wise AdaGrad worked by hand."""

from dataclasses import replace

import pytest
import torch

from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import CompiledUpdateLookup, TorchLookup, make_lookup
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


@pytest.mark.parametrize("kernel", ["fbgemm", "auto"])
def test_kernels_equal_torch_over_several_steps(kernel):
    pytest.importorskip("fbgemm_gpu")
    lookups = [make_lookup(TABLES, name, 0.1, "cpu", seed=1) for name in (kernel, "torch")]
    for step in range(4):
        lengths, indices = random_lookups(TABLES, bags=33, seed=step)
        pooled = [lookup(indices, offsets(lengths)) for lookup in lookups]
        assert pooled[0].shape == (33, 12)
        torch.testing.assert_close(*pooled)
        for output in pooled:
            output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
        for name in ("weights", "states"):
            torch.testing.assert_close(*(list(getattr(lookup, name)) for lookup in lookups))


def test_the_compiled_update_is_the_same_for_any_number_of_threads():
    tables = [TableConfig(name=f"{rows}", rows=rows, dim=dim) for rows, dim in ((3, 4), (90_000, 12), (700, 32))]
    indices = torch.cat([torch.randint(0, table.rows, (200,)) for table in tables])
    gradient, threads, found = torch.randn(100, 48), torch.get_num_threads(), []
    for torch_threads in (1, 2, 3):
        torch.set_num_threads(torch_threads)
        lookup = make_lookup(tables, "auto", 0.1, "cpu", seed=1)
        assert isinstance(lookup, CompiledUpdateLookup)
        lookup(indices, torch.arange(0, 601, 2)).backward(gradient)
        found.append([weight.detach() for weight in lookup.weights] + lookup.states)
    torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)
    plain = make_lookup(tables, "torch", 0.1, "cpu", seed=1)
    plain(indices, torch.arange(0, 601, 2)).backward(gradient)
    torch.testing.assert_close(found[0], plain.weights + plain.states)  # rows of 17 bits take two passes of the sort


@pytest.mark.parametrize("kernel", ["fbgemm", "auto", "torch"])
def test_pooling_is_a_sum_of_rows_and_an_empty_bag_is_zero(kernel):
    lookup = make_lookup(TABLES, kernel, 0.1, "cpu", seed=0)
    lengths = torch.tensor([[2, 0], [1, 3]], dtype=torch.int32)
    pooled = lookup(torch.tensor([3, 3, 6, 0, 1, 0]), offsets(lengths))
    a, b = lookup.weights
    torch.testing.assert_close(pooled[0], torch.cat([2 * a[3], b[6]]))
    torch.testing.assert_close(pooled[1], torch.cat([torch.zeros(8), 2 * b[0] + b[1]]))


def test_weights_depend_on_name_and_seed_not_on_neighbours():
    both, alone = make_lookup(TABLES, "torch", 0.1, "cpu", 5), make_lookup(TABLES[1:], "auto", 0.1, "cpu", 5)
    other = make_lookup(TABLES[1:], "torch", 0.1, "cpu", 6)
    torch.testing.assert_close(both.weights[1], alone.weights[0], rtol=0, atol=0)
    assert not torch.equal(both.weights[1], other.weights[0])
    assert both.weights[1].abs().max() <= 7**-0.5


@pytest.mark.parametrize("index", [7, -1])
@pytest.mark.parametrize("kernel", ["fbgemm", "auto", "torch"])
def test_an_index_outside_its_table_stops_the_program(kernel, index):
    lookup = make_lookup(TABLES, kernel, 0.1, "cpu", 0)
    with pytest.raises(RuntimeError):
        lookup(torch.tensor([0, index]), offsets(torch.tensor([[1], [1]])))


def test_dims_that_fbgemm_does_not_take():
    odd = [TableConfig(name="odd", rows=10, dim=6)]
    with pytest.raises(InputError, match=r"odd.*kernel=torch"):
        make_lookup(odd, "fbgemm", 0.1, "cpu", 0)
    assert make_lookup(odd, "auto", 0.1, "cpu", 0).weights[0].shape == (10, 6)


@pytest.mark.parametrize("change", [{"row_dtype": "bf16"}, {"optimizer": "adam"}])
def test_tables_that_only_the_torch_path_takes(change):
    tables = [replace(TABLES[0], **change)]
    with pytest.raises(InputError, match="kernel=torch"):
        make_lookup(tables, "fbgemm", 0.1, "cpu", 0)
    assert isinstance(make_lookup(tables, "auto", 0.1, "cpu", 0), TorchLookup)


def test_synthetic_tables_are_reproducible_and_spread_as_asked():
    tables = synthetic_tables(200, (100, 10_000), [16] * 200, 5.0, seed=2)
    assert tables == synthetic_tables(200, (100, 10_000), [16] * 200, 5.0, seed=2)
    assert sum(table.pooling_factor for table in tables) / 200 == pytest.approx(5.0)
    assert all(100 <= t.rows <= 10_000 and 0 < t.coverage <= min(1, t.pooling_factor) for t in tables)
    zipf = torch.tensor([table.zipf_exponent for table in tables])
    assert zipf.mean() == pytest.approx(0.9, abs=0.05) and zipf.std() == pytest.approx(0.2, abs=0.04)
    assert (tables[0].row_bytes, tables[0].state_bytes_per_row) == (64, 4)
