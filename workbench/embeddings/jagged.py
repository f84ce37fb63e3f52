"""Jagged tensors: bags of different lengths as two flat tensors, `lengths` and `indices`, segment after segment.

A segment is one table's (or one rank's, or both) bags in a row: `lengths` is [segments, bags], and `indices`
[sum of lengths] holds segment 0's bags first. Lengths travel rather than offsets, because slices of lengths
concatenate as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.data.features import Feature
from workbench.errors import InputError


def offsets(lengths: Tensor) -> Tensor:
    """Start of every bag, and the end of the last: int64 [lengths.numel() + 1]."""
    starts = lengths.new_zeros(lengths.numel() + 1, dtype=torch.int64)
    torch.cumsum(lengths.flatten(), 0, out=starts[1:])
    return starts


def permute_segments(lengths: Tensor, indices: Tensor, order: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The same bags with segment `order[k]` in place k: lengths [len(order), bags], indices [sum of lengths].

    `order` may leave segments out and name others several times.
    """
    pieces = indices.split(lengths.sum(1).tolist())
    return lengths[list(order)], torch.cat([indices[:0], *(pieces[segment] for segment in order)])


def split_by_rows(lengths: Tensor, indices: Tensor, bounds: Tensor, row_bases: Tensor) -> tuple[Tensor, Tensor]:
    """Every segment's bags by blocks of rows: lengths [blocks, bags], and indices counted from each block's start.

    `lengths` [segments, bags]; all segments' rows are numbered in one go, segment k's from `row_bases[k]` on; `bounds`
    has each block's first such number, ascending. A bag's indices keep their order.
    """
    segments, bags = lengths.shape
    bag_of_segment = torch.arange(bags, device=lengths.device).repeat(segments)
    bag = torch.repeat_interleave(bag_of_segment, lengths.flatten())
    numbers = indices + torch.repeat_interleave(row_bases, lengths.sum(1))
    block = torch.bucketize(numbers, bounds, right=True) - 1
    order = block.argsort(stable=True)
    block_lengths = torch.bincount(block * bags + bag, minlength=len(bounds) * bags).view(-1, bags)
    return block_lengths.to(lengths.dtype), (numbers - bounds[block])[order]


def check_ids(features: Sequence[Feature], lengths: Tensor, indices: Tensor) -> None:
    """InputError for the first id outside its feature's rows: lengths [features, bags], indices [sum of lengths]."""
    counts = lengths.sum(1)
    rows = torch.repeat_interleave(indices.new_tensor([feature.rows for feature in features]), counts)
    wrong = ((indices < 0) | (indices >= rows)).nonzero()
    if len(wrong):
        position = int(wrong[0])
        feature = features[int((counts.cumsum(0) <= position).sum())]
        raise InputError(
            f"feature {feature.name} has id {int(indices[position])}, and its table has {feature.rows} rows: "
            f"ids are 0 to {feature.rows - 1}"
        )
