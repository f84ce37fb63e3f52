"""Placement against the greedy rule by hand and its bound; jagged regrouping against lists of lists."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.embeddings.jagged import offsets, permute_segments
from workbench.embeddings.sharding import place_tables, table_cost_bytes
from workbench.embeddings.tables import TableConfig


def table(pooling_factor: float) -> TableConfig:
    return TableConfig(name="t", rows=10, dim=1, pooling_factor=pooling_factor)


def test_greedy_by_hand():
    # Costs (3 L + 2) x 4 bytes: L = 6, 5, 4, 3, 1 -> 80, 68, 56, 44, 20.
    tables = [table(1), table(6), table(4), table(5), table(3)]
    assert [table_cost_bytes(each) for each in tables] == [20, 80, 56, 68, 44]
    # 80 -> 0; 68 -> 1; 56 -> 1 (68 < 80); 44 -> 0 (80 < 124); 20 -> 0 (124 = 124: the lower rank).
    assert place_tables(tables, 2) == (0, 0, 1, 1, 0)


@given(poolings=st.lists(st.floats(0.1, 100), min_size=1, max_size=30), ranks=st.integers(1, 8))
def test_no_rank_exceeds_the_mean_by_more_than_one_table(poolings, ranks):
    tables = [table(pooling) for pooling in poolings]
    placement = place_tables(tables, ranks)
    assert len(placement) == len(tables) and set(placement) <= set(range(ranks))
    costs = [table_cost_bytes(each) for each in tables]
    loads = [sum(cost for cost, owner in zip(costs, placement, strict=True) if owner == rank) for rank in range(ranks)]
    assert max(loads) <= sum(costs) / ranks + max(costs) + 1e-6


bag = st.lists(st.integers(0, 99), max_size=4)


@settings(deadline=None)
@given(
    segments=st.lists(st.tuples(bag, bag, bag), min_size=1, max_size=5),
    seed=st.randoms(use_true_random=False),
)
def test_segments_are_permuted_whole(segments, seed):
    order = list(range(len(segments)))
    seed.shuffle(order)
    lengths = torch.tensor([[len(bag) for bag in segment] for segment in segments])
    indices = torch.tensor([i for segment in segments for bag in segment for i in bag], dtype=torch.int64)
    new_lengths, new_indices = permute_segments(lengths, indices, order)
    bounds = offsets(new_lengths).tolist()
    bags = [new_indices[start:end].tolist() for start, end in pairwise(bounds)]
    assert bags == [bag for segment in order for bag in segments[segment]]
