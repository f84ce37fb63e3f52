"""Exact, deterministic sparse optimizers: sort, reduce, apply once a row (Neo, section 4.1.2).

    lookups' rows --stable sort--> equal rows side by side --sum of their bags' gradients--> one update a unique row

"Exact" means once per row and batch on the row's whole gradient; an update an occurrence would add up squares where the
square of the sum is meant. "Deterministic" means the same bits for any number of threads and any split of the work: a
row's gradients are added in the order of its lookups, by one thread.

The rules are FBGEMM's (EXACT_ROWWISE_ADAGRAD, EXACT_ADAGRAD, ADAM, EXACT_SGD), all in fp32. Rows that a batch does not
touch keep their state: Adam is the lazy one, whose moments do not decay meanwhile, with steps counted for all rows
together.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

EPSILON = 1e-8
ADAM_BETAS = (0.9, 0.999)


def sum_by_row(rows: Tensor, bag_of_lookup: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Unique rows, sorted [u], and the sum of the gradients of each one's lookups [u, dim].

    Lookup i is of row `rows[i]`, for bag `bag_of_lookup[i]`, whose pooled vector has the gradient
    `gradients[bag_of_lookup[i]]` [dim]: the transpose of a sum-pooled lookup is one too, of gradients.
    """
    ordered, order = torch.sort(rows, stable=True)
    unique, counts = torch.unique_consecutive(ordered, return_counts=True)
    starts = counts.cumsum(0) - counts
    return unique, embedding_bag(bag_of_lookup[order], gradients.contiguous(), starts, mode="sum")


def update(
    optimizer: str, weight: Tensor, state: Tensor, gradient: Tensor, learning_rate: float, step: int,
    mean_squares: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New weights and state of rows after one step: weight and gradient fp32 [u, dim], state fp32 [u, ...] as
    TableConfig.state_shape says. `step` counts from 1. Where rows are only columns of a table's, row-wise AdaGrad wants
    the `mean_squares` [u] of the whole rows' gradients."""
    if optimizer == "rowwise_adagrad":
        return _rowwise_adagrad(weight, state, gradient, learning_rate, mean_squares)
    return _ELEMENTWISE[optimizer](weight, state, gradient, learning_rate, step)


def _rowwise_adagrad(
    weight: Tensor, state: Tensor, gradient: Tensor, rate: float, mean_squares: Tensor | None
) -> tuple[Tensor, Tensor]:
    """m += mean over the row of g^2;  w -= rate g / (sqrt(m) + epsilon)"""
    state = state + (gradient.square().mean(dim=1) if mean_squares is None else mean_squares)
    return weight - rate * gradient / (state.sqrt() + EPSILON)[:, None], state


def _adagrad(weight: Tensor, state: Tensor, gradient: Tensor, rate: float, _: int) -> tuple[Tensor, Tensor]:
    """m += g^2;  w -= rate g / (sqrt(m) + epsilon)"""
    state = state + gradient.square()
    return weight - rate * gradient / (state.sqrt() + EPSILON), state


def _adam(weight: Tensor, state: Tensor, gradient: Tensor, rate: float, step: int) -> tuple[Tensor, Tensor]:
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)"""
    (first, second), (b1, b2) = state.unbind(1), ADAM_BETAS
    first = b1 * first + (1 - b1) * gradient
    second = b2 * second + (1 - b2) * gradient.square()
    direction = first / (1 - b1**step) / ((second / (1 - b2**step)).sqrt() + EPSILON)
    return weight - rate * direction, torch.stack([first, second], dim=1)


def _sgd(weight: Tensor, state: Tensor, gradient: Tensor, rate: float, _: int) -> tuple[Tensor, Tensor]:
    """w -= rate g"""
    return weight - rate * gradient, state


_ELEMENTWISE = {"adagrad": _adagrad, "adam": _adam, "sgd": _sgd}
