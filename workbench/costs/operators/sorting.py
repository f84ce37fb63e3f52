"""Sorting, the largest k, distinct values, and search in a sorted list."""

import math

from workbench.costs.call import Call, Tensor
from workbench.costs.model import Cost, aten, model

_INDEX_BYTES = 8


@model(
    "sort",
    title="Sort",
    operators=aten("sort"),
    formula="F = N log2 n; Q = 2 s N + 8 N",
    symbols="N elements in rows of n, s bytes of an element; 8 B for the index of each",
    source="comparisons of a comparison sort: Knuth, The Art of Computer Programming 3, section 5.3.1",
    limits="One pass over the data, as for a row that fits a cache; a radix sort makes several, without comparing.",
)
def sort(call: Call) -> Cost:
    """sort(x, dim, descending), sort(x, stable, dim, descending)."""
    x = call.tensor(0)
    n = _row(x, call, 2 if len(call.inputs) == 4 else 1)
    return Cost(x.numel * _log2(n), x.bytes, x.bytes + x.numel * _INDEX_BYTES, x.dtype)


@model(
    "topk",
    title="Largest k",
    operators=aten("topk"),
    formula="F = N log2 k; Q = s N + (s + 8) N k / n",
    symbols="N elements in rows of n, k kept of each, s bytes of an element",
    source="comparisons of a heap of k: Knuth, The Art of Computer Programming 3, section 5.2.3",
    limits="At least one comparison an element; selection by radix makes fewer.",
)
def topk(call: Call) -> Cost:
    """topk(x, k, dim, largest, sorted)."""
    x, k = call.tensor(0), call.integer(1)
    kept = x.numel // max(_row(x, call, 2), 1) * k
    return Cost(x.numel * max(_log2(k), 1.0), x.bytes, kept * (x.item_bytes + _INDEX_BYTES), x.dtype)


@model(
    "unique",
    title="Distinct values",
    operators=aten("_unique2", "unique_consecutive"),
    formula="F = N log2 N (N where sorted before); Q = 2 s N + 8 N where the inverse is asked for",
    symbols="N elements, s bytes of an element",
    source="sort, then compare neighbours",
    limits="How many distinct values there are is not recorded: all N are assumed, an upper bound of the writes. "
    "Counts of each value are not counted.",
)
def unique(call: Call) -> Cost:
    """_unique2(x, sorted, return_inverse, return_counts), unique_consecutive(x, return_inverse, return_counts, dim)."""
    x = call.tensor(0)
    consecutive = call.operator == "unique_consecutive"
    inverse = call.value(1 if consecutive else 2) is True
    operations = x.numel * (1.0 if consecutive else _log2(x.numel))
    return Cost(operations, x.bytes, x.bytes + x.numel * _INDEX_BYTES * inverse, x.dtype)


@model(
    "binary_search",
    title="Search in a sorted list",
    operators=aten("bucketize", "searchsorted"),
    formula="F = N log2 B; Q = s N + s B + 8 N",
    symbols="N values looked for among B boundaries, s bytes of an element",
    source="comparisons of a binary search",
    limits="Result indices of 8 B are assumed (out_int32 is not seen).",
)
def binary_search(call: Call) -> Cost:
    """bucketize(values, boundaries), searchsorted(boundaries, values)."""
    values, boundaries = call.tensor(0), call.tensor(1)
    if call.operator == "searchsorted":
        values, boundaries = boundaries, values
    comparisons = values.numel * _log2(boundaries.shape[-1])
    return Cost(comparisons, values.bytes + boundaries.bytes, values.numel * _INDEX_BYTES, values.dtype)


def _row(x: Tensor, call: Call, position: int) -> int:
    """Elements along the dimension given at `position`; not needed where there is only one."""
    if len(x.shape) < 2:
        return x.numel
    return x.shape[call.integer(position)]


def _log2(count: int) -> float:
    return math.log2(count) if count > 1 else 0.0
