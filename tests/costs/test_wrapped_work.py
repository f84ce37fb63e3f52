"""Wrappers cost nothing themselves, so what they do must show, and be counted, inside them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from profiled_calls import calls_of, counted
from torch.nn import functional

X = torch.ones(4, 6)
INDEX = torch.tensor([0, 2, 1])

WORK = {
    "contiguous": (lambda: X.t().contiguous(), {"copy"}),
    "reshape": (lambda: X.t().reshape(24), {"copy"}),
    "reshape without a copy": (lambda: X.reshape(24), set()),
    "to": (lambda: X.to(torch.float64), {"copy"}),
    "to without a change": (lambda: X.to(torch.float32), set()),
    "zeros": (lambda: torch.zeros(4, 6), {"fill"}),
    "ones_like": (lambda: torch.ones_like(X), {"fill"}),
    "randn": (lambda: torch.randn(3), {"random_fill"}),
    "repeat": (lambda: X.repeat(2, 2), {"copy"}),
    "item": (lambda: X.sum().item(), {"reduction", "scalar_read"}),
    "hstack": (lambda: torch.hstack([X, X]), {"concatenation"}),
    "pad": (lambda: functional.pad(X, (1, 1)), {"fill", "copy"}),
    "softmax": (lambda: functional.softmax(X, 1), {"softmax"}),
    "layer_norm": (lambda: functional.layer_norm(X, (6,)), {"normalization"}),
    "conv1d": (lambda: functional.conv1d(X, torch.ones(2, 4, 3)), {"convolution"}),
    "cross_entropy": (
        lambda: functional.cross_entropy(X, torch.tensor([0, 1, 2, 3])),
        {"softmax", "negative_log_likelihood"},
    ),
    "einsum": (lambda: torch.einsum("ij,kj->ik", X, X), {"matrix_product"}),
    "outer": (lambda: torch.outer(X[0], X[1]), {"elementwise"}),
    "embedding_bag": (lambda: functional.embedding_bag(INDEX[None], X, mode="sum"), {"embedding_bag"}),
    "argsort": (lambda: X.argsort(), {"sort"}),
    "take_along_dim": (lambda: torch.take_along_dim(X[:3], INDEX[:, None], 1), {"index_read"}),
}


@pytest.mark.parametrize("wrapper", WORK)
def test_the_work_inside_is_counted(wrapper: str, tmp_path: Path) -> None:
    function, expected = WORK[wrapper]
    assert expected <= {known.model for _, known in counted(calls_of(function, tmp_path))}


def gradient_of(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        function(torch.ones(4, 6, requires_grad=True)).sum().backward()

    return run


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.gather(x, 1, INDEX[:, None]), {"index_read", "index_write", "fill"}),
        (lambda x: torch.index_select(x, 0, INDEX), {"index_read", "index_write"}),
        (lambda x: x[:, 1:3], {"copy", "fill"}),
        (lambda x: functional.embedding(INDEX, x), {"embedding", "embedding_dense_backward"}),
        (lambda x: functional.embedding_bag(INDEX[None], x, mode="sum"), {"embedding_bag", "embedding_dense_backward"}),
        (lambda x: functional.embedding_bag(INDEX[None], x, mode="sum", sparse=True), {"embedding_bag", "index_read"}),
        (lambda x: functional.layer_norm(x, (6,)), {"normalization", "normalization_backward"}),
    ],
)
def test_the_work_inside_a_derivative_is_counted(function: Callable, expected: set[str], tmp_path: Path) -> None:
    assert expected <= {known.model for _, known in counted(calls_of(gradient_of(function), tmp_path))}
