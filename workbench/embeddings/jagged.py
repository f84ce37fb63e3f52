"""Jagged tensors: bags of different lengths as two flat tensors, `lengths` and `indices`, segment after segment.

A segment is one table's (or one rank's, or both) bags in a row: `lengths` is [segments, bags], and `indices`
[sum of lengths] holds segment 0's bags first. Lengths travel rather than offsets, because slices of lengths
concatenate as they are.
"""

import torch
from torch import Tensor


def offsets(lengths: Tensor) -> Tensor:
    """Start of every bag, and the end of the last: int64 [lengths.numel() + 1]."""
    starts = lengths.new_zeros(lengths.numel() + 1, dtype=torch.int64)
    torch.cumsum(lengths.flatten(), 0, out=starts[1:])
    return starts


def permute_segments(lengths: Tensor, indices: Tensor, order: list[int]) -> tuple[Tensor, Tensor]:
    """The same bags with segment `order[k]` in place k: lengths [segments, bags], indices [sum of lengths]."""
    pieces = indices.split(lengths.sum(1).tolist())
    return lengths[order], torch.cat([pieces[segment] for segment in order])
