"""FLOPs of recommendation models from their configuration: what the operators' costs of one forward pass add up to."""

from collections.abc import Sequence
from itertools import pairwise

# Backward forms two products for each of forward's: the gradients of its two factors.
TRAINING_FACTOR = 3


def mlp_flops(layer_sizes: Sequence[int]) -> float:
    """Forward FLOPs an example of fully connected layers: mlp_flops([13, 512, 64]) = 2 (13 x 512 + 512 x 64).

    Products only, as for `aten::linear`: biases and activations add about one operation a unit. Training takes
    TRAINING_FACTOR times as many; less 2 x the first layer where its input needs no gradient.
    """
    return 2.0 * sum(inputs * outputs for inputs, outputs in pairwise(layer_sizes))


def interaction_flops(features: int, dim: int) -> float:
    """Forward FLOPs an example of the dot interaction: the product of [features, dim] and its transpose.

    All features^2 results are computed, though only (features - 1) features / 2 are used: so does the batched matrix
    product that DLRM's reference makes of it (Naumov et al. 2019, arXiv:1906.00091, section 2).
    """
    return 2.0 * features * features * dim


def pooling_flops(lookups: Sequence[float], dim: int) -> float:
    """Forward FLOPs an example of sum pooling: (L - 1) dim for each table's mean bag length L in `lookups`."""
    return float(sum(max(length - 1, 0) * dim for length in lookups))


def dlrm_flops_per_sample(
    bottom_mlp: Sequence[int], top_mlp: Sequence[int], lookups: Sequence[float], dim: int, training: bool = False
) -> float:
    """FLOPs an example of DLRM with the dot interaction (Naumov et al. 2019), forward or training.

    `bottom_mlp` begins with the dense features and ends with `dim`; `top_mlp` begins with the interaction's output;
    `lookups` has each table's mean bag length. Training takes TRAINING_FACTOR times the matrix products, and for each
    element looked up an update of 2 FLOPs, as SGD's (embedding_backward_cost with all rows distinct).
    """
    products = mlp_flops(bottom_mlp) + mlp_flops(top_mlp) + interaction_flops(len(lookups) + 1, dim)
    pooling = pooling_flops(lookups, dim)
    if not training:
        return products + pooling
    return TRAINING_FACTOR * products + pooling + 2.0 * sum(lookups) * dim
