"""A model's FLOPs from its configuration equal what its operators cost when it runs."""

from itertools import pairwise
from pathlib import Path

import torch
from profiled_calls import calls_of, flops_of
from torch import Tensor, nn

from workbench.costs import dlrm_flops_per_sample, interaction_flops, mlp_flops, pooling_flops

BOTTOM, TOP, TABLES, DIM, LENGTH, BATCH = (13, 32, 8), (8 + 10, 16, 1), 4, 8, 3, 5


def test_by_hand() -> None:
    assert mlp_flops([13, 512, 64]) == 2 * (13 * 512 + 512 * 64)
    assert interaction_flops(features=27, dim=16) == 2 * 27 * 27 * 16
    assert pooling_flops([1, 3, 0], dim=16) == 2 * 16
    forward = dlrm_flops_per_sample([13, 16], [52, 1], lookups=[2, 2], dim=16)
    products = 2 * (13 * 16 + 52) + 2 * 3 * 3 * 16
    assert forward == products + 2 * 16
    training = dlrm_flops_per_sample([13, 16], [52, 1], lookups=[2, 2], dim=16, training=True)
    assert training == 3 * products + 2 * 16 + 2 * 4 * 16


def layers(sizes: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


def test_dlrm_equals_its_operators(tmp_path: Path) -> None:
    bottom, top = layers(BOTTOM), layers(TOP)
    bags = nn.ModuleList(nn.EmbeddingBag(20, DIM, mode="sum") for _ in range(TABLES))
    lower = torch.tril_indices(TABLES + 1, TABLES + 1, offset=-1)

    def forward() -> Tensor:
        dense = bottom(torch.ones(BATCH, BOTTOM[0]))
        indices = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH)
        features = torch.stack([dense, *(bag(indices) for bag in bags)], dim=1)
        pairs = torch.bmm(features, features.transpose(1, 2))[:, lower[0], lower[1]]
        return top(torch.cat([dense, pairs], dim=1))

    counted = flops_of(calls_of(forward, tmp_path), frozenset(("matrix_product", "embedding_bag")))
    assert counted == BATCH * dlrm_flops_per_sample(BOTTOM, TOP, [LENGTH] * TABLES, DIM)
