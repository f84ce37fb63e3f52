"""Sparse optimizers against a dense oracle in double precision, and bit for bit over numbers of threads."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.optimizers import ADAM_BETAS, EPSILON, sum_by_row, update
from workbench.embeddings.tables import OPTIMIZERS, TableConfig

RATE, STEPS = 0.1, 4
# FBGEMM has no Adam for CPUs.
PAIRS = [*((name, "torch") for name in OPTIMIZERS), *((name, "fbgemm") for name in OPTIMIZERS if name != "adam")]


def tables_with(optimizer: str, row_dtype: str = "fp32") -> tuple[TableConfig, ...]:
    kind = {"optimizer": optimizer, "row_dtype": row_dtype}
    return TableConfig(name="a", rows=40, dim=8, **kind), TableConfig(name="b", rows=7, dim=4, **kind)


def random_bags(rows: int, bags: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths [bags] with empty bags, and as many ids: most ids come several times."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 5, (bags,), generator=generator)
    return lengths, torch.randint(0, rows, (int(lengths.sum()),), generator=generator)


def dense_step(optimizer: str, weight, moments, gradient, step: int):
    """One update of the touched rows, the textbook's formulas on whole tables, in double precision."""
    touched = (gradient != 0).any(dim=1, keepdim=True)
    first, second = moments
    if optimizer == "sgd":
        return weight - RATE * gradient, moments
    if optimizer == "adam":
        b1, b2 = ADAM_BETAS
        first = torch.where(touched, b1 * first + (1 - b1) * gradient, first)
        second = torch.where(touched, b2 * second + (1 - b2) * gradient**2, second)
        change = first / (1 - b1**step) / (torch.sqrt(second / (1 - b2**step)) + EPSILON)
    else:
        squares = gradient**2
        second = second + (squares.mean(1, keepdim=True).expand_as(squares) if "rowwise" in optimizer else squares)
        change = gradient / (torch.sqrt(second) + EPSILON)
    return weight - torch.where(touched, RATE * change, 0.0), (first, second)


@pytest.mark.parametrize(("optimizer", "kernel"), PAIRS)
def test_several_steps_equal_the_dense_oracle(optimizer, kernel):
    if kernel == "fbgemm":
        pytest.importorskip("fbgemm_gpu")
    tables = tables_with(optimizer)
    lookup = make_lookup(tables, kernel, RATE, "cpu", seed=3)
    dense = [weight.double() for weight in lookup.weights]
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in dense]
    for step in range(1, STEPS + 1):
        bags = [random_bags(table.rows, 30, 10 * step + index) for index, table in enumerate(tables)]
        lengths, indices = (torch.stack([b[0] for b in bags]), torch.cat([b[1] for b in bags]))
        upstream = torch.randn(30, 12, generator=torch.Generator().manual_seed(step))
        lookup(indices, offsets(lengths)).backward(upstream)
        for index, (own, ids) in enumerate(bags):
            gradient = torch.zeros_like(dense[index])
            columns = upstream[:, :8] if index == 0 else upstream[:, 8:]
            gradient.index_add_(0, ids, columns.double().repeat_interleave(own, dim=0))
            dense[index], moments[index] = dense_step(optimizer, dense[index], moments[index], gradient, step)
    for weight, state, expected, table, (first, second) in zip(
        lookup.weights, lookup.states, dense, tables, moments, strict=True
    ):
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-6)
        assert state.shape == (table.rows, *table.state_shape)
        assert table.state_bytes_per_row == 4 * state[0].numel()
        known = {"sgd": first[:, :0], "rowwise_adagrad": second[:, 0], "adagrad": second}
        torch.testing.assert_close(
            state.double(), known.get(optimizer, torch.stack([first, second], 1)), rtol=1e-5, atol=1e-6
        )


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("optimizer", "row_dtype", "kernel"),
    [
        *((optimizer, "fp32", kernel) for optimizer, kernel in PAIRS),
        *(("rowwise_adagrad", row_dtype, "torch") for row_dtype in ("fp16", "bf16", "int8")),
    ],
)
def test_the_same_bits_for_any_number_of_threads(optimizer, row_dtype, kernel):
    if kernel == "fbgemm":
        pytest.importorskip("fbgemm_gpu")
    table = TableConfig(name="t", rows=3_000, dim=32, optimizer=optimizer, row_dtype=row_dtype)

    def train(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        with threads(count):
            lookup = make_lookup([table], kernel, RATE, "cpu", seed=0)
            for step in range(2):
                lengths, indices = random_bags(300, 4_000, step)  # 300 rows, about 27 lookups each
                pooled = lookup(indices, offsets(lengths))
                pooled.backward(torch.sin(torch.arange(pooled.numel())).view_as(pooled))
            return lookup.weights[0].clone(), lookup.states[0].clone()

    for one, several in zip(train(1), train(3), strict=True):
        assert torch.equal(one, several)


def test_the_update_is_one_a_row_not_one_a_lookup():
    weight, state = torch.zeros(1, 2), torch.zeros(1)
    unique, gradient = sum_by_row(torch.tensor([5, 5]), torch.tensor([0, 1]), torch.tensor([[3.0, 1.0], [0.0, 3.0]]))
    assert unique.tolist() == [5] and gradient.tolist() == [[3.0, 4.0]]
    weight, state = update("rowwise_adagrad", weight, state, gradient, learning_rate=0.5, step=1)
    assert state.tolist() == [12.5]  # mean of 9 and 16; lookup by lookup it would be 5 + 4.5
    torch.testing.assert_close(weight, torch.tensor([[-1.5, -2.0]]) / 12.5**0.5)


@settings(deadline=None, max_examples=40)
@given(lookups=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=60))
def test_sums_are_those_of_a_loop_over_lookups_in_order(lookups):
    gradients = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    expected: dict[int, torch.Tensor] = {}
    for row, bag in lookups:
        expected[row] = expected[row] + gradients[bag] if row in expected else gradients[bag]
    rows, bags = torch.tensor(lookups).T
    unique, summed = sum_by_row(rows, bags, gradients)
    assert unique.tolist() == sorted(expected)
    assert torch.equal(summed, torch.stack([expected[row] for row in sorted(expected)]))
