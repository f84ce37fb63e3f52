"""The backward pass of pooled lookups with row-wise AdaGrad in it, compiled for CPUs: each row is updated once.

    lookups of a table --stable sort by row--> runs of one row --sum of their bags' gradients--> m, w of the row

The rules are `optimizers.py`'s, the result that of the other kernels but for the order of sums. What it has over
FBGEMM's is that rows and gradients are asked for ahead of their turn: both lie all over memory.
"""

import numpy as np
import torch
from torch import Tensor

from workbench.embeddings.compiled import as_array, compiled, on_threads
from workbench.embeddings.optimizers import EPSILON
from workbench.machine.measure.kernels import prefetch_line

_DIGIT_BITS = 9  # of the sort: as many counters stay in the innermost cache
_DIGITS = 1 << _DIGIT_BITS
_GRADIENTS_AHEAD, _ROWS_AHEAD = 8, 16
_LINE = 16  # fp32 numbers


@torch.library.custom_op("workbench::rowwise_adagrad_backward", mutates_args=("weights", "moments"), device_types="cpu")
def rowwise_adagrad_backward(
    gradient: Tensor, weights: Tensor, moments: Tensor, indices: Tensor, offsets: Tensor, dims: list[int],
    first_rows: list[int], learning_rate: float,
) -> None:  # fmt: skip
    """Update tables of widths `dims` in place, given the gradient [bags, sum of dims] of what was pooled.

    `weights` fp32 has all rows of all tables, one after the other, `moments` fp32 [rows of all tables] their state.
    Table t's begin at row `first_rows[t]`; indices [n] and offsets [tables * bags + 1] are as in `make_lookup`.
    """
    if not (weights.is_contiguous() and moments.is_contiguous()):
        raise ValueError("tables that are changed in place must be contiguous")
    rows = np.diff([*first_rows, len(moments)])
    columns, first_weights = (np.cumsum(sizes) - sizes for sizes in (np.array(dims), np.array(dims) * rows))
    on_threads(
        len(dims), 1, _update, as_array(gradient), as_array(weights), as_array(moments), as_array(indices),
        as_array(offsets), np.array(dims), np.array([first_rows, columns, first_weights]), np.float32(learning_rate),
        np.float32(EPSILON),
    )  # fmt: skip


@compiled
def _sorted_by_row(keys, spare):
    """Keys (row << 32 | bag) by row, equal rows in their order: in one of both buffers, which is returned."""
    most = 0
    for key in keys:
        most = max(most, key >> 32)
    shift = 0
    while most >> shift:
        counts = np.zeros(_DIGITS, np.int64)
        for key in keys:
            counts[(key >> (32 + shift)) & (_DIGITS - 1)] += 1
        place = 0
        for digit in range(_DIGITS):
            counts[digit], place = place, place + counts[digit]
        for key in keys:
            digit = (key >> (32 + shift)) & (_DIGITS - 1)
            spare[counts[digit]] = key
            counts[digit] += 1
        keys, spare = spare, keys
        shift += _DIGIT_BITS
    return keys


@compiled
def _update(begin, end, gradient, weights, moments, indices, offsets, dims, tables, learning_rate, epsilon):
    """Tables `begin` to `end`; `tables` has each one's first row, first column and first weight."""
    bags, width, gradients = len(gradient), gradient.shape[1], gradient.reshape(-1)
    for table in range(begin, end):
        dim, first_row, column, first_weight = dims[table], tables[0, table], tables[1, table], tables[2, table]
        start = offsets[table * bags]
        keys = np.empty(offsets[(table + 1) * bags] - start, np.int64)
        for bag in range(bags):
            for lookup in range(offsets[table * bags + bag], offsets[table * bags + bag + 1]):
                keys[lookup - start] = indices[lookup] << 32 | bag
        keys = _sorted_by_row(keys, np.empty_like(keys))
        total, new_row = np.empty(dim, np.float32), True
        for place in range(len(keys)):
            if place + _GRADIENTS_AHEAD < len(keys):
                ahead = (keys[place + _GRADIENTS_AHEAD] & 0xFFFFFFFF) * width + column
                for element in range(0, dim, _LINE):
                    prefetch_line(gradients, ahead + element)
            if place + _ROWS_AHEAD < len(keys):
                ahead = keys[place + _ROWS_AHEAD] >> 32
                prefetch_line(moments, first_row + ahead)
                for element in range(0, dim, _LINE):
                    prefetch_line(weights, first_weight + ahead * dim + element)
            of_bag = (keys[place] & 0xFFFFFFFF) * width + column
            if new_row:
                total[:] = 0
            _add(total, gradients, of_bag)
            row = keys[place] >> 32
            new_row = place + 1 == len(keys) or keys[place + 1] >> 32 != row
            if new_row:
                _update_row(total, weights, first_weight + row * dim, moments, first_row + row, learning_rate, epsilon)


# Rows are slices whose numbers are counted from 0: an index of which the compiler does not know that it is not negative
# may mean a place from the array's end, and asking that for every number takes longer than the sum itself.
@compiled
def _add(total, gradients, start):
    gradient = gradients[start : start + len(total)]
    for element in range(len(total)):
        total[element] += gradient[element]


@compiled
def _update_row(gradient, weights, weight, moments, row, learning_rate, epsilon):
    """m += mean of g^2;  w -= rate g / (sqrt(m) + epsilon)"""
    squares = np.float32(0)
    for element in range(len(gradient)):
        squares += gradient[element] * gradient[element]
    moments[row] += squares / np.float32(len(gradient))
    rate = learning_rate / (np.sqrt(moments[row]) + epsilon)
    weights_of_row = weights[weight : weight + len(gradient)]
    for element in range(len(gradient)):
        weights_of_row[element] -= rate * gradient[element]
