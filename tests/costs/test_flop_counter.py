"""FLOPs of profiled modules equal torch.utils.flop_counter's, which counts the same products from live tensors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from profiled_calls import calls_of, flops_of, only
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

PRODUCTS = frozenset(("matrix_product", "convolution", "convolution_backward", "attention", "attention_backward"))


def mlp() -> Tensor:
    layers = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    return layers(torch.randn(8, 13))


def convolutions() -> Tensor:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, (3, 2), dilation=2, bias=False),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.Flatten(),
        nn.LazyLinear(2),
    )
    return layers(torch.randn(2, 3, 16, 18, requires_grad=True))


def convolution_1d() -> Tensor:
    return nn.Conv1d(4, 6, 5)(torch.randn(3, 4, 20))


def interaction() -> Tensor:
    features = torch.randn(8, 27, 16, requires_grad=True)
    return torch.bmm(features, features.transpose(1, 2))


def broadcast_matmul() -> Tensor:
    left, right = torch.randn(5, 1, 3, 4, requires_grad=True), torch.randn(2, 4, 6, requires_grad=True)
    return left @ right


def added_products() -> Tensor:
    a, b = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 5, 6, requires_grad=True)
    return torch.baddbmm(torch.randn(3, 4, 6), a, b) + torch.einsum("bij,bjk->bik", a, b)


def unfused_attention() -> Tensor:
    query, key, value = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (7, 9, 9))
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize(
    "module",
    [mlp, convolutions, convolution_1d, interaction, broadcast_matmul, added_products, unfused_attention],
)
def test_forward_and_backward_equal_the_flop_counter(module: Callable[[], Tensor], tmp_path: Path) -> None:
    def train() -> None:
        module().sum().backward()

    with FlopCounterMode(display=False) as counter:
        train()
    assert counter.get_total_flops() > 0
    assert flops_of(calls_of(train, tmp_path), PRODUCTS) == counter.get_total_flops()


def test_products_with_vectors(tmp_path: Path) -> None:
    matrix, vector = torch.randn(5, 7, requires_grad=True), torch.randn(7)

    def train() -> None:
        (matrix @ (vector * (vector @ vector))).sum().backward()

    # dot of 7, then 5 x 7 times a vector; the matrix's gradient is an outer product, which is elementwise.
    assert flops_of(calls_of(train, tmp_path), PRODUCTS) == 2 * 7 + 2 * 5 * 7


def test_fused_attention_equals_the_flop_counters_formulas(tmp_path: Path) -> None:
    query, key, value = (torch.randn(2, 4, n, 16, requires_grad=True) for n in (8, 10, 10))

    def train() -> None:
        scaled_dot_product_attention(query, key, value).sum().backward()

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        calls = calls_of(train, tmp_path)
    forward = only(calls, "aten::_scaled_dot_product_flash_attention_for_cpu")
    backward = only(calls, "aten::_scaled_dot_product_flash_attention_for_cpu_backward")
    shapes = tuple(query.shape), tuple(key.shape), tuple(value.shape)
    assert forward.flops == sdpa_flop_count(*shapes)
    assert backward.flops == sdpa_backward_flop_count(tuple(query.shape), *shapes)
    elements = query.numel() + key.numel() + value.numel()
    assert forward.read_bytes == 4 * elements
    assert forward.write_bytes == 4 * query.numel() + 4 * 2 * 4 * 8  # output, and a statistic for each query and head
