"""The cost of a shard worked by hand, with a machine of round numbers."""

import math

import pytest

from workbench.costs.sharding import EqualRates, ShardWork, StepShape, distinct_rows, messages, shard_cost


class Machine:
    """Gathers at 2, streams at 4 and talks at 1 byte a nanosecond, the last measured between 2 ranks."""

    def gather_bytes_per_s(self, row_bytes, footprint_bytes):
        return 2e9

    def stream_bytes_per_s(self):
        return 4e9

    def collective_bytes_per_s(self, collective, group_size):
        return 1e9, 2


def work(scheme: str, rows: int = 1, dim: int = 20, lookups: float = 3.0) -> ShardWork:
    return ShardWork(scheme, rows, dim, row_bytes=80, state_bytes_per_row=4, lookups_per_sample=lookups)


STEP = StepShape(ranks=4, samples_per_rank=5, host_ranks=2)


def test_table_wise_by_hand():
    # G = 20 bags, n = 60 lookups of the one row; a row of 80 B is 2 lines, its state 1.
    cost = shard_cost(work("table-wise"), STEP, Machine())
    assert cost.lookup_ns == pytest.approx(60 * 128 / 2 + (8 * 60 + 4 * 20 * 20) / 4)
    assert cost.update_ns == pytest.approx(2 * 1 * (128 + 64) / 2 + (8 * 60 + 4 * 60 * 20) / 4)
    # 20 lengths of 4 B and 60 indices of 8 B; 20 x 20 elements twice. Of 4 ranks 3/4 move, of the measured 2 one half.
    assert cost.communication_ns == pytest.approx((20 * 4 + 60 * 8 + 2 * 4 * 20 * 20) * 0.75 / 0.5)
    assert cost.total_ns == cost.lookup_ns + cost.update_ns + cost.communication_ns


def test_a_copy_serves_its_own_samples_and_reduces_the_dense_gradient():
    shard = work("data-parallel", rows=10)
    cost = shard_cost(shard, STEP, Machine())
    assert cost.lookup_ns == pytest.approx(15 * 128 / 2 + (8 * 15 + 4 * 5 * 20) / 4)
    distinct = 10 * (1 - 0.9**15)
    assert cost.update_ns == pytest.approx(2 * distinct * 192 / 2 + (8 * 15 + 4 * 15 * 20 + 2 * 4 * 10 * 20) / 4)
    assert messages(shard, STEP) == [("all_reduce", 800, 4)]


@pytest.mark.parametrize(
    ("scheme", "moved"),
    [
        ("column-wise", [("all_to_all", 1600, 4), ("all_to_all", 1600, 4)]),
        ("row-wise", [("reduce_scatter", 1600, 4), ("all_gather", 1600, 4)]),
        ("table-row-wise", [("reduce_scatter", 1600, 2), ("all_to_all", 1600, 2), ("all_gather", 1600, 2)]),
    ],
)
def test_what_each_scheme_sends(scheme, moved):
    assert messages(work(scheme), STEP) == [("all_to_all", 20 * 4 + 60 * 8, 4), *moved]


def test_half_precision_on_the_wire_halves_the_rows():
    step = StepShape(4, 5, 2, forward_element_bytes=2, backward_element_bytes=2)
    assert [size for _, size, _ in messages(work("table-wise"), step)][1:] == [800, 800]


def test_one_rank_sends_nothing():
    assert shard_cost(work("table-wise"), StepShape(1, 5, 1), EqualRates()).communication_ns == 0


def test_distinct_rows_is_an_expectation():
    assert distinct_rows(5, 1) == 1
    assert distinct_rows(2, 10) == pytest.approx(1 + 0.9)
    assert distinct_rows(1e9, 100) == pytest.approx(100)
    assert math.isclose(distinct_rows(7, 10**12), 7, rel_tol=1e-9)


def test_stored_bytes_count_weights_and_state():
    assert work("table-wise", rows=10).stored_bytes == 840
